"""The routing table: which model restores which acquisition, and the sentence where none does."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvdm_core.config import Config, parse
from cvdm_core.errors import UserError
from cvdm_core.model import ModelSpec
from cvdm_core.routing import Router, find_routes, routed
from cvdm_core.sheet import Acquisition

MEASURED: dict[str, Any] = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": 8, "size_x": 8, "dtype": "uint16", "pixel_size_um": 0.1}


def acquired(name: str = "cells", **facts: Any) -> Acquisition:
    values = {"acquisition": name, "specimen": name, "split": "predict", "input": f"{name}.tif", "channels": ("GFP",), **MEASURED, **facts}
    return Acquisition.model_validate(values)


def config_of(*rules: dict[str, Any], **changes: Any) -> Config:
    return parse({"model": {"name": "own", "scale": 3}, "routing": list(rules), **changes}, "a test")


def chosen(config: Config, **facts: Any) -> str:
    return Router(config).route(acquired(**facts)).model


def trained(folder: Path, scale: int = 2, **spec: Any) -> None:
    """Write what of a model's folder is read for planning."""
    folder.mkdir(parents=True)
    content = {"name": "elsewhere", "scale": scale, "spec": ModelSpec.from_dict({"residual_std": 0.5, **spec}).to_dict()}
    (folder / "model.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("models")


def test_without_a_table_the_configured_model_restores_everything() -> None:
    config = config_of()
    assert routed(config, acquired(instrument="anything", channels=("a", "b"))) is config
    assert find_routes(config, [acquired()]).configs == {"cells": config}


@pytest.mark.parametrize(
    ("rule", "fits", "does_not"),
    [
        ({"instrument": "SIM-2*"}, {"instrument": "sim-2 left"}, {"instrument": "my SIM-2"}),
        ({"instrument": "*ELYRA*"}, {"instrument": "Zeiss Elyra 7"}, {"instrument": ""}),
        ({"instrument": ""}, {"instrument": ""}, {"instrument": "SIM"}),
        ({"objective": "*63x/1.4?*"}, {"objective": "Plan-Apochromat 63x/1.40 Oil"}, {"objective": "Plan-Apochromat 63x/1.4"}),
        ({"channel": "[gf]*"}, {"channels": ("FITC",)}, {"channels": ("DAPI",)}),
        ({"channel": 488}, {"channels": ("488",)}, {"channels": ("4880",)}),
        ({"na": 1.4}, {"na": 1.3999999}, {"na": 1.41}),
        ({"na": 1.45}, {"na": 1.45}, {"na": 1.46}),
        ({"na": 1.4}, {"na": 1.4}, {"na": None}),
        ({"magnification": 63}, {"magnification": 63.1}, {"magnification": 60}),
        ({"instrument": "SIM*", "na": 1.4}, {"instrument": "SIM", "na": 1.4}, {"instrument": "SIM", "na": 1.2}),
        ({"instrument": "a[b"}, {"instrument": "A[B"}, {"instrument": "ab"}),  # an unclosed bracket stands for itself
        ({"instrument": "a.c(d"}, {"instrument": "a.c(d"}, {"instrument": "abc(d"}),  # no regular expression
        ({"instrument": "line*two"}, {"instrument": "line\ntwo"}, {"instrument": "line\ntwo\n!"}),
        ({}, {"instrument": "whatever"}, None),
    ],
    ids=str,
)
def test_a_rule_fits_what_it_describes(rule: dict[str, Any], fits: dict[str, Any], does_not: dict[str, Any] | None) -> None:
    config = config_of({**rule, "model": "routed"})
    assert chosen(config, **fits) == "routed"
    if does_not is not None:
        with pytest.raises(UserError, match="no rule of `routing` fits"):
            chosen(config, **does_not)


def test_the_first_rule_that_fits_decides() -> None:
    special, general = {"instrument": "SIM*", "channel": "GFP", "model": "special"}, {"instrument": "SIM*", "model": "general"}
    assert chosen(config_of(special, general), instrument="SIM") == "special"
    assert chosen(config_of(special, general), instrument="SIM", channels=("DAPI",)) == "general"
    assert chosen(config_of(general, special), instrument="SIM") == "general"


def test_the_rules_that_chose_are_told_in_words() -> None:
    config = config_of({"channel": "DAPI", "na": 1.4, "model": "m"}, {"model": "m"})
    route = Router(config).route(acquired(channels=("GFP", "DAPI"), na=1.4))
    assert route.chosen_by == ("rule 2 (fits everything)", "rule 1 (na 1.4, channel DAPI)")


def test_channels_that_call_for_different_models_are_not_restored_by_guess() -> None:
    config = config_of({"channel": "GFP", "model": "green"}, {"channel": "DAPI", "model": "blue"})
    with pytest.raises(UserError) as caught:
        Router(config).route(acquired("mixed", channels=("GFP", "DAPI")))
    said = str(caught.value)
    assert said.startswith("mixed: its channels call for different models ('GFP' for green by rule 1, 'DAPI' for blue by rule 2)")
    with pytest.raises(UserError, match="no rule of `routing` fits its channel 'Cy5'"):
        Router(config).route(acquired(channels=("GFP", "Cy5")))


def test_what_no_rule_fits_is_told_with_what_is_known_of_it() -> None:
    config = config_of({"instrument": "SIM*", "model": "m"})
    with pytest.raises(UserError, match=r"instrument unknown, objective 63x, na 1\.2, magnification unknown"):
        Router(config).route(acquired(objective="63x", na=1.2))


def test_a_hostile_pattern_costs_no_time() -> None:
    config = config_of({"instrument": "*a" * 60 + "*b", "model": "m"})
    begin = time.perf_counter()
    with pytest.raises(UserError):
        chosen(config, instrument="a" * 5000)
    assert time.perf_counter() - begin < 5


def test_the_model_is_what_its_folder_says_under_the_name_of_the_folder(models: Path) -> None:
    trained(models / "sim_gfp", scale=1, objective="regression", denoiser={"base_channels": 8, "multipliers": [1, 2]})
    config = config_of({"model": "sim_gfp"})
    found = routed(config, acquired()).model
    assert (found.name, found.scale, found.objective, found.denoiser.multipliers) == ("sim_gfp", 1, "regression", (1, 2))
    assert routed(config, acquired()).sampling == config.sampling
    again = routed(config, acquired())
    assert routed(again, acquired()) == again  # a stage may be given what another one was given


def test_the_model_that_is_trained_here_is_what_the_configuration_says(models: Path) -> None:
    trained(models / "own", scale=1)  # of an earlier training
    config = config_of({"model": "own"})
    assert routed(config, acquired()).model.scale == 3


DAMAGES = {
    "no folder": (None, "there is no trained model in models/sim_gfp; copy a model's folder there"),
    "no YAML": ("a: [", "models/sim_gfp/model.yaml cannot be used"),
    "a date that is none": ("{spec: {}, scale: 2, trained: 2026-02-30}", "models/sim_gfp/model.yaml cannot be used"),
    "a key twice": ("{spec: {}, scale: 2, scale: 4}", "the key 'scale' stands twice in one section"),
    "no text": ("\xff\xfe\x00\x00[", "models/sim_gfp/model.yaml cannot be used"),
    "a list": ("[1]", "models/sim_gfp/model.yaml cannot be used"),
    "no scale": ("spec: {}", "models/sim_gfp/model.yaml cannot be used (KeyError: 'scale')"),
    "scale of 0": ("{spec: {}, scale: 0}", "models/sim_gfp/model.yaml cannot be used"),
    "a newer key": ("{spec: {attention: 3}, scale: 2}", "models/sim_gfp/model.yaml cannot be used"),
    "code": ("!!python/object/apply:os.system ['touch pwned']", "models/sim_gfp/model.yaml cannot be used"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_cannot_be_used_costs_only_the_acquisitions_that_need_it(models: Path, damage: str) -> None:
    text, sentence = DAMAGES[damage]
    if text is not None:
        (models / "sim_gfp").mkdir(parents=True)
        (models / "sim_gfp/model.yaml").write_text(text, encoding="latin-1")
    trained(models / "sim_dapi")
    config = config_of({"channel": "DAPI", "model": "sim_dapi"}, {"model": "sim_gfp"})
    rows = [acquired(f"green-{number}") for number in range(7)] + [acquired("blue", channels=("DAPI",))]
    routes = find_routes(config, rows)
    assert list(routes.configs) == ["blue"] and len(routes.problems) == 7
    (told,) = routes.sentences()
    assert told.startswith("green-0, green-1, green-2, green-3, green-4 and 2 more: rule 2 of `routing` calls for the model sim_gfp, but ")
    assert sentence in told
    assert not Path("pwned").exists()


def test_the_own_model_needs_pairs_or_a_folder_where_there_is_a_table(models: Path) -> None:
    config = config_of({"model": "own"})
    pair = acquired("pair", split="train", target="t.tif")
    assert find_routes(config, [acquired(), pair]).problems == {}
    assert "there is no trained model in models/own" in find_routes(config, [acquired()]).problems["cells"]
    trained(models / "own")
    (models / "own/train.json").write_text("{}")
    assert find_routes(config, [acquired()]).problems == {}


def test_only_measured_acquisitions_of_restored_splits_are_looked_at() -> None:
    config = config_of({"instrument": "SIM", "model": "m"})
    routes = find_routes(config, [acquired("pair", split="train", target="t.tif"), acquired("later", size_x=0)])
    assert not routes.problems and not routes.configs


def test_a_target_has_the_scale_of_the_model_that_restores_it(models: Path) -> None:
    trained(models / "sim", scale=1)
    router = Router(config_of({"instrument": "SIM", "model": "sim"}))
    test = {"split": "test", "target": "t.tif"}
    assert router.pair_scale(acquired(instrument="SIM", **test)) == 1
    assert router.pair_scale(acquired(instrument="SIM", split="train", target="t.tif")) == 3  # it trains the own model
    assert router.pair_scale(acquired(**test)) is None


def test_two_thousand_acquisitions_are_routed_quickly_and_each_model_is_read_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(models / "sim")
    read: list[str] = []
    monkeypatch.setattr(Path, "read_bytes", lambda path, inner=Path.read_bytes: read.append(path.name) or inner(path))
    rules = [{"instrument": f"*{number}*", "objective": "*63x*", "channel": "*x", "model": "sim"} for number in range(30)]
    config = config_of(*rules, {"model": "sim"})
    rows = [acquired(f"a{number}", instrument=f"scope {number % 4}", objective="63x", na=1.4) for number in range(2000)]
    begin = time.process_time()
    assert len(find_routes(config, rows).configs) == 2000
    assert time.process_time() - begin < 1
    assert read == ["model.yaml"]


def test_the_table_of_the_documentation_chooses_what_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs/routing.md").read_text(encoding="utf-8")
    config = parse(yaml.safe_load(text.split("```yaml")[1].partition("```")[0]), "docs/routing.md")
    sim = {"instrument": "sim-2 (room 4)", "objective": "Plan Apo 63x/1.4", "na": 1.4}
    assert chosen(config, **sim, channels=("GFP",)) == "sim_gfp"
    assert chosen(config, **sim, channels=("DAPI",)) == "sim_dapi"
    assert chosen(config, instrument="Zeiss LSM 880 NLO") == "lsm"
    with pytest.raises(UserError, match=re.escape("('GFP' for sim_gfp by rule 1, 'DAPI' for sim_dapi by rule 2)")):
        chosen(config, **sim, channels=("GFP", "DAPI"))


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, cvdm_core.routing; print(sorted({'torch', 'numpy', 'zarr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
