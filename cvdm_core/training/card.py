"""The model card: what a person should know before trusting the model (after Mitchell et al. 2019, doi:10.1145/3287560.3287596)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def write_card(info: Mapping[str, Any], settings: Mapping[str, Any], normalisation: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    info, settings, normalisation : mapping
        As in `model.yaml`.
    """
    data: list[Mapping[str, Any]] = info["data"]
    sections = [
        f"# Model card: {_text(info['name'])}",
        f"{_what(info)} Made by cvdm {info['versions']['cvdm']}, seed {info['seed']}.",
        "## Intended use",
        _use(info, normalisation),
        "## Training data",
        _data(data),
        "## Figures",
        _figures(info["numbers"]),
        "## Intensities",
        _intensities(normalisation),
        "## Limits",
        _limits(data),
        "## Training",
        "\n".join(f"* {key}: {value}" for key, value in settings["training"].items()),
    ]
    return "\n\n".join(sections) + "\n"


def _what(info: Mapping[str, Any]) -> str:
    kind = (
        "A conditional variational diffusion model (arXiv 2312.02246) that draws samples of the restored image"
        if info["objective"] == "diffusion"
        else "A regression network, the control of equal size: it gives one restored image and no uncertainty"
    )
    return f"{kind}; {info['parameters']:,} parameters; output pixels for each input pixel along y and x: {info['scale']}."


def _use(info: Mapping[str, Any], normalisation: Mapping[str, Any]) -> str:
    compared = "; the report says of each input whether it looks like those of the training"
    return (
        f"Images of the same kind of specimen, microscope, channel and exposure as the training data, with an input pixel of "
        f"{info['input_pixel_size_um']:.4g} µm (result: {info['pixel_size_um']:.4g} µm). Channels: {', '.join(map(_text, normalisation))}. "
        f"Whether it is valid on other images must be measured there{compared if info['inputs']['channels'] else ''}."
    )


def _data(data: list[Mapping[str, Any]]) -> str:
    lines = ["| split | acquisition | specimen | T, C, Z, Y, X of the input |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {entry['split']} | {_text(entry['acquisition'])} | {_text(entry['specimen'])} | {' x '.join(map(str, entry['shape']))} |"
        for entry in data
    ]
    return "\n".join(lines)


def _figures(numbers: Mapping[str, Any]) -> str:
    lines = [f"Weights of step {numbers['weights_step']} of {numbers['steps']} (moving average)."]
    if numbers["validation"]:
        lines += ["", "On crops of the validation pairs, PSNR in dB with the truth's range (the report has figures of whole images):", ""]
        lines += [f"* {name.removeprefix('val/')}: {value:.4g}" for name, value in numbers["validation"].items()]
    else:
        lines.append("There were no validation pairs, so nothing is known about its quality and the last weights were taken.")
    return "\n".join(lines)


def _intensities(normalisation: Mapping[str, Any]) -> str:
    lines = [
        "Model units = (counts - offset) / scale.",
        "",
        "| channel | input offset, scale | target offset, scale |",
        "| --- | --- | --- |",
    ]
    for name, maps in normalisation.items():
        cells = [f"{maps[side]['offset']:.6g}, {maps[side]['scale']:.6g}" for side in ("input", "target")]
        lines.append(f"| {_text(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _limits(data: list[Mapping[str, Any]]) -> str:
    specimens = len({entry["specimen"] for entry in data if entry["split"] == "train"})
    return "\n".join(
        [
            f"* It has seen {specimens} specimen{'s' if specimens != 1 else ''}; what was not among them may be drawn wrongly.",
            "* Details below the resolution of the input are drawn from what was learned, not measured; look at the standard deviation.",
            "* The spread of samples holds the noise of the image, not whether the model fits the image.",
            "* Intensities outside the range of the training set are extrapolated.",
        ]
    )


def _text(value: object) -> str:
    """Return text from a file's metadata in a form that Markdown takes literally."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>()#+-!|" else character for character in " ".join(str(value).split()))
