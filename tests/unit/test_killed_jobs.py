"""What is known of jobs that were killed: from SLURM's words to one class and one sentence. The words are those of SLURM 22.05."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cvdm_core.cluster import orphans
from cvdm_core.cluster.aftermath import recent_mishaps, settle
from cvdm_core.cluster.history import DONE, SUBMITTED, JobState, note, read, run_file
from cvdm_core.cluster.status import LASTED, for_plugin, last_words
from cvdm_core.cluster.verdict import mishaps, subject_of, verdict
from cvdm_core.errors import TimeUpError, UserError
from cvdm_core.records.failures import CLASSES, failure_path
from cvdm_core.records.receipts import read_json, stage
from cvdm_core.records.running import announcements

COMMENT = "rule_sample_wildcards_cells_1_tiny_v2_0003"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no SLURM answers


@pytest.mark.parametrize(
    ("state", "facts", "kind"),
    [
        ("OUT_OF_MEMORY", {"ExitCode": "0:125"}, "memory"),
        ("FAILED", {"ExitCode": "1:0", "DerivedExitCode": "0:125"}, "memory"),
        ("FAILED", {"ExitCode": "0:9", "log": "slurmstepd: error: Exceeded job memory limit"}, "memory"),
        ("FAILED", {"ExitCode": "1:0", "log": "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch."}, "memory"),
        ("TIMEOUT", {"ExitCode": "0:1", "TimeLimit": "00:01:00"}, "time"),
        ("PREEMPTED", {"log": "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-23T15:00:00 DUE TO PREEMPTION ***"}, "preempted"),
        ("NODE_FAIL", {}, "node"),
        (
            "FAILED",
            {"ExitCode": "2:0", "log": "slurmstepd: error: execve(): /spool/job00163/slurm_script: No such file or directory"},
            "node",
        ),
        ("FORGOTTEN", {}, "node"),
        ("CANCELLED", {"ExitCode": "0:15"}, "cancelled"),
        ("FAILED", {"ExitCode": "0:9", "DerivedExitCode": "0:0"}, "killed"),
        ("FAILED", {"ExitCode": "1:0", "log": "OSError: [Errno 28] No space left on device"}, "disk"),
        ("FAILED", {"ExitCode": "1:0", "log": "PermissionError: [Errno 13] Permission denied: 'results/cells_1'"}, "disk"),
        # `oom` in a name says nothing of memory.
        ("FAILED", {"ExitCode": "1:0", "log": "OSError: [Errno 28] No space left on device: 'results/embryo_zoom2/x'"}, "disk"),
        ("FAILED", {"ExitCode": "0:1", "Reason": "BadConstraints"}, "configuration"),
        ("REFUSED", {"log": "sbatch: error: invalid partition specified: nosuch"}, "configuration"),
        ("FAILED", {"ExitCode": "1:0", "DerivedExitCode": "1:0"}, "bug"),
    ],
)
def test_the_class_of_a_job_follows_from_state_exit_codes_and_log(state: str, facts: dict[str, str], kind: str) -> None:
    found, sentence = verdict(JobState(7, state, COMMENT, facts=facts))
    assert found == kind and found in CLASSES
    assert sentence.endswith(".")


@pytest.mark.parametrize(("state", "resource"), [("OUT_OF_MEMORY", "mem_mb"), ("TIMEOUT", "runtime")])
def test_what_to_do_about_too_little_memory_or_time_leaves_the_gpus_of_the_profile_as_they_are(state: str, resource: str) -> None:
    """`--set-resources` on the command line would replace all that the profile asks for, and `cvdm night` has no such option."""
    sentence = verdict(JobState(7, state, COMMENT))[1]
    assert f"write `{resource}: ...` below `sample:` in set-resources of the profile" in sentence and "--set" not in sentence


def test_a_name_with_the_sign_between_name_and_part_is_found_by_the_sheet() -> None:
    assert subject_of(COMMENT, ["cells", "cells_1"]) == ("cells_1", "0003")
    assert subject_of("rule_ingest_wildcards_cells_1", ["cells_1"]) == ("cells_1", "")
    assert subject_of("rule_stitch_wildcards_cells_1_tiny_2024", ["cells_1"]) == ("cells_1", "")
    assert subject_of("rule_train_wildcards_tiny", ["cells"]) == ("tiny", "")


def test_states_that_the_plugin_would_wait_on_for_ever_become_failures_only_once_they_last() -> None:
    now = time.time()
    for state in ("PREEMPTED", "NODE_FAIL"):
        assert for_plugin(state, None) == "PENDING"
        assert for_plugin(state, JobState(7, state, COMMENT, now - LASTED / 2)) == "PENDING"
        assert for_plugin(state, JobState(7, state, COMMENT, now - LASTED - 1)) == "FAILED"
        assert for_plugin(state, JobState(7, "RUNNING", COMMENT, now - 500)) == "PENDING"
    assert for_plugin("FORGOTTEN", None) == "FAILED"
    assert for_plugin("COMPLETED", None) == "COMPLETED"


def test_a_line_that_a_kill_cut_off_costs_only_itself() -> None:
    path = run_file("night")
    note(path, [JobState(1, SUBMITTED, COMMENT)])
    with open(path, "a") as stream:
        stream.write('{"job": 2, "sta\n')
    note(path, [JobState(1, DONE, COMMENT)])
    assert [state.state for state in read(path)] == [SUBMITTED, DONE]
    with pytest.raises(ValueError):
        run_file("../evil")


def test_a_job_that_went_wrong_and_was_done_is_one_line_and_one_that_never_was_done_is_none() -> None:
    other = "rule_ingest_wildcards_bad"
    states = [
        JobState(1, SUBMITTED, COMMENT, facts={"mem_mb": "2000"}),
        JobState(2, SUBMITTED, other),
        JobState(1, "OUT_OF_MEMORY", COMMENT),
        JobState(2, "FAILED", other),
        JobState(3, SUBMITTED, COMMENT, facts={"mem_mb": "4000"}),
        JobState(3, DONE, COMMENT),
    ]
    assert mishaps(states, {}) == ["sample of cells_1_tiny_v2_0003: memory with 2000 MB, job 1; done with 4000 MB, job 3"]
    note(run_file("night"), states)
    assert recent_mishaps(Path("results")) == mishaps(states, {})


def test_the_class_that_the_stage_itself_gave_is_told_also_after_a_later_attempt_made_it_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with pytest.raises(TimeUpError), stage("results/a.json", "sample", "cells_1", "results", part="0003"):
        raise TimeUpError("the limit is near")
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    with stage("results/a.json", "sample", "cells_1", "results", part="0003"):
        pass
    note(run_file("night"), [JobState(1, "FAILED", COMMENT, facts={"ExitCode": "1:0"}), JobState(2, DONE, COMMENT)])
    assert recent_mishaps(Path("results")) == ["sample of cells_1_tiny_v2_0003: time, job 1; done, job 2"]


@pytest.mark.parametrize(("state", "kind"), [("FAILED", "cancelled"), ("PREEMPTED", "preempted"), ("TIMEOUT", "time")])
def test_of_a_stage_that_was_told_to_end_slurm_says_why_and_where_it_does_not_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, state: str, kind: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with pytest.raises(SystemExit), stage("results/a.json", "sample", "cells_1", "results", part="0003"):
        raise SystemExit(143)
    ended = JobState(1, state, COMMENT, time.time() - 3600, facts={"ExitCode": "1:0"})
    note(run_file("night"), [ended])
    settle(Path("results"), Path("models"), ["cells_1"])
    found = read_json(failure_path("results", "sample", "cells_1", "0003"))
    assert found["class"] == kind and "without a word" not in found["message"]
    note(run_file("night"), [JobState(2, DONE, COMMENT)])
    assert recent_mishaps(Path("results")) == [f"sample of cells_1_tiny_v2_0003: {kind}, job 1; done, job 2"]


def test_a_second_process_at_the_same_work_is_refused() -> None:
    run = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = Path("results/.running/ingest.cells_1.json")
    path.parent.mkdir(parents=True)
    began = int(Path(f"/proc/{run.pid}/stat").read_text().split()[21])
    content = {"stage": "ingest", "subject": "cells_1", "part": "", "host": platform.node(), "pid": run.pid, "began": began, "job": 0}
    path.write_text(json.dumps({**content, "started": "2026-11-23T19:00:00+00:00"}))
    with pytest.raises(UserError, match=f"process {run.pid} on .* is at this work since"), stage("a.json", "ingest", "cells_1", "results"):
        raise AssertionError("it began")
    assert path.exists(), "the other's note stays"
    run.kill()
    while not Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].startswith(" Z"):
        time.sleep(0.01)
    # It has ended, though nobody has waited for it: a zombie works no more.
    with stage("a.json", "ingest", "cells_1", "results"):
        pass
    run.wait()


@pytest.mark.parametrize(
    ("environment", "place", "is_ended"), [({"CVDM_ATTEMPT": "1"}, ".", True), ({}, ".", False), ({"CVDM_ATTEMPT": "1"}, "x", False)]
)
def test_a_stage_that_a_dead_driver_of_this_folder_left_is_ended_and_nobody_elses(
    environment: dict[str, str], place: str, is_ended: bool
) -> None:
    """Started by a rule, here; by a person; by a rule in another folder that writes to the same results."""
    Path(place).mkdir(exist_ok=True)
    results = Path("results").resolve()
    begin = "from cvdm_core.records.receipts import stage\nimport time\n"
    begin += f"with stage('a.json', 'ingest', 'cells_1', {str(results)!r}): time.sleep(100)"
    run = subprocess.Popen(
        [sys.executable, "-c", begin],
        cwd=place,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.defpath, **environment},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not announcements(results) and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(signal.SIGSTOP)  # it hears SIGTERM only when it goes on
    said: list[str] = []
    ended = orphans.end(results, said.append)
    assert [who.pid for who in ended] == ([run.pid] if is_ended else [])
    assert bool(announcements(results)) != is_ended
    if is_ended:
        assert f"ingest of cells_1 (process {run.pid}, since " in said[0]
        assert run.wait(timeout=10) == -signal.SIGTERM
    else:
        run.kill()
        run.wait()


def test_what_went_wrong_in_a_run_whose_driver_died_is_told_by_the_one_that_did_it() -> None:
    now = time.time()
    note(run_file("b"), [JobState(8, DONE, COMMENT, now)])
    note(run_file("a"), [JobState(7, "CANCELLED", COMMENT, now - 60)])
    assert recent_mishaps(Path("results")) == ["sample of cells_1_tiny_v2_0003: cancelled, job 7; done, job 8"]


def run_until_killed(job: str = "") -> None:
    """Begin a stage in a process of its own and kill that process."""
    begin = "from cvdm_core.records.receipts import stage\nimport time\nwith stage('results/a.json', 'ingest', 'cells_1', 'results'): "
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.defpath, **({"SLURM_JOB_ID": job} if job else {})}
    process = subprocess.Popen([sys.executable, "-c", begin + "time.sleep(100)"], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not announcements("results") and time.monotonic() < until:
        time.sleep(0.05)
    settle(Path("results"), Path("models"), ["cells_1"])
    (who,) = announcements("results").values()
    assert who.pid == process.pid and who.host == platform.node() and who.lives_here, "a stage that runs is left alone"
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_stage_that_was_killed_on_this_machine_is_named_and_a_success_takes_the_note_away() -> None:
    run_until_killed()
    settle(Path("results"), Path("models"), ["cells_1"])
    path = failure_path("results", "ingest", "cells_1")
    assert read_json(path)["class"] == "killed"
    assert not announcements("results")
    with stage("results/a.json", "ingest", "cells_1", "results"):
        assert len(announcements("results")) == 1
    assert not path.exists() and not announcements("results")


def test_a_killed_stage_of_a_slurm_job_gets_the_class_that_slurm_gives() -> None:
    note(run_file("night"), [JobState(7, "RUNNING", "rule_ingest_wildcards_cells_1")])
    run_until_killed(job="7")
    note(run_file("night"), [JobState(7, "OUT_OF_MEMORY", "rule_ingest_wildcards_cells_1", facts={"MinMemoryNode": "2000M"})])
    settle(Path("results"), Path("models"), ["cells_1"])
    found = read_json(failure_path("results", "ingest", "cells_1"))
    assert found["class"] == "memory" and "2000M" in found["message"] and found["job"] == 7
    assert len(list(Path("results/.failures").glob("*.json"))) == 1


def test_slurms_last_words_are_found_in_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "7.log"
    log.write_text("a line of the program\n" * 10_000 + "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED DUE TO TIME LIMIT ***\nthe end\n")
    assert last_words(log) == "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED DUE TO TIME LIMIT ***"
    assert last_words(tmp_path / "none.log") == ""


def test_a_note_of_a_running_stage_holds_who_runs_it() -> None:
    with stage("results/a.json", "ingest", "cells_1", "results"):
        (path,) = announcements("results")
        content = json.loads(path.read_text())
    assert content["pid"] == os.getpid() and content["job"] == int(os.environ.get("SLURM_JOB_ID", "0"))
