"""The configuration: what is refused, how files lie over one another, and that generated documents are in step."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import yaml

from cvdm_core.config import Config, load, merge, overrides, parse, settings_of
from cvdm_core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, **values: object) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_later_files_lie_over_earlier_ones_and_overrides_over_all(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", results="a", sampling={"steps": 3, "samples": 4})
    second = write(tmp_path / "b.yaml", sampling={"steps": 7})
    config = load([first, second], ["sampling.samples=5", "sampling.quantiles=[0.1, 0.9]"])
    assert (config.results, config.sampling.steps, config.sampling.samples) == ("a", 7, 5)
    assert config.sampling.quantiles == (0.1, 0.9)


def test_what_snakemake_was_told_on_its_command_line_reaches_the_configuration_as_it_was_meant() -> None:
    told = {"sampling": {"steps": 3, "quantiles": [0.1, 0.9]}, "results": "a=b", "routing": [{"instrument": "it's a=*", "model": "one"}]}
    assert overrides(told)[:2] == ["sampling.steps=3", "sampling.quantiles=[0.1, 0.9]"]
    config = load([], overrides(told))
    assert (config.sampling.steps, config.sampling.quantiles, config.results) == (3, (0.1, 0.9), "a=b")
    assert (config.routing[0].instrument, config.routing[0].model) == ("it's a=*", "one")


def test_merging_changes_neither_mapping() -> None:
    base, over = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}
    assert merge(base, over) == {"a": {"b": 3, "c": 2}}
    assert base == {"a": {"b": 1, "c": 2}}
    assert over == {"a": {"b": 3}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sampling": {"stepz": 1}}, ["mine.yaml", "sampling.stepz", "README"]),
        ({"model": {"scale": 0}}, ["model.scale", "0"]),
        ({"model": {"name": "../evil"}}, ["model.name", "../evil"]),
        ({"store": {"chunk": 96, "shard": 192}}, ["powers of two"]),
        ({"store": {"chunk": 256, "shard": 128}}, ["multiple of store.chunk"]),
        ({"sampling": {"samples": 2, "keep_samples": 3}}, ["keep_samples (3)"]),
        ({"sampling": {"quantiles": [0.9, 0.1]}}, ["quantiles"]),
        ({"restore": ["everything"]}, ["restore", "everything"]),
        ({"results": "~/results"}, ["results = '~/results'", "write the whole path"]),
        ({"models": "$HOME/models"}, ["models = '$HOME/models'", "write the whole path"]),
    ],
)
def test_a_refused_value_is_named_with_its_file_and_key(values: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(values, "mine.yaml")
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- a\n- b\n", b"results: 2026-13-01\n", b"a: " + b"[" * 5000])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load([path])


@pytest.mark.parametrize("again", ["sampling:\n  steps: 20\n", "sampling: {steps: 20}\n"])
def test_a_section_that_stands_twice_is_refused_and_not_half_forgotten(tmp_path: Path, again: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"sampling:\n  seed: 7\nresults: there\n{again}")
    with pytest.raises(UserError, match=r"mine\.yaml: .*the key 'sampling' stands twice in one section, in line 1 and in line 4"):
        load([path])
    path.write_text("training: {steps: 3}\nsampling: {steps: 3}\n")
    assert load([path]).sampling.steps == 3


def test_a_folder_whose_name_means_something_in_yaml_reaches_the_configuration_from_the_command_line() -> None:
    for name in ("a: b", "#1", "07", "null", "[x", "2026-13-01", "it's"):
        assert load([], overrides({"results": name})).results == name


def test_a_missing_file_and_a_bad_override_are_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UserError, match="no such configuration file"):
            load([missing])
    with pytest.raises(UserError, match=r"--set restore=\[test: the value is not readable YAML"):
        load([], ["restore=[test"])
    with pytest.raises(UserError, match=r"section\.key=value"):
        load([], ["sampling.steps"])


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    assert load([tmp_path / "empty.yaml"]) == Config()


def test_equal_settings_are_written_equally_whatever_their_order() -> None:
    one = parse({"sampling": {"steps": 3, "samples": 4}}, "a")
    two = parse({"sampling": {"samples": 4, "steps": 3}}, "b")
    assert settings_of(one.sampling) == settings_of(two.sampling)


def test_generated_documents_are_in_step_with_the_models() -> None:
    documents = runpy.run_path(str(ROOT / "workflow/schemas/generate.py"))["documents"]()
    stale = [str(path.relative_to(ROOT)) for path, text in documents.items() if path.read_text() != text]
    assert not stale, "run `make schemas`"


def test_every_key_has_a_description() -> None:
    bare = [name for name, schema in _sections(Config.model_json_schema()) if not schema.get("description")]
    assert not bare


def _sections(schema: dict) -> list[tuple[str, dict]]:
    models = [schema, *schema["$defs"].values()]
    return [(name, value) for model in models for name, value in model["properties"].items() if "$ref" not in value]
