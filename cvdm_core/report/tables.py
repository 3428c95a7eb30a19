"""The metrics of one acquisition as tables and as plain words. Reads what `cvdm evaluate` wrote; draws nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cvdm_core.errors import UserError
from cvdm_core.quality.table import DEFINITIONS
from cvdm_core.report.metrics import AT_LIMIT, IMAGES, METRICS, Metric, at_limit, nanometres, number, signed
from cvdm_core.report.page import clean

NO_REASON = "no reason was recorded"
SMALLEST_GAIN = 0.1  # in scale-invariant PSNR that is called one [dB]
COLUMNS = ("channel", "image", "metric", "value", "unit", "reference", "reason")
SEEN = {
    "trained_on": "The model was trained on this image",
    "chosen_by": "The weights of the model were chosen by this image, which was among its validation data",
}


@dataclass(frozen=True)
class Cell:
    """One number of a table and a few words `beside` it, or why there is none (`note` is the number of the footnote)."""

    text: str
    note: int = 0
    best: bool = False
    beside: str = ""


@dataclass(frozen=True)
class Row:
    """One metric of one channel over all images."""

    label: str
    unit: str
    definition: str
    direction: str
    cells: tuple[Cell | None, ...]
    gain: str


@dataclass(frozen=True)
class Table:
    """The metrics of one channel. `notes` are the reasons of its empty cells; `missing` are metrics without any value, by reason."""

    channel: str
    images: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]


def read_metrics(path: str | Path) -> pd.DataFrame:
    """Read `metrics.tsv`; a value that is null is NaN.

    Raises
    ------
    UserError
        If the file is missing or is not such a table.
    """
    try:
        frame = pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)
    except FileNotFoundError:
        raise UserError(f"{path}: there are no metrics; run the workflow again.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        raise UserError(f"{path}: the metrics cannot be read as a table; delete the file and run the workflow again.") from None
    if missing := [name for name in COLUMNS if name not in frame]:
        raise UserError(f"{path}: the metrics lack the column {missing[0]!r}; delete the file and run the workflow again.")
    return frame.assign(value=pd.to_numeric(frame["value"], errors="coerce"))


def before_after(frame: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Return a metric of the input and of the restored image: means over the channels that have both.

    Where the input has no such metric at all, the first is NaN and the second the mean over the channels that have it.
    """
    values = _by_channel(frame, metric)
    return float(values["input"].mean()), float(values["restored"].mean())


