"""Claims about the model folder: it comes back as it was, and what is damaged is named in one sentence."""

import hashlib

import pytest
import safetensors.torch
import torch
import yaml

from cvdm_core.errors import UserError
from cvdm_core.model import DenoiserSpec, ModelSpec, ScheduleSpec, build_model
from cvdm_core.model.folder import load_model, save_model

SPEC = ModelSpec(denoiser=DenoiserSpec(base_channels=4, multipliers=(1, 2)), schedule=ScheduleSpec(base_channels=4), residual_std=0.37)
MAPS = {"input": {"offset": 100.5, "scale": 31.25}, "target": {"offset": 3.0, "scale": 77.0}}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    save_model(folder, build_model(SPEC, seed=3), SPEC, {"actin": MAPS}, {"training": {"steps": 5}}, {"name": "tiny", "scale": 2})
    return folder


def test_a_copy_has_the_name_of_its_folder(folder):
    assert load_model(folder.rename(folder.with_name("sim_gfp"))).name == "sim_gfp"


def damage(folder, **entries):
    path = folder / "model.yaml"
    content = yaml.safe_load(path.read_text())
    for key, value in entries.items():
        content.pop(key) if value is None else content.update({key: value})
    path.write_text(yaml.safe_dump(content))


def test_a_model_comes_back_bit_for_bit(folder):
    loaded = load_model(folder)
    assert (loaded.name, loaded.spec, loaded.normalisation, loaded.info["scale"]) == ("tiny", SPEC, {"actin": MAPS}, 2)
    for name, value in build_model(SPEC, seed=3).state_dict().items():
        assert torch.equal(loaded.restorer.state_dict()[name], value), name
    assert loaded.restorer.residual_std == 0.37 and not loaded.restorer.training
    assert not any(value.requires_grad for value in loaded.restorer.parameters())


def test_an_unknown_channel_is_refused_naming_the_known_ones(folder):
    assert load_model(folder).channel("actin") == MAPS
    with pytest.raises(UserError, match="knows no channel 'DNA', only actin"):
        load_model(folder).channel("DNA")


def test_a_star_serves_every_channel(folder):
    damage(folder, normalisation={"*": MAPS})
    assert load_model(folder).channel("DNA") == MAPS


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no model folder.*cvdm train"):
        load_model(tmp_path / "nothing")


def test_missing_weights_are_refused(folder):
    (folder / "weights.safetensors").unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: the weights cannot be read"):
        load_model(folder)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-4] + b"\0\0\0\1", lambda data: b""])
def test_damaged_weights_are_refused(folder, change):
    path = folder / "weights.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=r"not the weights that model\.yaml names"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_saved_nor_loaded(folder, value):
    restorer = build_model(SPEC, seed=3)
    restorer.denoiser.last.bias.data[0] = value
    before = (folder / "weights.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"tiny: weights of this model are NaN or infinite.*cvdm train"):
        save_model(folder, restorer, SPEC, {"actin": MAPS}, {}, {"name": "tiny"})
    assert (folder / "weights.safetensors").read_bytes() == before
    data = safetensors.torch.save({name: weights.contiguous() for name, weights in restorer.state_dict().items()})
    (folder / "weights.safetensors").write_bytes(data)
    damage(folder, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(UserError, match=r"tiny: weights of this model are NaN or infinite.*cvdm train"):
        load_model(folder)


@pytest.mark.parametrize(
    "text", ["{", "- a list", "", "\0", "trained: 2026-02-30", "a: " + "[" * 5000, "name: !!python/object/apply:os.system ['true']"]
)
def test_a_damaged_description_is_refused(folder, text):
    (folder / "model.yaml").write_text(text)
    with pytest.raises(UserError, match=r"model\.yaml.*cvdm train"):
        load_model(folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"spec": None}, "'spec' is missing"),
        ({"format": 99}, "format 99"),
        ({"normalisation": {"actin": {"input": MAPS["input"]}}}, "channel 'actin' is damaged"),
        ({"normalisation": {"actin": {**MAPS, "input": {"offset": 0, "scale": 0}}}}, "channel 'actin' is damaged"),
        ({"normalisation": {"actin": {**MAPS, "input": {"offset": "x", "scale": 1}}}}, "channel 'actin' is damaged"),
        ({"normalisation": 5}, "'normalisation' is damaged"),
        ({"spec": {**SPEC.to_dict(), "surprise": 1}}, "'surprise'"),
        ({"spec": 5}, "spec and weights do not fit"),
        ({"spec": {**SPEC.to_dict(), "denoiser": {"base_channels": 8, "multipliers": [1, 2]}}}, "spec and weights do not fit"),
    ],
)
def test_wrong_entries_are_refused(folder, entries, message):
    damage(folder, **entries)
    with pytest.raises(UserError, match=message):
        load_model(folder)
