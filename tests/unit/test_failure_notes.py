"""Which failures of killed jobs stand on the page, and which do not: one note for each, of the last attempt, and none of what was done."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cvdm_core.cluster.aftermath import recent_mishaps, settle
from cvdm_core.cluster.history import DONE, SUBMITTED, JobState, note, run_file
from cvdm_core.records.failures import failure_path
from cvdm_core.records.receipts import read_json, stage
from cvdm_core.records.running import announced, announcements
from cvdm_core.workload import STAGES_OF

COMMENT = "rule_sample_wildcards_cells_1_tiny_v2_0003"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # no SLURM answers


def test_a_job_that_ended_badly_without_a_word_becomes_one_note_and_only_once() -> None:
    note(run_file("night"), [JobState(1, SUBMITTED, COMMENT), JobState(1, "TIMEOUT", COMMENT, facts={"TimeLimit": "00:10:00"})])
    settle(Path("results"), Path("models"), ["cells", "cells_1"])
    path = failure_path("results", "sample", "cells_1", "0003")
    assert read_json(path)["class"] == "time" and "00:10:00" in read_json(path)["message"]
    path.unlink()  # a later success
    settle(Path("results"), Path("models"), ["cells", "cells_1"])
    assert not path.exists()


def test_a_job_that_ended_badly_is_no_failure_while_a_later_attempt_runs_or_was_done() -> None:
    now = time.time()
    attempts = [JobState(7, "CANCELLED", COMMENT, now - 100), JobState(9, "RUNNING", COMMENT, now - 50)]
    note(run_file("run"), attempts)
    settle(Path("results"), Path("models"), ["cells_1"])
    # As it was written before: what was looked at stands there once more, after the attempt that came later.
    note(run_file("run"), [JobState(7, "CANCELLED", COMMENT, now - 100), JobState(9, DONE, COMMENT, now - 10)])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert not list(Path("results").rglob("*.json"))


def test_the_last_attempt_counts_also_where_a_dead_driver_sent_the_others() -> None:
    """Seen in a month of nights: a job that the takeover had cancelled stood on the page in place of the one that was killed later."""
    now = time.time()
    path = failure_path("results", "sample", "cells_1", "0003")
    note(run_file("second"), [JobState(9, "FAILED", COMMENT, now - 50, {"ExitCode": "0:9"})])
    note(run_file("first"), [JobState(7, "CANCELLED", COMMENT, now - 100)])
    os.utime(run_file("first"), (now - 90, now - 90))
    settle(Path("results"), Path("models"), ["cells_1"])
    assert (read_json(path)["class"], read_json(path)["job"]) == ("killed", 9)
    note(run_file("third"), [JobState(12, "TIMEOUT", COMMENT, now - 10)])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert (read_json(path)["class"], read_json(path)["job"]) == ("time", 12)
    note(run_file("late"), [JobState(11, "CANCELLED", COMMENT, now - 20)])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert read_json(path)["job"] == 12


@pytest.mark.parametrize(
    ("comment", "name", "subject", "part", "receipt"),
    [
        ("rule_ingest_wildcards_cells_1", "ingest", "cells_1", "", "results/cells_1/ingest.json"),
        (COMMENT, "sample", "cells_1", "0003", "results/cells_1/tiny_v2/blocks/0003.json"),
        ("rule_finish_wildcards_cells_1_tiny_v2", "report", "cells_1", "", "results/cells_1/tiny_v2/report.json"),
        ("rule_train_wildcards_tiny_v2", "train", "tiny_v2", "", "models/tiny_v2/train.json"),
    ],
)
def test_a_job_that_was_cancelled_after_its_last_stage_had_ended_well_is_no_failure(
    comment: str, name: str, subject: str, part: str, receipt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in a month of nights: the receipt was there, so that no further attempt came, and the note stayed for ever."""
    monkeypatch.setenv("SLURM_JOB_ID", "149")
    Path(receipt).parent.mkdir(parents=True)
    with stage(receipt, name, subject, "results", part=part):
        pass
    note(run_file("run"), [JobState(148, "TIMEOUT", comment), JobState(149, "CANCELLED", comment)])
    for _ in range(2):
        settle(Path("results"), Path("models"), ["cells_1"])
    assert not failure_path("results", name, subject, part).exists()
    # What went wrong before is told all the same (seen in another month: it stood on no page).
    (told,) = recent_mishaps(Path("results"))
    assert told.endswith(": time, job 148; cancelled, job 149; done, job 149")
    note(run_file("later"), [JobState(150, "CANCELLED", comment)])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert failure_path("results", name, subject, part).exists()


