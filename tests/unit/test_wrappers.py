"""What Snakemake's plugin is told by the wrappers of SLURM's commands, on a cluster of which each command is a script of a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cvdm_core.cluster import history, leftovers, submission
from cvdm_core.cluster.verdict import verdict

ROOT = Path(__file__).parents[2]
RUN = "0b7c-night"
COMMENT = "rule_sample_wildcards_cells_1_tiny_v2_0003"
LOOK = ("squeue", "--format=%i|%T", "--states=all", "--noheader", "--name", RUN)
SEND = ("sbatch", "--parsable", "--job-name", RUN, "--comment", COMMENT, "--mem", "2000", "-t", "60", "--wrap=true")
Cluster = Callable[..., None]


@pytest.fixture(autouse=True)
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return what writes SLURM's commands, each as a script; one that is not written fails, as without a controller."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.defpath}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            path = tmp_path / "bin" / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    away = "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    write(sbatch=away, squeue=away, scancel=away, sacct=away, scontrol=away)
    return write


def wrapped(*call: str) -> subprocess.CompletedProcess[str]:
    """Call a command as the plugin does."""
    command = [sys.executable, str(ROOT / "workflow/slurm" / call[0]), *call[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize(
    "setting", ["SQUEUE_USERS=nobody", "SQUEUE_PARTITION=gpu", "SLURM_CLUSTERS=other", "SLURM_TIME_FORMAT=relative", "SACCT_FORMAT=User"]
)
def test_what_a_person_has_set_for_their_own_eyes_changes_no_answer(slurm: Cluster, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(*setting.split("=", 1))
    slurm(squeue=f'[ -n "${setting.partition("=")[0]}" ] || echo "7|RUNNING|None|{COMMENT}"')
    assert wrapped(*LOOK).stdout == "7|RUNNING\n"


def test_a_job_that_has_ended_is_no_leftover(slurm: Cluster) -> None:
    states = {7: "COMPLETED", 8: "CANCELLED", 9: "COMPLETING", 10: "PENDING"}
    rows = [f"{job}|{state}|{COMMENT}|{Path.cwd()}" for job, state in states.items()]
    slurm(squeue="\n".join(f"echo '{row}'" for row in rows))
    assert [job.job for job in leftovers.find(Path.cwd())] == [9, 10]


def full_disk() -> None:
    """Let the file of the run be one that takes nothing, as on a full disk."""
    history.run_file(RUN).parent.mkdir(parents=True)
    history.run_file(RUN).symlink_to("/dev/full")


def unreadable_disk() -> None:
    """Let the file of the run neither be read nor written."""
    history.run_file(RUN).mkdir(parents=True)


@pytest.mark.parametrize("damage", [full_disk, unreadable_disk])
def test_a_job_that_was_taken_is_told_so_though_the_disk_takes_no_note_of_it(slurm: Cluster, damage: Callable[[], None]) -> None:
    damage()
    slurm(sbatch="echo 101")
    done = wrapped(*SEND)
    assert (done.returncode, done.stdout) == (0, "101\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and f"{RUN}.jsonl" in done.stderr


def test_the_states_of_jobs_are_told_though_the_disk_takes_no_note_of_them(slurm: Cluster) -> None:
    slurm(squeue=f'echo "7|RUNNING|None|{COMMENT}"; echo "8|COMPLETED|None|{COMMENT}"')
    history.note(history.run_file(RUN), [history.JobState(7, "PENDING", COMMENT)])
    full = ["bash", "-c", 'ulimit -f 0; trap "" XFSZ; exec "$@"', "bash", sys.executable, str(ROOT / "workflow/slurm/squeue"), *LOOK[1:]]
    done = subprocess.run(full, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "7|RUNNING\n8|COMPLETED\n"), done.stderr


def test_a_file_that_cannot_be_read_makes_no_job_fail(slurm: Cluster) -> None:
    unreadable_disk()
    slurm(squeue=f'echo "7|RUNNING|None|{COMMENT}"; echo "8|NODE_FAIL|None|{COMMENT}"')
    done = wrapped(*LOOK)
    assert (done.returncode, done.stdout) == (0, "7|RUNNING\n8|PENDING\n"), done.stderr


def test_a_line_that_a_full_disk_cut_off_costs_only_itself() -> None:
    path = history.run_file(RUN)
    path.parent.mkdir(parents=True)
    path.write_text('{"job": 2, "sta')
    history.note(path, [history.JobState(1, "RUNNING", COMMENT)])
    assert [state.job for state in history.read(path)] == [1]


@pytest.mark.parametrize("reason", ["launch failed requeued held", "job_requeued_in_held_state"])
def test_a_job_that_slurm_put_back_and_holds_is_cancelled_and_failed_for_its_node(slurm: Cluster, reason: str) -> None:
    # Cancelled, it shows the state CANCELLED, and a person was it not.
    shown = f'[ -e cancelled ] && echo "7|CANCELLED|None|{COMMENT}" || echo "7|PENDING|{reason}|{COMMENT}"'
    slurm(squeue=shown, scancel='echo "$@" > cancelled')
    assert wrapped(*LOOK).stdout == "7|FAILED\n"
    assert Path("cancelled").read_text() == "7\n"
    assert wrapped(*LOOK).stdout == "7|FAILED\n"
    (state,) = history.read(history.run_file(RUN))
    kind, sentence = verdict(state)
    assert kind == "node" and reason.replace("_", " ") in sentence


def test_a_held_job_that_cannot_be_cancelled_now_is_asked_for_again_and_not_sent_anew(slurm: Cluster) -> None:
    slurm(squeue=f'echo "7|PENDING|launch failed requeued held|{COMMENT}"')
    assert wrapped(*LOOK).stdout == "7|PENDING\n"
    slurm(scancel="true")
    assert wrapped(*LOOK).stdout == "7|FAILED\n"


@pytest.mark.parametrize(
    ("state", "reason"), [("PENDING", "JobHeldUser"), ("PENDING", "JobHeldAdmin"), ("COMPLETING", "launch failed requeued held")]
)
def test_a_job_that_a_person_holds_or_that_still_ends_is_left_alone(slurm: Cluster, state: str, reason: str) -> None:
    slurm(squeue=f'echo "7|{state}|{reason}|{COMMENT}"', scancel="touch cancelled")
    assert wrapped(*LOOK).stdout == f"7|{state}\n"
    assert not Path("cancelled").exists()


def test_what_slurm_says_of_a_failed_job_is_kept_to_its_last_word(slurm: Cluster) -> None:
    said = "JobId=7 JobName=x Reason=launch failed requeued held Dependency=(null) Socks/Node=* TRES=cpu=1,mem=2G StdOut=/a b/7.log Power="
    slurm(squeue=f'echo "7|FAILED|None|{COMMENT}"', scontrol=f"echo '{said}'")
    assert wrapped(*LOOK).stdout == "7|FAILED\n"
    (state,) = history.read(history.run_file(RUN))
    assert state.facts == {"Reason": "launch failed requeued held", "StdOut": "/a b/7.log"}


def submitted(monkeypatch: pytest.MonkeyPatch) -> int:
    """Submit as the plugin does, in this process and with short pauses, and return the exit status."""
    monkeypatch.setattr(sys, "stdin", None)
    for name in ("AWAY", "FULL"):
        monkeypatch.setattr(submission, name, replace(getattr(submission, name), pause=0.01))
    return submission.submit(SEND[1:])


LIMITS = [
    "sbatch: error: AssocMaxSubmitJobLimit",
    "sbatch: error: AssocGrpSubmitJobsLimit",
    "sbatch: error: QOSMaxSubmitJobPerUserLimit",
    "sbatch: error: QOSGrpSubmitJobsLimit",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
]
POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
COUNTED = 'echo x >> calls; [ "$(wc -l < calls)" -lt 3 ] && {{ echo "{}" >&2; exit 1; }}; echo 101'


@pytest.mark.parametrize("limit", LIMITS)
def test_while_the_queue_takes_no_more_jobs_a_submission_waits_for_its_place(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str
) -> None:
    slurm(sbatch=COUNTED.format(f"{limit}\n{POLICY}"))
    assert submitted(monkeypatch) == 0
    assert capsys.readouterr().out == "101\n"
    assert [(state.job, state.state) for state in history.read(history.run_file(RUN))] == [(101, history.SUBMITTED)]
    assert limit in history.run_file(RUN).with_suffix(".waiting").read_text()


def test_a_limit_that_no_waiting_mends_is_told_at_once(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm(sbatch=COUNTED.format(f"sbatch: error: AssocMaxWallDurationPerJobLimit\n{POLICY}"))
    assert submitted(monkeypatch) == 1
    assert "AssocMaxWallDurationPerJobLimit" in capsys.readouterr().err
    assert Path("calls").read_text() == "x\n"


def test_after_ctrl_c_neither_the_waiting_submission_nor_those_behind_it_are_sent(slurm: Cluster) -> None:
    slurm(sbatch=f'echo x >> calls; echo "{LIMITS[0]}" >&2; exit 1')
    # A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
    code = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv = sys.argv[1:]; "
    command = [sys.executable, "-c", f"{code}runpy.run_path(sys.argv[0], run_name='__main__')", ROOT / "workflow/slurm/sbatch", *SEND[1:]]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not Path("calls").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    waiting.send_signal(signal.SIGINT)
    assert "the driver was told to end" in waiting.communicate(timeout=20)[1] and waiting.returncode
    slurm(sbatch="echo x >> calls; echo 101")  # there is a place: the driver has cancelled its jobs
    behind = wrapped(*SEND)
    assert behind.returncode and "the driver was told to end" in behind.stderr
    assert Path("calls").read_text() == "x\n"


@pytest.mark.parametrize("in_the_queue", [True, False])
def test_a_job_whose_answer_was_lost_is_sent_again_only_after_the_queue_was_looked_at(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], in_the_queue: bool
) -> None:
    lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    shown = f'echo "101|PENDING|None|{COMMENT}"' if in_the_queue else ":"
    slurm(
        sbatch=f'echo sbatch >> calls; [ -e looked ] && echo 102 && exit; echo "{lost}" >&2; exit 1',
        # It answers the third time.
        squeue=f'echo squeue >> calls; [ "$(grep -c squeue calls)" -lt 3 ] && exit 1; touch looked; {shown}',
    )
    assert submitted(monkeypatch) == 0
    assert capsys.readouterr().out == ("101\n" if in_the_queue else "102\n")
    assert Path("calls").read_text().split() == ["sbatch", *["squeue"] * 3, *([] if in_the_queue else ["sbatch"])]


OWN = 'echo "ClusterName             = cvdm"'


@pytest.mark.parametrize(("option", "variable"), [("--clusters gpu", ""), ("-Mgpu", ""), ("", "SBATCH_CLUSTERS"), ("", "SLURM_CLUSTERS")])
def test_a_job_for_another_cluster_is_refused_before_it_is_sent(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch, option: str, variable: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "gpu")
    slurm(sbatch="touch sent; echo '101;gpu'", scontrol=OWN)
    done = wrapped(*SEND, *option.split())
    assert done.returncode and not done.stdout and not Path("sent").exists()
    assert f"{variable or '--clusters'} sends jobs to the cluster gpu" in done.stderr
    (state,) = history.read(history.run_file(RUN))
    kind, sentence = verdict(state)
    assert kind == "configuration" and "the cluster gpu" in sentence


def test_the_own_cluster_may_be_named(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_CLUSTERS", "cvdm")
    slurm(sbatch="echo '101;cvdm'", scontrol=OWN)
    assert wrapped(*SEND).returncode == 0
    assert [state.job for state in history.read(history.run_file(RUN))] == [101]


def test_a_job_that_another_cluster_took_unasked_is_cancelled_there(slurm: Cluster) -> None:
    slurm(sbatch="echo '101;gpu'", scontrol=OWN, scancel='echo "$@" > cancelled')
    done = wrapped(*SEND)
    assert done.returncode and not done.stdout and "job 101 was taken by the cluster gpu" in done.stderr
    assert Path("cancelled").read_text() == "--clusters=gpu 101\n"
