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
