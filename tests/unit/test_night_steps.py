"""A night from its first step to its message, and what is left when a step is killed, stopped, or has a bug. Snakemake is left out here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_night_plan import MEASURED, all_jobs, row

from cvdm_core import paths
from cvdm_core.config import Config, parse
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.nights import course as courses
from cvdm_core.nights import fitting, night, telling
from cvdm_core.nights.course import Course, Order
from cvdm_core.nights.driver import TIMED_OUT, Driver, Job
from cvdm_core.nights.night import run_night
from cvdm_core.nights.tonight import read_tonight, tonight_file
from cvdm_core.records.nights import Night, read_nights
from cvdm_core.records.receipts import failure_path, write_json
from cvdm_core.records.throughput import Pace, as_json, throughput_file
from cvdm_core.sheet import read_sheet, write_sheet

ORDER = Order(Path("profile"), [Path("config.yaml")])
STEPS = ("look", "plan", "run")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(night.takeover, "end_what_was_left", lambda results, say: [])  # SLURM is asked in tests/slurm
    Path("profile").mkdir()
    Path("profile/config.yaml").write_text("cores: 2\nset-threads: {sample: 1}\n")
    made = parse(
        {"acquisitions": "a.tsv", "store": {"chunk": 256, "shard": 1024}, "sampling": {"samples": 8, "shards_per_job": 2}}, "a test"
    )
    write_sheet(made.acquisitions, {name: row(name) for name in "abc"})
    return made


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Let a dry run plan everything for a, b and c."""
    jobs = [job for name in "abc" for job in all_jobs(name)]
    monkeypatch.setattr(fitting, "planned_jobs", lambda command: jobs)
    return jobs


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Collect the messages."""
    sent: list[tuple[str, bool]] = []
    monkeypatch.setattr(telling.messages, "tell", lambda settings, subject, text, act: sent.append((text, act)) or [])
    return sent


def last(config: Config) -> Night:
    return read_nights(config.results, 1)[0]


def measured(config: Config) -> None:
    slow = {**MEASURED, "sample": {"": {"some device": Pace(9, 10.0, 1.0)}}}
    write_json(throughput_file(config.results), {"paces": as_json(slow), "read_until": 0.0, "jobs": []})


def finish(config: Config, *names: str) -> Callable[[Course], int]:
    """Return a run of the workflow that finishes acquisitions."""

    def drive(course: Course) -> int:
        for name in names:
            usage = {"seconds": 30.0, "peak_gpu_memory_mb": 900.0}
            started = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
            write_json(paths.block_receipt(config, name, 0), {"usage": usage, "started": started})
            write_json(paths.report_receipt(config, name), {"stage": "report"})
        return 0

    return drive


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


# Kills and signals, with a process of its own

PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what runs below nohup ignores it
from pathlib import Path
from cvdm_core.config import parse
from cvdm_core.nights import night, telling
from cvdm_core.nights.course import Order
step, deed = sys.argv[1:]
def do(course=None, *more):
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("there", flush=True)
    time.sleep(60)
for each in ("look", "plan", "run"):
    setattr(night, each, do if each == step else lambda course: None)
if step == "tell":
    telling.write_index = do
sys.exit(night.run_night(parse({"acquisitions": "a.tsv"}, "a test"), Order(Path("profile"), [])))
"""


