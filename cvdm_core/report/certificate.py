"""The training-pair certificate as a table: one row a figure, one column a channel, lengths in input pixels and in nanometres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cvdm_core.images.certificate import Certificate, ChannelCertificate, read_certificate
from cvdm_core.images.reading import open_image

UNKNOWN = "not measured"
TONES: Mapping[str, str] = {"aligned": "good", "corrected": "flat", "refused": "bad", "not measurable": "unknown"}


@dataclass(frozen=True)
class CertificateTable:
    """What the page shows: `rows` are (label, explanation, one text a channel)."""

    tone: str
    sentence: str
    channels: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


def certificate_table(target: Path) -> CertificateTable | None:
    """Return the certificate of a target's store; None where there is no target, or an older version ingested it."""
    found = read_certificate(open_image(target)) if target.is_dir() else None
    if found is None:
        return None
    columns = [_column(found, channel) for channel in found.channels]
    rows = tuple((label, text, tuple(column[label] for column in columns)) for label, text in EXPLAINED.items())
    return CertificateTable(TONES[found.verdict], found.sentence, tuple(channel.channel for channel in found.channels), rows)


EXPLAINED: Mapping[str, str] = {
    "Verdict": "What was decided for this channel",
    "Shift of the target, y and x": "Where the target's content lies relative to the input's, at the centre of the field",
    "Standard error of the shift": "From the scatter of the windows that were compared",
    "Residual": "Median distance of the windows from the common displacement: what a shift, a rotation and a scale cannot explain",
    "Rotation": "Of the target against the input, from x towards y",
    "Scale error": "Magnification of the target beyond what the pixel sizes say",
    "Windows that agree": "Windows with the same displacement, of those that were compared",
    "Moved back by": "What the stored target was interpolated by, before anything was learned from it or compared with it",
    "Overlap": "Share of the field for which the target was acquired; only this part is trained on and measured",
    "Intensities, target = a · input + b": "Line through smoothed pixels",
    "R² of the line": "Share of the smoothed target's variance that the line explains",
    "Curvature": "How far a parabola bends away from the line in the middle, as a share of the line's rise",
    "Saturated pixels, input and target": "Share of pixels at the largest value",
}


def _column(pair: Certificate, channel: ChannelCertificate) -> dict[str, str]:
    moved = channel.moved
    line = f"a = {channel.slope:.4g}, b = {channel.intercept:.4g}" if channel.slope is not None else UNKNOWN
    values = [
        f"{channel.verdict} ({channel.reason})",
        _lengths(channel.shift_px, pair.pixel_nm, signed=True),
        _lengths(_single(channel.uncertainty_px), pair.pixel_nm),
        _lengths(_single(channel.residual_px), pair.pixel_nm),
        UNKNOWN if channel.rotation_mrad is None else f"{channel.rotation_mrad:+.2f} mrad",
        UNKNOWN if channel.scale_error is None else f"{100 * channel.scale_error:+.3f} %",
        f"{channel.agreeing} of {channel.windows}",
        "not moved"
        if moved is None
        else f"{_lengths(moved[:2], pair.pixel_nm, True)}; {1000 * moved[2]:+.2f} mrad; {100 * moved[3]:+.3f} %",
        f"{100 * pair.overlap:.1f} %",
        line,
        UNKNOWN if channel.r2 is None else f"{channel.r2:.3f}",
        UNKNOWN if channel.curvature is None else f"{100 * channel.curvature:.1f} %",
        ", ".join(f"{100 * channel.saturated[role]:.2g} %" for role in ("input", "target")),
    ]
    return dict(zip(EXPLAINED, [values[0], *(value.replace("-", "−") for value in values[1:])], strict=True))


def _single(value: float | None) -> tuple[float] | None:
    return None if value is None else (value,)


def _lengths(pixels: tuple[float, ...] | None, pixel_nm: float, signed: bool = False) -> str:
    if pixels is None:
        return UNKNOWN
    sign = "+" if signed else ""
    lengths = [", ".join(format(value * unit, f"{sign}.{digits}f") for value in pixels) for unit, digits in ((1, 2), (pixel_nm, 0))]
    return f"{lengths[0]} px ({lengths[1]} nm)"
