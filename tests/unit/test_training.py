"""Claims about training: deterministic, resumable at any step, honest curves, a whole model folder or none."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from training_tree import make_tree, tiny_config

from cvdm_core.cluster.clock import Deadline, seconds
from cvdm_core.config import TrainingSettings
from cvdm_core.errors import DamagedInputError, TimeUpError, UserError
from cvdm_core.model.folder import load_model
from cvdm_core.paths import model_folder, raw_store, train_receipt
from cvdm_core.records.receipts import read_json, sha256_file
from cvdm_core.training import crops, publish
from cvdm_core.training import fit as fit_module
from cvdm_core.training import pairs as pairs_module
from cvdm_core.training import problem as problem_module
from cvdm_core.training import watch as watch_module
from cvdm_core.training.fit import fit, train
from cvdm_core.training.module import TrainingModule, learning_rate, step_seed
from cvdm_core.training.pictures import bar_length
from cvdm_core.training.problem import prepare
from cvdm_core.training.state import load_state, save_state
from cvdm_core.training.statistics import measure_normalisation
from cvdm_core.training.watch import STATE_FILE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("training")
    make_tree(folder)
    return folder


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(watch_module, "draw_validation", lambda *_: None)


def problem_of(folder, models, **training):
    config = tiny_config(folder, training=training)
    return prepare(config.model_copy(update={"models": str(models)}))


def same(state, other):
    """Whether two states hold the same bits, time spent aside."""
    for name in ("weights", "average", "best", "moments"):
        ours, theirs = getattr(state, name), getattr(other, name)
        assert ours and ours.keys() == theirs.keys()
        for key, value in ours.items():
            if not torch.equal(value, theirs[key]):
                return False
    return (state.step, state.best_step, state.best_loss, state.rows) == (other.step, other.best_step, other.best_loss, other.rows)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch_module, "draw_validation", lambda *_: None)
        return fit(problem_of(folder, tmp_path_factory.mktemp("undisturbed")))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(folder, tmp_path, undisturbed, no_pictures):
    assert same(fit(problem_of(folder, tmp_path / "again")), undisturbed)
    assert not same(fit(problem_of(folder, tmp_path / "other", seed=1)), undisturbed)


@pytest.mark.parametrize(("killed_at", "save_every"), [(3, 5), (13, 4), (23, 7)])
def test_a_killed_training_ends_with_the_same_bits(folder, tmp_path, undisturbed, no_pictures, monkeypatch, killed_at, save_every):
    on_batch_end = watch_module.Watch.on_train_batch_end

    def dies(self, trainer, module, *rest):
        if module.step + 1 == killed_at:
            raise KeyError("killed")
        on_batch_end(self, trainer, module, *rest)

    monkeypatch.setattr(watch_module.Watch, "on_train_batch_end", dies)
    with pytest.raises(KeyError, match="killed"):
        fit(problem_of(folder, tmp_path, save_every=save_every))
    monkeypatch.setattr(watch_module.Watch, "on_train_batch_end", on_batch_end)
    problem = problem_of(folder, tmp_path, save_every=save_every)
    saved = load_state(problem.state_folder / STATE_FILE)
    assert (saved.step if saved else 0) == (killed_at - 1) // save_every * save_every
    assert same(fit(problem), undisturbed)


def test_a_training_that_other_code_has_begun_begins_anew_and_a_finished_one_stays(folder, tmp_path, undisturbed, no_pictures, monkeypatch):
    state = tmp_path / "models/.state" / problem_of(folder, tmp_path / "models").state_folder.name / STATE_FILE
    spoilt = {name: value + 1 for name, value in undisturbed.weights.items()}
    save_state(state, replace(undisturbed, step=9, rows=[], weights=spoilt, code="other", versions={"cvdm": "0.0"}))
    assert same(fit(problem_of(folder, tmp_path / "models")), undisturbed)
    save_state(state, replace(undisturbed, code="other", versions={"cvdm": "0.0"}))
    monkeypatch.setattr(fit_module, "_trainer", lambda *_: pytest.fail("it trains again"))
    finished = fit(problem_of(folder, tmp_path / "models"))
    assert finished.versions == {"cvdm": "0.0"}


def test_steps_are_taken_in_a_context_in_which_a_gpu_repeats_itself(folder, tmp_path, no_pictures, monkeypatch):
    def flags():
        return torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32

    seen, take = set(), TrainingModule.training_step
    monkeypatch.setattr(TrainingModule, "training_step", lambda *arguments: seen.add(flags()) or take(*arguments))
    before = flags()
    fit(problem_of(folder, tmp_path, steps=2))
    assert seen == {(True, False)}
    assert flags() == before


def test_loading_processes_change_nothing(folder, tmp_path, undisturbed, no_pictures):
    assert same(fit(problem_of(folder, tmp_path, workers=1)), undisturbed)


@pytest.mark.timeout(120)  # it waited for ever
def test_loading_processes_read_pairs_that_are_not_held_in_memory(folder, tmp_path, monkeypatch, no_pictures):
    monkeypatch.setattr(pairs_module, "MEMORY_BUDGET", 0)
    assert fit(problem_of(folder, tmp_path, workers=1, steps=3)).step == 3


@pytest.mark.parametrize(("number", "end"), [(signal.SIGTERM, SystemExit), (signal.SIGUSR1, TimeUpError)])
def test_a_signal_saves_the_state_and_ends_the_training(folder, tmp_path, undisturbed, no_pictures, monkeypatch, number, end):
    on_batch_end = watch_module.Watch.on_train_batch_end

    def told_to_stop(self, trainer, module, *rest):
        if module.step == 6:
            signal.raise_signal(number)
        on_batch_end(self, trainer, module, *rest)

    monkeypatch.setattr(watch_module.Watch, "on_train_batch_end", told_to_stop)
    with pytest.raises(end) as ended:
        fit(problem_of(folder, tmp_path, save_every=1000))
    assert end is TimeUpError or ended.value.code == 143
    monkeypatch.setattr(watch_module.Watch, "on_train_batch_end", on_batch_end)
    problem = problem_of(folder, tmp_path, save_every=1000)
    assert load_state(problem.state_folder / STATE_FILE).step == 7
    assert same(fit(problem), undisturbed)


def test_the_state_is_saved_when_time_has_passed_too(folder, tmp_path, no_pictures, monkeypatch):
    saved = []
    monkeypatch.setattr(watch_module, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(watch_module, "save_state", lambda path, state: saved.append(state.step))
    fit(problem_of(folder, tmp_path, steps=4, save_every=1000))
    assert saved == [1, 2, 3, 4]


def test_a_damaged_state_is_refused_in_one_sentence(folder, tmp_path):
    problem = problem_of(folder, tmp_path)
    problem.state_folder.mkdir(parents=True)
    (problem.state_folder / STATE_FILE).write_bytes(b"no state")
    with pytest.raises(UserError, match=r"state\.safetensors: this state .* damaged; delete it"):
        fit(problem)


@pytest.mark.parametrize(("objective", "pixel"), [("diffusion", np.nan), ("regression", 1e25)])
def test_a_training_whose_loss_is_no_number_stops_and_keeps_the_state_before(folder, tmp_path, no_pictures, monkeypatch, objective, pixel):
    """In a regression the gradient of an absurd pixel is clipped to nothing, so that the weights do not show it."""
    batch = crops.TrainingBatches.__getitem__

    def spoilt(self, step):
        condition, target = batch(self, step)
        target[0, 0, 3, 4] = pixel if step == 12 else target[0, 0, 3, 4]
        return condition, target

    config = tiny_config(folder, model={"objective": objective})
    config = config.model_copy(update={"models": str(tmp_path), "results": str(tmp_path / "results")})
    (tmp_path / "results").symlink_to(Path(folder, "results"))
    monkeypatch.setattr(crops.TrainingBatches, "__getitem__", spoilt)
    with pytest.raises(UserError, match=r"training tiny: the loss or the weights became NaN or infinite by step 15; .* is kept"):
        train(config)
    assert json.loads((tmp_path / "results/.failures/train.tiny.json").read_text())["class"] == "configuration"
    monkeypatch.setattr(crops.TrainingBatches, "__getitem__", batch)
    problem = prepare(config)
    assert load_state(problem.state_folder / STATE_FILE).step == 10
    assert fit(problem).step == 24


def test_a_state_with_weights_that_are_no_numbers_is_refused(folder, tmp_path, undisturbed):
    path = tmp_path / "state.safetensors"
    state = replace(undisturbed, average={"denoiser.last.bias": torch.tensor([torch.nan])})
    save_state(path, state)
    with pytest.raises(UserError, match=r"state\.safetensors: this state .* damaged; delete it"):
        load_state(path)


def test_other_settings_or_data_have_another_state_and_unimportant_ones_the_same(folder, tmp_path):
    first = problem_of(folder, tmp_path).state_folder
    assert problem_of(folder, tmp_path, workers=2, save_every=3).state_folder == first
    assert problem_of(folder, tmp_path, learning_rate=1e-4).state_folder != first
    assert problem_of(folder, tmp_path, seed=4).state_folder != first


def test_the_loss_falls_and_the_mean_of_samples_beats_the_input(folder, tmp_path, no_pictures):
    rows = fit(problem_of(folder, tmp_path, steps=160, validate_every=160, learning_rate=5e-3, ema_decay=0.95)).rows
    losses = [value for _, name, value in rows if name == "train/loss"]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    final = {name: value for step, name, value in rows if step == 160}
    assert final["val/psnr_mean"] > final["val/psnr_input"] + 0.5


@pytest.mark.parametrize("first", [3.0, np.nan, np.inf])
def test_validation_weights_are_those_with_the_lowest_loss(folder, tmp_path, no_pictures, monkeypatch, first):
    losses = iter([{"loss": first}, {"loss": 1.0}, {"loss": 2.0}])
    monkeypatch.setattr("cvdm_core.training.validation.Validation.losses", lambda *_: next(losses))
    state = fit(problem_of(folder, tmp_path))
    assert (state.best_step, state.best_loss, state.weights_step) == (16, 1.0, 16)
    assert not torch.equal(state.best["denoiser.enter.weight"], state.average["denoiser.enter.weight"])


def test_training_leaves_a_whole_model_folder_and_a_receipt(folder, tmp_path, synced):
    config = tiny_config(folder, training={"steps": 12, "validate_every": 12}).model_copy(update={"models": str(tmp_path)})
    train(config)
    where = model_folder(config)
    names = {path.name for path in where.iterdir()}
    assert names == {
        *("weights.safetensors", "last.safetensors", "model.yaml", "curves.csv", "schedule.csv", "card.md"),
        *("validation", "tensorboard", "train.json"),
    }
    assert [path.name for path in (where / "validation").iterdir()] == ["step_0000012.png"]
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name or "old" in path.name]
    written = [tmp_path, *(path for path in where.iterdir() if path.is_file())]
    assert [path.name for path in written if path.stat().st_ino not in synced] == [], "empty, or not there, after a power cut"
    receipt = read_json(train_receipt(config))
    assert all(sha256_file(path) == digest for path, digest in receipt["wrote"].items())
    assert set(receipt["wrote"]) == {str(path) for path in where.rglob("*") if path.is_file()} - {str(train_receipt(config))}
    assert {Path(path).parent.name for path in receipt["read"]} == {"a0", "a1", "a2"}
    described = yaml.safe_load((where / "model.yaml").read_text())
    assert [(entry["acquisition"], entry["split"]) for entry in described["data"]] == [("a0", "train"), ("a1", "train"), ("a2", "val")]
    assert described["settings"]["training"]["steps"] == 12 and described["pixel_size_um"] == 0.05
    assert "a0" in (where / "card.md").read_text() and "dye0" in (where / "card.md").read_text()
    with open(where / "curves.csv") as stream:
        curves = list(csv.DictReader(stream))
    assert {row["name"] for row in curves} >= {"train/loss", "train/noise", "val/loss", "val/psnr_sample", "learning_rate"}
    with open(where / "schedule.csv") as stream:
        schedule = [[float(value) for value in row.values()] for row in csv.DictReader(stream)]
    t, mean, low, high = np.array(schedule).T
    assert (
        (t[0], mean[0], t[-1]) == (0, 1, 1) and mean[-1] < 2.5e-3 and (np.diff(mean) < 0).all() and ((low <= mean) & (mean <= high)).all()
    )

    def brighter(maps):
        return {name: {side: replace(value, scale=2 * value.scale) for side, value in sides.items()} for name, sides in maps.items()}

    # Run once more, be it by other code, which measures otherwise, the folder is made again of the finished state, without a step.
    before = {name: (where / name).read_bytes() for name in ("weights.safetensors", "model.yaml", "curves.csv", "card.md")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "_trainer", None)
        patch.setattr(fit_module, "work_code", lambda *rooms: "other")
        patch.setattr(publish, "versions", lambda: {"cvdm": "99.0"})
        patch.setattr(problem_module, "measure_normalisation", lambda *arguments: brighter(measure_normalisation(*arguments)))
        patch.setattr(problem_module, "measure_residual_std", lambda *_: 0.123)
        train(config)
    assert {name: (where / name).read_bytes() for name in before} == before

    loaded = load_model(where)
    condition = torch.zeros(1, 1, 24, 24)
    assert loaded.restorer.regress(condition).shape == condition.shape and not loaded.restorer.training
    problem = prepare(config)
    assert loaded.spec == problem.spec and loaded.normalisation["dye0"]["input"]["offset"] == problem.normalisation["dye0"]["input"].offset


def test_a_failed_training_leaves_a_note_and_no_folder(folder, tmp_path):
    config = tiny_config(folder, training={"crop": 128}).model_copy(update={"models": str(tmp_path), "results": str(tmp_path / "results")})
    (tmp_path / "results").symlink_to(Path(folder, "results"))
    with pytest.raises(UserError, match=r"lower training\.crop"):
        train(config)
    assert not model_folder(config).exists()
    note = json.loads((tmp_path / "results/.failures/train.tiny.json").read_text())
    assert "training.crop" in note["message"]


def test_regression_trains_with_the_same_everything(folder, tmp_path, no_pictures):
    config = tiny_config(
        folder, model={"objective": "regression"}, training={"steps": 120, "validate_every": 120, "learning_rate": 5e-3, "ema_decay": 0.95}
    )
    problem = prepare(config.model_copy(update={"models": str(tmp_path)}))
    rows = fit(problem).rows
    final = {name: value for step, name, value in rows if step == 120}
    assert final["val/psnr_sample"] == final["val/psnr_mean"] > final["val/psnr_input"] + 0.5
    assert {name for _, name, _ in rows if name.startswith("train")} == {"train/loss"}


def test_the_learning_rate_rises_stays_and_falls_to_nearly_zero():
    settings = TrainingSettings(steps=1000, warmup_steps=50, learning_rate=2.0)
    rates = [learning_rate(settings, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.04) and rates[49] == 2.0 == rates[500] and rates[750] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.004) and min(rates) > 0


def test_every_seed_step_and_process_has_its_own_noise():
    numbers = {
        torch.randn((), generator=torch.Generator().manual_seed(step_seed(seed, step, rank))).item()
        for seed in range(3)
        for step in range(5)
        for rank in range(3)
    }
    assert len(numbers) == 45


@pytest.mark.parametrize(("field", "length"), [(3.0, 1.0), (6.4, 2.0), (40.0, 10.0), (0.5, 0.1), (15.0, 5.0)])
def test_the_scale_bar_is_a_round_length_within_a_third_of_the_field(field, length):
    assert bar_length(field) == pytest.approx(length)


def test_before_its_time_limit_a_training_saves_its_state_and_says_how_far_it_came(folder, tmp_path, no_pictures, monkeypatch):
    config = tiny_config(folder).model_copy(update={"models": str(tmp_path), "results": str(tmp_path / "results")})
    (tmp_path / "results").symlink_to(Path(folder, "results"))
    monkeypatch.setattr(Deadline, "of_this_job", classmethod(lambda cls: cls(0.0)))
    with pytest.raises(TimeUpError, match="step 1 of"):
        train(config)
    (state,) = tmp_path.glob(".state/*/state.safetensors")
    assert load_state(state).step == 1
    assert json.loads((tmp_path / "results/.failures/train.tiny.json").read_text())["class"] == "time"
    monkeypatch.undo()
    train(config)
    assert not (tmp_path / "results/.failures/train.tiny.json").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-02:03:04", 93784.0), ("02:03:04", 7384.0), ("3:04", 184.0), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)
def test_the_times_of_squeue_are_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_of_a_pair_that_goes_missing_ends_training_with_one_sentence(tmp_path, monkeypatch, workers):
    make_tree(tmp_path, splits=("train",))
    monkeypatch.setattr(pairs_module, "MEMORY_BUDGET", 0)
    problem = problem_of(tmp_path, tmp_path / "models", workers=workers)
    store = raw_store(problem.config, "a0")
    for path in (store / "0/c").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(DamagedInputError) as caught:
        fit(problem)
    assert str(caught.value).startswith(str(store)), "no traceback of the worker before it"
    assert str(caught.value).endswith("this part of the image is missing; run the stage that writes it again.")
    with pytest.raises(DamagedInputError, match=f"{store}.* missing"):  # and no training begins on it
        prepare(problem.config)