def _by_channel(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    part = frame[frame["metric"] == metric]
    values = part.pivot_table("value", "channel", "image", aggfunc="first").reindex(columns=["input", "restored"])
    return values if values["input"].isna().all() else values.dropna()


def definitions(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return (label, plain words, exact definition) of the metrics in a table."""
    known = [name for name in METRICS if name in set(frame["metric"])]
    return [(METRICS[name].label, METRICS[name].definition, DEFINITIONS[name][2]) for name in known]


def tables(frame: pd.DataFrame, expected: float = math.nan, finest: float = math.nan) -> list[Table]:
    """Return one table a channel: a row a metric, a column an image.

    `expected` is the coverage that a perfect sampler would show, and `finest` the detail that the pixels can hold [µm]; NaN if unknown.
    """
    return [_table(str(channel), part, expected, finest) for channel, part in frame.groupby("channel", sort=False)]


def _table(channel: str, frame: pd.DataFrame, expected: float, finest: float) -> Table:
    order = {name: number for number, name in enumerate([*IMAGES, *METRICS])}
    missing: dict[str, tuple[str, ...]] = {}
    for name in sorted(dict.fromkeys(frame["metric"]), key=lambda name: order.get(name, len(order))):
        part = frame[frame["metric"] == name]
        if part["value"].isna().all() and part["reason"].nunique() == 1:
            reason = str(part["reason"].iloc[0]) or NO_REASON
            missing[reason] = (*missing.get(reason, ()), METRICS[name].label if name in METRICS else str(name))
            frame = frame[frame["metric"] != name]
    images, metrics = (sorted(dict.fromkeys(frame[key]), key=lambda name: order.get(name, len(order))) for key in ("image", "metric"))
    notes: list[str] = []
    rows = [_row(metric, frame[frame["metric"] == metric], images, notes, expected, finest) for metric in metrics]
    return Table(channel, tuple(IMAGES.get(name, (name, "")) for name in images), tuple(rows), tuple(notes), missing)


def _row(name: str, frame: pd.DataFrame, images: list[str], notes: list[str], expected: float, finest: float) -> Row:
    metric = METRICS.get(name, Metric(name, "none", 4, ""))
    first = frame.drop_duplicates("image").set_index("image")
    values = {str(image): float(value) for image, value in first["value"].items()}
    shown = {image: _shown(name, value, metric.digits, expected, finest) for image, value in values.items()}
    best = _best(values, {image: text for image, (text, _) in shown.items()}, metric.better)
    cells: list[Cell | None] = []
    for image in images:
        if image not in values:
            cells.append(None)
        elif math.isnan(values[image]):
            reason = str(first.loc[image, "reason"]) or NO_REASON
            if reason not in notes:
                notes.append(reason)
            cells.append(Cell("n/a", notes.index(reason) + 1))
        else:
            text, beside = shown[image]
            cells.append(Cell(text, best=image in best, beside=beside))
    before, after = values.get("input", math.nan), values.get("restored", math.nan)
    known = metric.better in ("higher", "lower") and math.isfinite(before) and math.isfinite(after)
    direction = {"higher": "higher is better", "lower": "lower is better", "one": "1 is best", "none": ""}[metric.better]
    units = [str(unit) for unit in frame["unit"] if unit]
    difference = signed(after - before, metric.digits) if known else ""
    return Row(metric.label, units[0] if units else "", metric.definition, direction, tuple(cells), difference)


def _shown(name: str, value: float, digits: int, expected: float, finest: float) -> tuple[str, str]:
    """Return a value as it is printed, and a few words beside it."""
    if name == "coverage":
        return f"{100 * value:.0f} %", "" if math.isnan(expected) else f"({100 * expected:.0f} % expected)"
    if name == "frc_resolution" and at_limit(value, finest):
        return f"≤ {number(finest, digits)}", AT_LIMIT
    return number(value, digits), ""


def _best(values: dict[str, float], printed: dict[str, str], better: str) -> set[str]:
    """Return the images with the best value as it is printed; none where there is nothing to compare.

    Nobody wins a metric that is best at 1: noise in the input, for example, passes for power at high frequencies.
    """
    finite = {image: value for image, value in values.items() if not math.isnan(value)}
    if better not in ("higher", "lower") or len(finite) < 2:
        return set()
    top = (max if better == "higher" else min)(finite, key=lambda image: finite[image])
    return {image for image in finite if printed[image] == printed[top]}


@dataclass(frozen=True)
class KeyFigure:
    """A number at the head of the page, before and after."""

    label: str
    before: str
    after: str
    unit: str
    hint: str


def key_figures(frame: pd.DataFrame, finest: float = math.nan) -> list[KeyFigure]:
    """Return the few numbers that a reader should see first (means over channels).

    Coverage is not among them: the background, most of the pixels, decides it. `finest` is the detail that the pixels can hold [µm].
    """
    calibrated = "(1 is calibrated, below 1 over-confident)"
    shown = (("psnr_si", "dB", 1), ("ssim", "", 2), ("frc_resolution", "nm", 0), ("rsp", "", 3), ("spread_skill", calibrated, 2))
    figures = []
    for name, unit, digits in shown:
        before, after = before_after(frame, name)
        if not math.isnan(after):
            resolved = name == "frc_resolution"
            first, last = (nanometres(value, finest) if resolved else number(value, digits) for value in (before, after))
            unit = f"{unit} {AT_LIMIT}" if resolved and at_limit(after, finest) else unit
            figures.append(KeyFigure(METRICS[name].label, "" if math.isnan(before) else first, last, unit, METRICS[name].definition))
    return figures


def verdict(frame: pd.DataFrame, estimate: str, finest: float = math.nan) -> tuple[str, str]:
    """Return (tone, sentence) about one acquisition: "good", "flat", "bad" or "unknown", and plain words with numbers.

    The tone is that of the worst channel, and the sentence names those that earned it, unless all is good or there is one only.
    `estimate` names what was measured, such as "the mean of 8 samples"; `finest` is the detail that the pixels can hold [µm].
    """
    before, after = before_after(frame, "psnr_si")
    if math.isnan(before) or math.isnan(after):
        _, agreement = before_after(frame, "rsp")
        start = "There is no usable truth for this acquisition, so how accurate the restored pixels are was not measured here."
        if math.isnan(agreement):
            return "unknown", start
        return (
            "unknown",
            f"{start} Blurred to the input's resolution, {estimate} agrees with the input to RSP {number(agreement, 3)} (1 is perfect).",
        )
    numbers = f"scale-invariant PSNR {number(before, 1)} → {number(after, 1)} dB ({signed(after - before, 1)} dB) for {estimate}"
    channels = _by_channel(frame, "psnr_si")
    gains = (channels["restored"] - channels["input"]).fillna(0)  # infinite in both: the input is the truth
    if gains.min() >= SMALLEST_GAIN:
        return "good", f"The restored image is closer to the truth than the input is: {numbers}{_also(frame, finest)}."
    if gains.min() <= -SMALLEST_GAIN:
        tone, named = "bad", channels[gains <= -SMALLEST_GAIN]
        said = f"is further from the truth than the input is, so do not use it{' there' if len(channels) > 1 else ''}"
    else:
        tone, named, said = "flat", channels[gains < SMALLEST_GAIN], "is no closer to the truth than the input is"
    if len(channels) == 1:
        return tone, f"The restored image {said}: {numbers}."
    ends = zip(named.index, named["input"], named["restored"], strict=True)
    listed = ", ".join(f"{clean(channel)} ({number(first, 1)} → {number(last, 1)} dB)" for channel, first, last in ends)
    where = f"In the channel{'s' if len(named) > 1 else ''} {listed}"
    return tone, f"{where} the restored image {said}; mean of the channels: {numbers}."


def seen(frame: pd.DataFrame) -> str:
    """Return a sentence if the model has seen the acquisition before, which makes its figures no evidence; empty if not."""
    known = [words for metric, words in SEEN.items() if metric in set(frame["metric"])]
    return f"{known[0]}: its figures say little about other images, and count in no mean gain." if known else ""


def outdone(frame: pd.DataFrame) -> str:
    """Return a sentence if the standard deviation finds the errors no better than the control does; empty if it does, or if unknown."""
    metrics = frame.pivot_table("value", "channel", "metric", aggfunc="first")
    both = metrics.reindex(columns=["spearman_std", "spearman_input"]).dropna()
    named = both.index[both["spearman_std"] <= both["spearman_input"]]
    if named.empty:
        return ""
    channels = f"In the channel{'s' if len(named) > 1 else ''} {', '.join(map(clean, named))}"
    where = "Here" if len(named) == len(both) else channels
    return f"{where} the brightness of the input tells where the errors are at least as well as the standard deviation does."


def _also(frame: pd.DataFrame, finest: float) -> str:
    before, after = before_after(frame, "frc_resolution")
    if math.isnan(before) or math.isnan(after):
        return ""
    limit = f" {AT_LIMIT}" if at_limit(after, finest) else ""
    return f", finest detail shared with the truth {nanometres(before, finest)} → {nanometres(after, finest)} nm{limit}"