def started(step: str, deed: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, step, deed]
    environment = {**os.environ, "PYTHONPATH": str(Path(courses.__file__).parents[2])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.mark.parametrize("step", ["look", "plan", "run", "tell"])
def test_a_night_that_is_killed_is_told_by_the_next_one(
    config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    process = started(step, "kill")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said
    for each in STEPS:
        monkeypatch.setattr(night, each, lambda course: None)
    assert run_night(config, ORDER) == 1
    doing = {"look": "look at the inbox", "plan": "plan", "run": "run the workflow", "tell": "write down what came of it"}[step]
    assert f"process {process.pid} on " in told[0][0] and f"was killed; it was about to {doing}" in told[0][0]
    assert run_night(config, ORDER) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_night_with_a_record(config: Config, number: signal.Signals) -> None:
    process = started("run", "wait")
    assert process.stdout and process.stdout.readline() == "there\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert f"It was ended ({number.name}) when it was about to run the workflow" in said and last(config).status == 1


# The end that nothing can put off


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


@pytest.fixture
def program(config: Config, planned: list[Job], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a shell script stand in for Snakemake, with `$n` counting its starts from 1."""

    def put(script: str) -> None:
        counting = "echo >> starts; n=$(wc -l < starts); "
        monkeypatch.setattr(night, "snakemake", lambda profile, configs: ["sh", "-c", counting + script])

    return put


def test_a_killed_driver_is_started_again_and_the_night_says_so(
    config: Config, program: Callable[[str], None], told: list[tuple[str, bool]]
) -> None:
    program("[ $n -ge 3 ] || kill -KILL $$")

    assert run_night(config, ORDER) == 0

    assert len(Path("starts").read_text()) == 3
    assert len([remark for remark in last(config).remarks if "Snakemake was killed (signal 9)" in remark]) == 2


def test_a_driver_that_is_killed_each_time_is_not_started_for_ever(
    config: Config, program: Callable[[str], None], told: list[tuple[str, bool]]
) -> None:
    program("kill -KILL $$")

    assert run_night(config, ORDER) == 1

    assert len(Path("starts").read_text()) == night.STARTS
    assert any("Snakemake ended with status -9" in problem for problem in last(config).problems)


def test_what_a_dead_driver_left_is_ended_before_the_plan_and_a_living_one_is_not_disturbed(
    config: Config, planned: list[Job], told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(night.takeover, "end_what_was_left", lambda results, say: order.append("ended"))
    monkeypatch.setattr(fitting, "planned_jobs", lambda command: order.append("planned") or [])

    assert run_night(config, ORDER) == 0
    assert order == ["ended", "planned"]

    with locked(Path(".snakemake/driver"), "runs the workflow in this folder"):
        assert run_night(config, ORDER) == 2
    assert order == ["ended", "planned"]
    assert any("runs the workflow in this folder" in problem for problem in last(config).problems)


def test_a_driver_ends_at_its_time_and_where_it_does_not_listen_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvdm_core.nights.driver.CANCEL_S", 1)
    polite = Driver(
        [sys.executable, "-c", "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('cancelled')"], 2, tmp_path / "log"
    )
    assert polite.wait() == TIMED_OUT[0]
    assert (tmp_path / "log").read_text() == "cancelled\n"
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    begin = time.monotonic()
    assert Driver([sys.executable, "-c", deaf], 2, tmp_path / "deaf").wait() in (*TIMED_OUT, -signal.SIGKILL)
    assert time.monotonic() - begin < 15 and (tmp_path / "deaf").read_text() == "up\n"


def test_a_driver_hears_ctrl_c_even_where_cron_has_it_ignored(tmp_path: Path) -> None:
    program = "import time\nprint('up', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('cancelled')"
    script = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from pathlib import Path
from cvdm_core.nights.driver import Driver
driver = Driver([sys.executable, "-c", {program!r}], 60, Path({str(tmp_path / "log")!r}))
while "up" not in Path({str(tmp_path / "log")!r}).read_text(): time.sleep(0.05)
driver.stop()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(courses.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
    assert (tmp_path / "log").read_text().split() == ["up", "cancelled"]


def test_the_record_is_json_that_other_programs_read(config: Config, told: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    for each in STEPS:
        monkeypatch.setattr(night, each, lambda course: None)
    run_night(config, ORDER)
    line = json.loads((Path(config.results) / "nights.jsonl").read_text())
    assert line["status"] == 0 and line["started"] <= line["ended"] and line["started"].endswith("+00:00")
