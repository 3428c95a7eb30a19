"""The training-pair certificate: what was measured between an input and its target, what was done about it, and one sentence.

It stands in the receipt of ingest and in the attribute "cvdm" of the target's store, where training, evaluation and the pages find it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import xarray as xr

Verdict = Literal["aligned", "corrected", "refused", "not measurable"]
ATTRIBUTE = "pair"  # within the attribute "cvdm"


@dataclass(frozen=True)
class ChannelCertificate:
    """What was measured in one channel; lengths in input pixels, None where nothing could be measured.

    Attributes
    ----------
    verdict : str
        "aligned", "corrected", "refused" or "not measurable".
    reason : str
        The figures that the verdict rests on, in words.
    shift_px, uncertainty_px, residual_px : (y, x) of the target at the field's centre, its standard error, and the median distance of
        windows from the common displacement.
    rotation_mrad, scale_error : of the target against the input.
    agreeing, windows : windows that agree on the displacement, and that were looked at.
    moved : (shift y, shift x [input pixels], rotation [rad], scale error) that the stored target was moved back by; None: untouched.
    slope, intercept, r2, curvature : the line target = slope * input + intercept through smoothed pixels, its coefficient of
        determination, and how far a parabola bends away from it in the middle, as a share of the line's rise.
    saturated : share of pixels at the largest value, of "input" and "target".
    """

    channel: str
    verdict: Verdict
    reason: str
    shift_px: tuple[float, float] | None
    uncertainty_px: float | None
    residual_px: float | None
    rotation_mrad: float | None
    scale_error: float | None
    agreeing: int
    windows: int
    moved: tuple[float, float, float, float] | None
    slope: float | None
    intercept: float | None
    r2: float | None
    curvature: float | None
    saturated: dict[str, float]


@dataclass(frozen=True)
class Certificate:
    """The certificate of a pair.

    Attributes
    ----------
    verdict, sentence : str
        The worst of the channels' verdicts, and what it means in one sentence.
    valid : ((start, stop), (start, stop))
        Rows and columns of the input whose target was acquired: moving a target back leaves an edge without data.
    overlap : float
        Share of the input's pixels that are valid.
    pixel_nm : float
        Pixel size of the input [nanometres].
    channels : tuple of ChannelCertificate
    """

    verdict: Verdict
    sentence: str
    valid: tuple[tuple[int, int], tuple[int, int]]
    overlap: float
    pixel_nm: float
    channels: tuple[ChannelCertificate, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for a receipt."""
        return asdict(self)

    @property
    def usable(self) -> bool:
        """Whether the target may be learned from and compared with."""
        return self.verdict != "refused"


def read_certificate(target: xr.DataArray) -> Certificate | None:
    """Return the certificate of an opened target; None where an older version ingested it."""
    stored = target.attrs["cvdm"].get(ATTRIBUTE)
    if stored is None:
        return None
    (first_y, last_y), (first_x, last_x) = stored["valid"]
    channels = tuple(ChannelCertificate(**channel) for channel in stored["channels"])
    return Certificate(**{**stored, "channels": channels, "valid": ((first_y, last_y), (first_x, last_x))})


def valid_part(image: xr.DataArray, certificate: Certificate | None, input_rows: int) -> xr.DataArray:
    """Return the part of an image whose target was acquired: all of it, unless the target was moved.

    The image has the input's sampling or a whole multiple of it; `input_rows` is the number of the input's rows.
    """
    if certificate is None:
        return image
    scale = image.shape[3] // input_rows
    return image.isel({axis: slice(start * scale, stop * scale) for axis, (start, stop) in zip("yx", certificate.valid, strict=True)})
