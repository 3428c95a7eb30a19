"""The line of one acquisition on the index page: made once, with its report, so that the index of thousands is read and not drawn.

`card.json` beside the report holds the thumbnail, the few figures that the index shows, and what its totals and trends add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.records.receipts import read_json, write_json
from cvdm_core.report import tables
from cvdm_core.report.inputs import unlike
from cvdm_core.report.metrics import finest_detail
from cvdm_core.report.pictures import ScaleBar, display_shape, match, png_uri, resize, scale_bar, window
from cvdm_core.report.planes import find_sources, open_plane, read_field
from cvdm_core.sheet import Acquisition

THUMBNAIL = 128  # longer side [pixels]
TRENDS = ("rsp", "psnr_si")


class Thumbnail(BaseModel):
    """Left half input, right half restored."""

    model_config = ConfigDict(frozen=True)

    src: str
    width: int
    height: int
    bar: ScaleBar


class CardFacts(BaseModel):
    """What the index page shows and adds up of a finished acquisition.

    Attributes
    ----------
    thumbnail : None where it could not be drawn; `problem` then says why.
    figures : key figures, before and after.
    gain : scale-invariant PSNR over that of the input [dB]; None without truth, or if the model has seen the image before.
    seconds : of all its jobs, from ingest to evaluation.
    measured : when it was evaluated (UTC, ISO 8601); empty if unknown.
    quality : figures of the restored image by the name of the metric, means over channels.
    unlike : a sentence where the input looks like nothing that the model was trained on.
    """

    model_config = ConfigDict(frozen=True)

    thumbnail: Thumbnail | None = None
    figures: tuple[tables.KeyFigure, ...] = ()
    gain: float | None = None
    seconds: float = 0.0
    measured: str = ""
    quality: dict[str, float] = {}
    unlike: str = ""
    problem: str = ""


def card_file(config: Config, name: str) -> Path:
    """Return where the card of an acquisition lies."""
    return paths.restored_folder(config, name) / "card.json"


def write_card(config: Config, row: Acquisition) -> Path:
    """Make the card and write it; what cannot be read is said on it."""
    path = card_file(config, row.acquisition)
    write_json(path, make_card(config, row).model_dump(mode="json"))
    return path


def read_card(config: Config, row: Acquisition) -> CardFacts:
    """Return the card that was written with the report, or make it where it is missing or damaged."""
    try:
        card = CardFacts.model_validate(read_json(card_file(config, row.acquisition)))
    except (UserError, OSError, ValidationError):
        return make_card(config, row)
    # The page would show whatever address stands here.
    return card if card.thumbnail is None or card.thumbnail.src.startswith("data:image/png;base64,") else make_card(config, row)


def make_card(config: Config, row: Acquisition) -> CardFacts:
    """Draw and add up what the index page shows of an acquisition."""
    facts: dict[str, Any] = {"seconds": sum(seconds_of(path) for path in _receipts(config, row.acquisition))}
    problems = []
    try:
        facts["thumbnail"] = _thumbnail(config, row)
    except Exception as error:  # the page must be written whatever a damaged store raises; the reader is told
        problems.append(f"The picture could not be read ({_short(error)}); run `cvdm verify` to see what is damaged.")
    try:
        frame = tables.read_metrics(paths.restored_folder(config, row.acquisition) / "metrics.tsv")
        finest = finest_detail(row.pixel_size_um, config.model.scale)
        facts["figures"] = tuple(tables.key_figures(frame, finest)[:3])
        before, after = tables.before_after(frame, "psnr_si")
        facts["gain"] = after - before if math.isfinite(after - before) and not tables.seen(frame) else None
        quality = {name: tables.before_after(frame, name)[1] for name in TRENDS}
        facts["quality"] = {name: value for name, value in quality.items() if math.isfinite(value)}
        evaluated = read_json(paths.evaluate_receipt(config, row.acquisition))
        facts["measured"], facts["unlike"] = str(evaluated.get("started", "")), unlike(evaluated)
    except Exception as error:
        problems.append(f"The metrics could not be read ({_short(error)}).")
    return CardFacts(**facts, problem=" ".join(problems))


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _thumbnail(config: Config, row: Acquisition) -> Thumbnail:
    """Draw the first channel of the input and of the restored image, half and half, in one display window."""
    sources = find_sources(config, row)
    whole = open_plane(*sources.of("restored"), 0)
    shape = display_shape((whole.shape[0], whole.shape[1]), THUMBNAIL)
    shrinks = whole.shape[0] / shape[0]
    restored, raw = (read_field(sources, kind, 0, shape, shrinks) for kind in ("restored", "input"))
    picture = np.where(np.arange(shape[1]) < shape[1] // 2, match(raw, restored)(raw), restored)
    bar = scale_bar(whole.shape[1] * whole.attrs["pixel_size_um"][1], share=0.4)
    src = png_uri(resize(picture, shape), window(restored), levels=64)
    return Thumbnail(src=src, width=shape[1], height=shape[0], bar=bar)


def _receipts(config: Config, name: str) -> Iterator[Path]:
    folder = paths.restored_folder(config, name)
    yield paths.ingest_receipt(config, name)
    yield from folder.glob("blocks/*.json")
    yield from (paths.stitch_receipt(config, name), paths.evaluate_receipt(config, name))


def seconds_of(path: Path) -> float:
    """Return how long the stage of a receipt took; 0 where the receipt is missing or damaged (verify tells)."""
    try:
        return float(read_json(path).get("seconds", 0.0))
    except (UserError, OSError, TypeError, ValueError):
        return 0.0
