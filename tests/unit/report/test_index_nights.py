"""The index over many nights and many acquisitions: the last nights, trends, and a page that stays small and quick."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from report_pages import HOSTILE, Page
from report_tree import make_config

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.records.nights import Night, StageFailure, add_night
from cvdm_core.records.receipts import write_json
from cvdm_core.report import card as cards
from cvdm_core.report import index
from cvdm_core.report.card import CardFacts, Thumbnail, card_file
from cvdm_core.report.nights import INSTRUMENTS, UNKNOWN
from cvdm_core.report.pictures import ScaleBar
from cvdm_core.report.tables import KeyFigure
from cvdm_core.sheet import Acquisition, write_sheet

PICTURE = Thumbnail(src="data:image/png;base64,AAAA", width=128, height=64, bar=ScaleBar("5 µm", 30.0))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(cards, "make_card", lambda config, row: CardFacts(problem="made again"))
    return make_config(tmp_path)


def finished(config: Config, count: int, **facts: object) -> dict[str, Acquisition]:
    """Write what the index reads of finished acquisitions, one a day, on three instruments."""
    rows = {}
    for number in range(count):
        name = f"a{number:04}"
        measured = {"size_t": 1, "size_c": 1, "size_z": 1, "size_y": 64, "size_x": 64, "dtype": "uint16", "pixel_size_um": 0.1}
        instrument = ("Ti2", "LSM 980", "")[number % 3]
        row = {"acquisition": name, "specimen": "s", "split": "predict", "input": "x.tif", "instrument": instrument, **measured}
        rows[name] = Acquisition.model_validate(row)
        write_json(paths.report_receipt(config, name), {"stage": "report"})
        paths.report_page(config, name).write_text("page")
        day = f"2026-{1 + number // 28 % 12:02}-{1 + number % 28:02}T03:00:00+00:00"
        card = {"thumbnail": PICTURE, "measured": day, "quality": {"rsp": 0.9 + number % 7 / 100}, "seconds": 60.0, **facts}
        write_json(card_file(config, name), CardFacts.model_validate(card).model_dump(mode="json"))
    write_sheet(config.acquisitions, rows)
    return rows


def page(config: Config) -> Page:
    return Page(index.write_index(config).read_text(encoding="utf-8"))


def test_the_last_nights_stand_there_with_states_hours_pixels_and_failures_by_class(config: Config) -> None:
    write_sheet(config.acquisitions, {})
    failed = [
        StageFailure(subject=f"f{n}", stage="sample", kind=kind, message="m")
        for n, kind in enumerate(["memory", "memory", "damaged input"])
    ]
    for day in range(1, 18):
        add_night(config.results, Night(started=f"2026-11-{day:02}T20:00:00+00:00", ended=f"2026-11-{day:02}T23:00:00+00:00"))
    add_night(
        config.results,
        Night(
            started="2026-11-20T20:00:00+00:00", ended="2026-11-21T05:00:00+00:00", status=1, problems=("Failed: f0, f1, f2.",),
            restored=("r1", "r2"), failed=tuple(failed), deferred={"late": "it did not fit before 07:00"}, reduced={"less": (4, 8)},
            gpu_seconds=9000, megapixels=1234.4,
        ),
    )  # fmt: skip
    shown = page(config)
    words = " ".join(shown.words.split())
    assert "2026-11-20" in words and "2026-11-05" in words and "2026-11-04" not in words  # fourteen nights
    assert words.index("2026-11-20") < words.index("2026-11-17")
    for part in (
        "a person must act22 memory, 1 damaged input–112.51,234",
        "late: it did not fit before 07:00",
        "less: 4 of 8 samples",
    ):
        assert part in words
    assert "Quality over time" not in words


def test_hostile_names_in_the_record_of_a_night_stay_words(config: Config) -> None:
    finished(config, 3)
    rows = {name: row.model_copy(update={"instrument": HOSTILE}) for name, row in finished(config, 3).items()}
    write_sheet(config.acquisitions, rows)
    failure = StageFailure(subject=HOSTILE, stage=HOSTILE, kind=HOSTILE, message=HOSTILE)
    night = Night(started=HOSTILE, ended=HOSTILE, problems=(HOSTILE,), remarks=(HOSTILE,), failed=(failure,), deferred={HOSTILE: HOSTILE},
                  reduced={HOSTILE: (4, 8)}, status=99)  # fmt: skip
    add_night(config.results, night)
    shown = page(config)
    assert len(shown.all("script")) == 1 and not [tag for tag in shown.all("img") if "onerror" in tag]
    assert HOSTILE in shown.words


def test_a_card_that_somebody_changed_does_not_load_anything_from_elsewhere(config: Config) -> None:
    finished(config, 1)
    write_json(
        card_file(config, "a0000"),
        CardFacts(thumbnail=PICTURE.model_copy(update={"src": "https://evil.org/x.png"})).model_dump(mode="json"),
    )
    assert "evil.org" not in page(config).text
    card_file(config, "a0000").write_text("[1")
    assert "made again" in page(config).words


def test_trends_have_a_line_for_each_instrument_and_a_unit(config: Config) -> None:
    finished(config, 9, gain=3.0, figures=(KeyFigure("RSP", "", "0.9", "", ""),))
    words = page(config).text
    for part in (
        "RSP of the restored image",
        "gain in scale-invariant PSNR over the input [dB]",
        "LSM 980",
        "Ti2",
        UNKNOWN,
        "day on which it was measured",
    ):
        assert part in words
    assert INSTRUMENTS >= 3


def test_thousands_of_acquisitions_are_read_quickly_and_make_no_endless_page(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SHOWN", 20)
    finished(config, 300)
    add_night(config.results, Night(started="2026-11-20T20:00:00+00:00", ended="2026-11-21T05:00:00+00:00"))
    begin = time.process_time()
    shown = page(config)
    assert (time.process_time() - begin) / 300 < 0.02
    pictures = [tag for tag in shown.all("img") if tag.get("class") == "thumb"]
    assert len(pictures) == 20
    assert "280 older acquisitions" in shown.words and all(f"a{number:04}" in shown.words for number in range(300))