@pytest.mark.parametrize(
    "last",
    [
        JobState(0, "REFUSED", COMMENT, facts={"log": "sbatch: error: ..."}),
        JobState(3, "FAILED", COMMENT, facts={"Reason": "BadConstraints"}),
    ],
)
def test_an_attempt_that_asked_for_more_than_there_is_does_not_hide_why_it_was_needed(last: JobState) -> None:
    # Seen on a node of 16 GB: a third attempt at the training asks for three times its memory.
    ran = [JobState(number, "OUT_OF_MEMORY", COMMENT, facts={"MinMemoryNode": f"{6 * number}G"}) for number in (1, 2)]
    last = replace(last, time=time.time() + 1)
    # Before a job is found to ask for too much it is an ordinary one in the queue.
    asked = [JobState(last.job, SUBMITTED, COMMENT), last] if last.job else [last]
    for name, states, kind in (("first", asked, "configuration"), ("second", [*ran, *asked], "memory")):
        note(run_file(name), states)
        settle(Path("results"), Path("models"), ["cells_1"])
        path = failure_path("results", "sample", "cells_1", "0003")
        content = read_json(path)
        assert content["class"] == kind and "cvdm doctor" in content["message"]
        assert kind == "configuration" or "12G" in content["message"]
        path.unlink()


def test_what_slurm_could_not_explain_gives_way_to_a_later_attempt() -> None:
    path = failure_path("results", "sample", "cells_1", "0003")
    denied = "PermissionError: [Errno 13] Permission denied: 'results/cells_1'"
    for job, facts, kind in ((1, {"ExitCode": "1:0"}, "bug"), (2, {"ExitCode": "1:0", "log": denied}, "disk"), (3, {}, "bug")):
        note(run_file(f"run_{job}"), [JobState(job, "FAILED", COMMENT, facts=facts)])
        settle(Path("results"), Path("models"), ["cells_1"])
        assert read_json(path)["class"] == kind


def test_a_stage_that_was_killed_between_its_receipt_and_its_end_is_no_failure() -> None:
    with announced("results", "ingest", "cells_1"):
        (left,) = announcements("results")
        content = left.read_text()
    with stage("results/cells_1/ingest.json", "ingest", "cells_1", "results"):
        pass
    for started, failed in ((read_json("results/cells_1/ingest.json")["started"], False), ("2026-01-01T00:00:00+00:00", True)):
        left.write_text(json.dumps(json.loads(content) | {"pid": 2**22 + 1, "started": started}))
        settle(Path("results"), Path("models"), ["cells_1"])
        assert failure_path("results", "ingest", "cells_1").exists() == failed


def test_what_the_stage_itself_said_is_kept() -> None:
    with pytest.raises(ValueError), stage("results/a.json", "sample", "cells_1", "results", part="0003"):
        raise ValueError("the reason")
    note(run_file("night"), [JobState(1, "FAILED", COMMENT, facts={"ExitCode": "1:0"})])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert "the reason" in read_json(failure_path("results", "sample", "cells_1", "0003"))["message"]
    assert not announcements("results")


def test_the_note_of_a_job_of_several_stages_goes_with_its_success_and_is_none_beside_what_a_stage_said() -> None:
    comment = "rule_finish_wildcards_cells_1_tiny"
    note(run_file("first"), [JobState(1, "CANCELLED", comment)])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert [path.name for path in Path("results/.failures").glob("*.json")] == [failure_path("results", "report", "cells_1").name]
    for name in STAGES_OF["finish"]:
        with stage(f"results/{name}.json", name, "cells_1", "results"):
            pass
    assert not list(Path("results/.failures").glob("*.json"))
    with pytest.raises(ValueError), stage("results/a.json", "evaluate", "cells_1", "results"):
        raise ValueError("the reason")
    note(run_file("second"), [JobState(2, "FAILED", comment, facts={"ExitCode": "1:0"})])
    settle(Path("results"), Path("models"), ["cells_1"])
    assert [path.name for path in Path("results/.failures").glob("*.json")] == [failure_path("results", "evaluate", "cells_1").name]
