"""Where the stage stood when an image was taken, in micrometres, as each dialect of TIFF says it.

The values are the microscope's own: in which direction its axes run against the camera, nothing in a file says reliably.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cvdm_core.images.units import length_um, number

Stage = tuple[float, float]
"""Stage coordinates (y, x) [micrometres]."""

_MICROMANAGER = (("XPositionUm", "YPositionUm"), ("XPosition_um_Intended", "YPosition_um_Intended"))


def from_ome(image: Any) -> Stage | None:
    """Return the position of an OME `Image` element: of its first plane that has one, or else of its stage label.

    A coordinate without a unit is taken for micrometres, as programs mean it that wrote it before the schema had units; one in "reference
    frame", which is the schema's word for unknown, is none.
    """
    elements = list(image.iter())
    for wanted, names in (("Plane", ("PositionX", "PositionY")), ("StageLabel", ("X", "Y"))):
        for element in elements:
            if str(element.tag).rsplit("}", 1)[-1] != wanted:
                continue
            x, y = (length_um(element.get(name), element.get(f"{name}Unit", "µm")) for name in names)
            if x is not None and y is not None:
                return y, x
    return None


def from_micromanager(plane: Mapping[str, Any], summary: Mapping[str, Any], position: int | None) -> Stage | None:
    """Return the position that the metadata of an image's first plane holds, or else the list of positions in the summary.

    Parameters
    ----------
    plane, summary
        Metadata of the plane and of the whole acquisition.
    position
        Number of the image in the list of positions, if it is one of several.
    """
    for names in _MICROMANAGER:
        x, y = (number(plane.get(name)) for name in names)
        if x is not None and y is not None:
            return y, x
    listed = summary.get("StagePositions") or summary.get("InitialPositionList")
    if position is None or not isinstance(listed, list) or not position < len(listed) or not isinstance(listed[position], dict):
        return None
    return _from_list(listed[position])


def from_lsm(metadata: Mapping[str, Any], places: Mapping[str, int]) -> Stage | None:
    """Return the position of a tile or of an acquisition of several positions, which LSM files hold in metres.

    Zeiss counts tiles from the acquired region or from the stage's zero and does not say which, so that a file with several positions
    of several tiles each tells no place.

    Parameters
    ----------
    metadata
        What tifffile reads from the tag CZ_LSMINFO.
    places
        Index of the image along the axes M (tiles) and P (positions), those that the file has more than one of.
    """
    if len(places) != 1:
        return None
    ((axis, number_of_place),) = places.items()
    listed = metadata.get({"M": "TilePositions", "P": "Positions"}.get(axis, ""))
    if listed is None or not number_of_place < len(listed):
        return None
    x, y = (length_um(float(value), "m") for value in listed[number_of_place][:2])
    return None if x is None or y is None else (y, x)


def _from_list(entry: Mapping[str, Any]) -> Stage | None:
    """Return the coordinates of the stage with two axes: of the default one where the entry names it."""
    devices: dict[str, Any] = {}
    coordinates = entry.get("DeviceCoordinatesUm")  # Micro-Manager 1.4
    if isinstance(coordinates, dict):
        devices |= coordinates
    positions = entry.get("DevicePositions")  # Micro-Manager 2
    for device in positions if isinstance(positions, list) else ():
        if isinstance(device, dict):
            devices[str(device.get("Device"))] = device.get("Position_um")
    default = str(entry.get("DefaultXYStage"))
    for name in (default, *devices):
        values = devices.get(name)
        if isinstance(values, list) and len(values) == 2:
            x, y = (number(value) for value in values)
            return None if x is None or y is None else (y, x)
    return None
