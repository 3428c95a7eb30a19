"""The file of nights: one line each, whatever was cut off before, and quick to read from its end."""

from __future__ import annotations

from pathlib import Path

from cvdm_core.nights import summary
from cvdm_core.nights.tonight import Tonight, read_tonight, tonight_file, write_tonight
from cvdm_core.records.nights import PIECE, Night, StageFailure, add_night, nights_file, read_nights


def night(day: int, **facts: object) -> Night:
    return Night.model_validate({"started": f"2026-11-{day:02}T20:00:00+00:00", "ended": f"2026-11-{day:02}T23:00:00+00:00", **facts})


def test_nights_come_back_the_latest_first(tmp_path: Path) -> None:
    assert read_nights(tmp_path, 3) == []
    for day in range(1, 6):
        add_night(tmp_path, night(day, restored=("x" * PIECE,), deferred={"a": "it did not fit"}, reduced={"b": (4, 8)}))
    assert [each.started[8:10] for each in read_nights(tmp_path, 3)] == ["05", "04", "03"]
    assert read_nights(tmp_path, 9)[-1] == night(1, restored=("x" * PIECE,), deferred={"a": "it did not fit"}, reduced={"b": (4, 8)})


def test_a_line_that_was_cut_off_or_is_damaged_costs_only_itself(tmp_path: Path) -> None:
    add_night(tmp_path, night(1))
    with open(nights_file(tmp_path), "ab") as stream:
        stream.write(b'{"started": "2026-11-02T2')
    add_night(tmp_path, night(3))
    with open(nights_file(tmp_path), "ab") as stream:
        stream.write(b"\xff\x00 no json\n{}\n")
    add_night(tmp_path, night(4))
    assert [each.started[8:10] for each in read_nights(tmp_path, 9)] == ["04", "03", "01"]


def test_the_running_night_is_read_back_and_damage_is_no_night(tmp_path: Path) -> None:
    assert read_tonight(tmp_path) is None
    running = Tonight(1.0, 2.0, "process 1 on host", "plan", {"a": "it did not fit"})
    write_tonight(tmp_path, running)
    assert read_tonight(tmp_path) == running
    for damage in ("", "[]", "{}", '{"started": "x", "until": 1, "owner": "", "step": ""}', "null"):
        tonight_file(tmp_path).write_text(damage)
        assert read_tonight(tmp_path) is None


def test_the_message_says_what_came_of_everything_and_is_not_endless() -> None:
    failure = StageFailure(subject="c", stage="ingest", kind="damaged input", message="c.tif: copy it again.")
    names = tuple(f"n{number}" for number in range(50))
    told = night(3, status=1, problems=("Failed: c.",), restored=names, failed=(failure,), deferred={"d": "it did not fit"},
                 reduced={"e": (4, 8)}, unfinished=names, gpu_seconds=7200, megapixels=1234)  # fmt: skip
    said = summary.text(told, ["Index: results/index.html"], "inbox")
    assert "50 restored, 1 failed, 50 unfinished, 1 deferred, 1 with fewer samples." in said
    for part in (
        "- Failed: c.",
        "- c, ingest, damaged input: c.tif: copy it again.",
        "- d: it did not fit",
        "- e: 4 of 8",
        "2.0 GPU hours, 1234",
    ):
        assert part in said
    assert said.count("\n- n") == summary.SHOWN and "- and 30 more" in said
    assert summary.subject(told, "host").startswith("cvdm host: a person must act (50 restored, ")
    assert summary.subject(night(3), "host") == "cvdm host: nobody needs to do anything (nothing to restore)"
