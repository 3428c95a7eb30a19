"""What a job runs on and what it used: in its log, first and last, and in its receipt; and a GPU that was promised but is not there."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from cvdm_core.errors import DeviceError
from cvdm_core.model import choose_device
from cvdm_core.records.receipts import read_json, stage

MEGABYTES = 200


def test_the_log_begins_with_the_machine_and_ends_with_the_use_and_the_receipt_has_both(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVDM_ATTEMPT", "2")
    monkeypatch.setattr(sys, "argv", ["/somewhere/cvdm", "ingest", "--acquisition", "cells"])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with stage(tmp_path / "a.json", "ingest", "cells", tmp_path) as receipt:
        print("in between")
        assert len(bytes(MEGABYTES * 10**6).strip(b"\1")) and receipt.job["attempt"] == 2
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        receipt.usage["megapixels"] = 4.0
    said = capfd.readouterr()
    first, *_, last = said.err.splitlines()
    assert re.fullmatch(r"cvdm ingest: cells on \S+, attempt 2, process \d+", first)
    assert "cvdm ingest: CPU " in said.err and "; GPU none\n" in said.err
    assert re.search(r"^cvdm ingest: versions cvdm \d.*, torch \d", said.err, re.MULTILINE)
    assert "cvdm ingest: command cvdm ingest --acquisition cells\n" in said.err
    assert re.fullmatch(r"cvdm ingest: used \d+\.\d s, \d+\.\d CPU s, at its peak \d+ MB of memory; 4 megapixels, [\d.e+]+ a second", last)

    content = read_json(tmp_path / "a.json")
    assert content["job"] == {"host": content["machine"]["host"], "slurm_job_id": None, "restart_count": None, "attempt": 2}
    usage = content["usage"]
    assert MEGABYTES < usage["peak_memory_mb"] < 20_000
    assert 0.2 <= usage["cpu_seconds"] < 20
    assert usage["peak_gpu_memory_mb"] is None
    assert usage["megapixels_per_second"] == pytest.approx(4 / usage["seconds"], rel=0.01)
    assert usage["device"]


def test_a_stage_that_fails_says_what_it_used_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), stage(tmp_path / "a.json", "stitch", "cells", tmp_path):
        raise RuntimeError("broken")
    first, *_, last = capfd.readouterr().err.splitlines()
    assert first.startswith("cvdm stitch: cells on ")
    assert last.startswith("cvdm stitch: used ") and "megapixels" not in last
    assert not (tmp_path / "a.json").exists()


def test_a_job_whose_slurm_does_not_answer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("PATH", str(tmp_path))  # no scontrol
    with stage(tmp_path / "a.json", "stitch", "cells", tmp_path):
        pass
    assert read_json(tmp_path / "a.json")["job"] | {"host": ""} == {
        "host": "", "slurm_job_id": "77", "restart_count": None, "attempt": None,
    }  # fmt: skip


@pytest.mark.parametrize("names", [",".join(map(str, range(64))), ",".join(["GPU-0a1b"] * 64)])
def test_gpus_that_were_given_but_are_not_there_are_no_silent_run_on_a_cpu(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    with pytest.raises(DeviceError, match=r"this process was given 64 GPUs \(CUDA_VISIBLE_DEVICES=.*torch finds \d") as caught:
        choose_device()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", ["", "-1", "NoDevFiles"])
def test_where_no_gpu_was_given_none_is_missed(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
    assert choose_device().type == "cpu"


def test_what_a_killed_stage_left_half_written_is_gone_after_the_next_one(tmp_path: Path) -> None:
    left = [
        tmp_path / ".a.json.99.partial",
        tmp_path / ".running/.ingest.cells.json.99.partial",
        tmp_path / ".failures/.ingest.cells.json.9.partial",
    ]
    others = [tmp_path / ".aa.json.99.partial", tmp_path / ".running/.ingest.cells_2.json.99.partial"]
    for file in (*left, *others):
        file.parent.mkdir(exist_ok=True)
        file.write_text("{")
    with stage(tmp_path / "a.json", "ingest", "cells", tmp_path):
        pass
    assert not [file for file in left if file.exists()] and all(file.exists() for file in others)
