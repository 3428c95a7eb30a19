"""A night from its first step to its message. Snakemake is left out here."""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest
from night_tree import ORDER, STEPS, finish, last, measured
from register_folder import break_line

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.nights import fitting, night, telling
from cvdm_core.nights.course import Course, Order
from cvdm_core.nights.driver import TIMED_OUT, Job
from cvdm_core.nights.night import run_night
from cvdm_core.nights.tonight import read_tonight, tonight_file
from cvdm_core.records.receipts import failure_path, write_json
from cvdm_core.report.card import card_file
from cvdm_core.sheet import read_sheet


def test_a_night_is_planned_shortened_written_down_and_told(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(config)
    # 10 s a job, and 12 s a sample of a block, of which two run side by side: 145 s an acquisition with 8 samples, 97 s with 4.
    monkeypatch.setattr(night, "deadline", lambda by, now: now + 212)
    seen: list[tuple[dict[str, str], dict[str, int | None]]] = []

    def drive(course: Course) -> int:
        held = read_tonight(config.results)
        assert held is not None and held.step == "run the workflow" and held.until > time.time()
        seen.append((dict(held.deferred), {name: each.samples for name, each in read_sheet(config.acquisitions).items()}))
        return finish(config, *course.names)(course)

    monkeypatch.setattr(night, "_drive", drive)
    assert run_night(config, Order(Path("profile"), [], by="07:00")) == 0
    came = last(config)
    deferred, samples = seen[0]
    assert list(deferred) == ["c"] and "it did not fit before" in deferred["c"]
    assert came.restored == ("a", "b") and came.deferred == deferred and came.unfinished == ()
    assert {name: count for name, (count, of) in came.reduced.items()} == {name: n for name, n in samples.items() if n}
    assert came.reduced and all(4 <= count < of == 8 for count, of in came.reduced.values())
    assert came.gpu_seconds == 60 and came.megapixels == pytest.approx(2 * 2048**2 / 1e6)
    (text, act), *more = told
    assert not act and not more and "c: it did not fit before" in text and "of 8" in text
    assert not tonight_file(config.results).exists()
    assert "The last nights" in paths.index_page(config).read_text()


def test_without_measurements_everything_runs_and_the_summary_says_so(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(night, "_drive", lambda course: finish(config, *course.names)(course))
    assert run_night(config, Order(Path("profile"), [], by="07:00")) == 0
    assert last(config).restored == ("a", "b", "c") and not last(config).deferred
    assert "No plan could be made for the deadline, because too few jobs of `sample`" in told[0][0]


def test_a_plan_that_fails_does_not_cost_the_night(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(config)
    monkeypatch.setattr(fitting, "make_plan", lambda *arguments: 1 / 0)
    monkeypatch.setattr(night, "_drive", lambda course: finish(config, *course.names)(course))
    assert run_night(config, Order(Path("profile"), [], by="07:00")) == 1
    assert last(config).restored == ("a", "b", "c") and "so everything runs: ZeroDivisionError" in told[0][0]


def test_failures_ask_for_a_person_and_what_was_cut_short_does_not(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drive(course: Course) -> int:
        finish(config, "a")(course)
        for subject, kind in (("b", "damaged input"), ("old", "bug")):  # the second is not of this night
            note = {"stage": "ingest", "subject": subject, "class": kind, "message": f"{subject}.tif: copy it again."}
            write_json(failure_path(config.results, "ingest", subject), note)
        return 1

    monkeypatch.setattr(night, "_drive", drive)
    assert run_night(config, ORDER) == 1
    came = last(config)
    assert (came.restored, came.unfinished, [failure.subject for failure in came.failed]) == (("a",), ("c",), ["b"])
    assert told[0][1] and "b, ingest, damaged input: b.tif: copy it again." in told[0][0]


@pytest.mark.parametrize(("unlike", "named"), [("b", "b"), ("ab", "a, b"), ("abc", "a, b and 1 more")])
def test_inputs_that_the_model_does_not_know_are_named_and_ask_for_nobody(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, unlike: str, named: str
) -> None:
    def drive(course: Course) -> int:
        for name in "abc":
            write_json(card_file(config, name), {"unlike": "It is darker." if name in unlike else ""})
        return finish(config, *"abc")(course)

    monkeypatch.setattr(night, "NAMED", 2)
    monkeypatch.setattr(night, "_drive", drive)
    assert run_night(config, ORDER) == 0
    remark = f"Inputs that look like nothing that their model was trained on: {named}; their pages say what differs."
    assert remark in last(config).remarks and remark in told[0][0] and not told[0][1]


def failed(config: Config, subject: str, kind: str, stage: str = "ingest") -> Path:
    """Leave the note of a failed stage; return where it lies."""
    note = failure_path(config.results, stage, subject)
    write_json(note, {"stage": stage, "subject": subject, "class": kind, "message": "It was killed."})
    return note


def test_what_is_killed_two_nights_running_asks_for_a_person(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def night_with(*killed: str) -> tuple[str, bool]:
        monkeypatch.setattr(night, "_drive", lambda course: [failed(config, name, "killed") for name in killed] and 1)
        run_night(config, ORDER)
        return told[-1]

    assert night_with("a")[1] is False
    with locked(Path(config.results) / "night"):
        run_night(config, ORDER)  # it could not run, and is no night between
    text, act = night_with("a", "b")
    assert act and "Failed: a; why" in text
    assert "a, ingest, killed: It was killed. It failed in the night before as well: a person must look why." in text
    assert "b, ingest, killed: It was killed.\n" in text


def test_what_the_end_of_the_night_cuts_off_asks_for_nobody_however_often(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An acquisition that is longer than a night is cut off each time, and goes on in the next."""
    monkeypatch.setattr(night, "_drive", lambda course: failed(config, "a", "cancelled") and 1)
    for _ in range(3):
        run_night(config, ORDER)
    assert "must look why" not in told[-1][0] and not told[-1][1]


def test_a_stage_that_was_not_tried_again_has_not_failed_again(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(night, "_drive", lambda course: 0)
    note = failed(config, "a", "killed")
    os.utime(note, (time.time() - 86_400,) * 2)
    assert [run_night(config, ORDER), run_night(config, ORDER)] == [0, 0]


@pytest.mark.parametrize(("kind", "deferred"), [("killed", "a"), ("memory", "a"), ("cancelled", "c")])
def test_with_a_deadline_what_keeps_failing_does_not_take_the_time_of_others(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, kind: str, deferred: str
) -> None:
    """Only what the night itself cut off at its end keeps its place."""
    monkeypatch.setattr(night, "deadline", lambda by, now: now + 212)  # two of three have time
    monkeypatch.setattr(night, "_drive", lambda course: failed(config, "a", kind) and 1)
    for _ in range(3):
        measured(config)
        run_night(config, Order(Path("profile"), [], by="07:00"))
    assert list(last(config).deferred) == [deferred]
    assert ("it has failed, and comes behind all others of its urgency" in last(config).deferred[deferred]) is (deferred == "a")


@pytest.mark.parametrize(
    ("code", "sentence"), [(TIMED_OUT[0], "The run was stopped at"), (1, "ended with status 1, and no stage says why")]
)
def test_a_driver_that_was_stopped_or_broke_asks_for_a_person(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    monkeypatch.setattr(night, "_drive", lambda course: code)
    assert run_night(config, ORDER) == 1
    assert sentence in told[0][0]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("error", "status"), [(UserError("no space"), 2), (ZeroDivisionError("x"), 2), (KeyboardInterrupt(), 1)], ids=repr)
def test_an_error_in_any_step_leaves_a_record_and_a_message(
    config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException, status: int
) -> None:
    def fail(course: Course) -> None:
        raise error

    for each in STEPS:
        monkeypatch.setattr(night, each, fail if each == step else lambda course: None)
    assert run_night(config, ORDER) == status
    assert last(config).status == status and len(last(config).problems) == 1
    assert told[0][1] and last(config).problems[0] in told[0][0]
    assert not tonight_file(config.results).exists()


def test_an_inbox_that_is_not_mounted_costs_the_night_nothing_else(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(night, "_drive", lambda course: finish(config, *course.names)(course))
    assert run_night(config, Order(Path("profile"), [], inbox="/nowhere")) == 1
    assert last(config).restored == ("a", "b", "c")
    assert "The inbox could not be looked at: /nowhere: there is no such folder" in told[0][0]


def test_a_night_without_an_inbox_says_so_and_needs_nobody(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(night, "_drive", lambda course: finish(config, *course.names)(course))
    Path("inbox").mkdir()
    for inbox in ("", "inbox"):
        assert run_night(config, Order(Path("profile"), [], inbox=inbox)) == 0
        assert ("No inbox is set (`inbox.folder`); only what stands in the sheet was restored." in told[-1][0]) is (not inbox)
    assert "No inbox" not in paths.index_page(config).read_text()


def test_a_line_of_the_sheet_that_somebody_broke_costs_its_acquisition_only_and_is_told_every_night(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(night, "_drive", lambda course: finish(config, *course.names)(course))
    break_line(config.acquisitions, "b")
    Path("inbox").mkdir()
    for order in (ORDER, Order(Path("profile"), [], inbox="inbox")):
        assert run_night(config, order) == 1
        assert last(config).restored == ("a", "c")
        assert told[-1][1] and told[-1][0].count("line 3: na = '1,4' is not usable") == 1
    assert "line 3: na = &#39;1,4&#39; is not usable" in paths.index_page(config).read_text()


@pytest.mark.parametrize("broken", ["add_night", "write_index", "update_throughput"])
def test_what_fails_at_the_end_keeps_nothing_else_from_being_told(
    config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the disk is gone")

    for each in STEPS:
        monkeypatch.setattr(night, each, lambda course: None)
    monkeypatch.setattr(telling, broken, fail)
    assert run_night(config, ORDER) == 1
    assert told[0][1] and "the disk is gone" in told[0][0]


@pytest.mark.parametrize("step", STEPS)
def test_on_a_full_disk_the_message_is_sent_though_nothing_can_be_printed(
    config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Cron writes what is printed to a log on the disk that is full."""

    def fail(course: Course) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for each in STEPS:
        monkeypatch.setattr(night, each, fail if each == step else lambda course: None)
    status = -1
    # It cannot even be closed.
    with suppress(OSError), open("/dev/full", "w", buffering=1) as full, redirect_stdout(full), redirect_stderr(full):
        status = run_night(config, ORDER)

    assert status == 2 and len(told) == 1
    assert told[0][1] and "No space left on device" in told[0][0]
    assert not tonight_file(config.results).exists()  # the next night does not say that this one was killed


def test_a_second_night_is_refused_with_the_owners_name_and_since_when(config: Config, told: list[tuple[str, bool]]) -> None:
    with locked(Path(config.results) / "night"):
        assert run_night(config, ORDER) == 2
    assert f"process {os.getpid()}, since 20" in told[0][0] and "night" in last(config).problems[0]


def test_a_profile_that_is_not_there_is_refused_before_anything_is_done(config: Config, told: list[tuple[str, bool]]) -> None:
    Path("profiles").mkdir()
    Path("profile").rename("profiles/mine")
    with pytest.raises(UserError, match=r"^nonsense: there is no such profile .* write one of profiles/mine behind --profile\.$"):
        run_night(config, Order(Path("nonsense"), [], inbox="/nowhere"))
    assert not told and not Path(config.results).exists()


def test_damaged_files_are_tried_again_only_when_they_have_changed(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Path(read_sheet(config.acquisitions)["b"].input)
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_bytes(b"cut off")
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(night, "_drive", lambda course: seen.append(course.names) or finish(config, *course.names)(course))
    note = failure_path(config.results, "ingest", "b")
    write_json(note, {"stage": "ingest", "subject": "b", "class": "damaged input", "message": "It is cut off."})

    assert run_night(config, ORDER) == 1
    assert seen == [("a", "c")] and list(last(config).deferred) == ["b"]
    assert "Not tried again: b: It is cut off." in last(config).problems and told[-1][1]

    os.utime(raw, (0, 0))  # a copy that keeps an old time
    run_night(config, ORDER)
    assert seen[1] == ("a", "b", "c") and not last(config).deferred


def test_the_record_is_json_that_other_programs_read(config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    for each in STEPS:
        monkeypatch.setattr(night, each, lambda course: None)
    run_night(config, ORDER)
    line = json.loads((Path(config.results) / "nights.jsonl").read_text())
    assert line["status"] == 0 and line["started"] <= line["ended"] and line["started"].endswith("+00:00")
