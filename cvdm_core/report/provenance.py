"""What made the result: settings, versions and sources of one acquisition, as a table and as a paragraph for a paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cvdm_core import __version__
from cvdm_core.config import Config
from cvdm_core.images.reading import open_image
from cvdm_core.report.planes import Sources
from cvdm_core.sheet import Acquisition


def facts(
    config: Config, row: Acquisition, sources: Sources, stitched: Mapping[str, Any], evaluated: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the settings and the provenance as (name, value), in reading order."""
    sizes = " × ".join(f"{size} {axis}" for size, axis in zip(row.shape, "TCZYX", strict=True))
    sources_in_words = {"metadata": "from the file's metadata", "stated": "stated by a person in the sample sheet", "": "source unknown"}
    source = sources_in_words[row.pixel_size_source]
    emission, exposure = (", ".join(f"{value:g}" for value in values) for values in (row.emission_nm, row.exposure_ms))
    pixel = row.pixel_size_um or math.nan
    made = _makers(stitched)
    sampling = config.sampling
    listed = [
        ("Input file", row.input),
        ("Truth file", row.target or "none"),
        ("Specimen, split", f"{row.specimen}, {row.split}"),
        ("Input size and type", f"{sizes}, {row.dtype}"),
        ("Pixel size of the input", f"{pixel:.4g} µm ({source})"),
        ("Pixel size of the restored image", f"{pixel / config.model.scale:.4g} µm (scale ×{config.model.scale})"),
        ("z step", f"{row.z_step_um:.4g} µm ({sources_in_words[row.z_step_source]})" if row.z_step_um else ""),
        ("Time step", f"{row.time_step_s:.4g} s" if row.time_step_s else ""),
        ("Instrument", f"{row.instrument} ({sources_in_words[row.instrument_source]})" if row.instrument else ""),
        ("Objective", f"{row.objective} ({sources_in_words[row.objective_source]})" if row.objective else ""),
        ("Numerical aperture", f"{row.na:g} ({sources_in_words[row.na_source]})" if row.na else ""),
        ("Magnification", f"{row.magnification:g}×" if row.magnification else ""),
        ("Emission", f"{emission} nm ({sources_in_words[row.emission_source]})" if emission else ""),
        ("Exposure", f"{exposure} ms" if exposure else ""),
        ("Acquired", row.acquired),
        ("Assumed, because the file does not say", row.assumed),
        ("Model", f"{config.model.name} ({config.model.objective}, schedule {config.model.schedule.kind})"),
        ("Model chosen by", ", ".join(stitched.get("settings", {}).get("routing", {}).get("chosen_by", []))),
        ("Model weights, sha256", weights_sha256(sources)),
        ("Posterior samples", str(sampling.samples) if "std" in sources.extra else "none (one estimate)"),
        ("Denoising steps", f"{sampling.steps}, {sampling.method}"),
        ("Seed of the noise", str(sampling.seed)),
        ("Interval", f"{sampling.quantiles[0]:g} to {sampling.quantiles[1]:g} quantile of the samples" if "std" in sources.extra else ""),
        ("Halo, precision", f"{sampling.halo} pixels, {sampling.precision}"),
        ("Restored, measured", f"{made[0].get('started', '?')}, {evaluated.get('started', '?')}"),
        ("Machine", _each(str(maker.get("host", "?")) for maker in made)),
        ("Versions", _each((", ".join(f"{name} {version}" for name, version in _versions(maker).items()) for maker in made), "; ")),
        ("Note", row.note),
    ]
    return [(name, value) for name, value in listed if value]


def _makers(stitched: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return who made the pixels; whoever stitched them where that is not recorded."""
    whoever = {**stitched, "host": stitched.get("machine", {}).get("host", "?")}
    return stitched.get("details", {}).get("made") or [whoever]


def _versions(maker: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = maker.get("versions", {"cvdm": __version__})
    return found


def _each(texts: Iterable[str], between: str = ", ") -> str:
    """Return the texts in their order, each once."""
    return between.join(dict.fromkeys(texts))


def weights_sha256(sources: Sources) -> str:
    """Return the sha256 of the weights that made the restored image, as the image itself tells."""
    return str(open_image(sources.restored).attrs["cvdm"].get("weights_sha256", "not recorded"))


def methods(config: Config, row: Acquisition, sources: Sources, stitched: Mapping[str, Any]) -> str:
    """Return a paragraph for the methods section of a paper."""
    used = [_versions(maker) for maker in _makers(stitched)]
    sampling = config.sampling
    pixel = (row.pixel_size_um or math.nan) * 1000
    finer = f", restored to {pixel / config.model.scale:.4g} nm" if config.model.scale > 1 else ""
    what = "a conditional variational diffusion model (CVDM; della Maggiora et al., ICLR 2024, arXiv:2312.02246)"
    if config.model.objective == "regression":
        what = "a regression network"
    drawn = ""
    if "std" in sources.extra:
        drawn = (
            f" For each pixel, {sampling.samples} posterior samples were drawn with {sampling.steps} denoising steps "
            f"each ({sampling.method} sampler, seed {sampling.seed}); the restored image is their mean, and its uncertainty their "
            "standard deviation."
        )
    placed = ""
    if row.is_mosaic:
        placed = (
            " Overlapping fields were assembled before restoration by their stage positions, refined by phase correlation "
            "(multiview-stitcher, doi:10.5281/zenodo.13151252), without blending."
        )
    return (
        f"Images (pixel size {pixel:.4g} nm{finer}) were restored with {what}, as implemented in cvdm "
        f"{_each(each.get('cvdm', __version__) for each in used)} "
        f"(PyTorch {_each(each.get('torch', 'of unknown version') for each in used)}; model {config.model.name}, sha256 of its "
        f"weights {weights_sha256(sources)[:16]})."
        f"{placed}{drawn} Restored pixels are estimates of a model, not measurements."
    )
