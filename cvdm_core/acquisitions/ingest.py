"""From the TIFFs of a registered acquisition to OME-Zarr, shard by shard, so that memory does not grow with the image.

The TIFFs must still be what was registered. A target is compared with its input (`certify`) and moved back where it lies a little off;
without need not one of its bits changes. Both stores are written beside their final places, checked, and renamed; whoever is
killed on the way starts again and ends with the same bytes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cvdm_core import paths
from cvdm_core.acquisitions.measure import open_chosen, stored_dtype
from cvdm_core.acquisitions.mosaics import open_mosaic
from cvdm_core.config import Config, StoreSettings
from cvdm_core.errors import DamagedInputError, UserError
from cvdm_core.files import PARTIAL
from cvdm_core.images.acquired import Planes
from cvdm_core.images.certificate import ATTRIBUTE
from cvdm_core.images.mosaic import ATTRIBUTE as MOSAIC
from cvdm_core.images.mosaic import MosaicPlanes
from cvdm_core.images.omezarr import create_image
from cvdm_core.images.omezarr_metadata import ImageInfo, display_windows, target_origin_um, write_metadata, write_ome_xml
from cvdm_core.images.publishing import publish
from cvdm_core.images.pyramid_writer import PyramidWriter, nested
from cvdm_core.images.tiff_header import TiffHeader
from cvdm_core.images.tiles import Shard, shards
from cvdm_core.records.receipts import Receipt, sha256_file, stage
from cvdm_core.records.verify import folder_checksums
from cvdm_core.sheet import Acquisition, find_acquisition
from cvdm_core.workload import megapixels

if TYPE_CHECKING:
    from cvdm_core.acquisitions.certify import Certified

SAME_LENGTH = 1e-6  # the sheet holds ten digits


@dataclass(frozen=True)
class _Image:
    """One TIFF and the store it becomes."""

    role: str
    path: str
    planes: Planes
    final: Path
    info: ImageInfo
    stamps: dict[Path, tuple[int, int]]

    @property
    def partial(self) -> Path:
        return self.final.with_name(self.final.name + PARTIAL)


def ingest(config: Config, acquisition: str) -> None:
    """Turn the TIFFs of one acquisition into OME-Zarr stores and write the receipt.

    Parameters
    ----------
    config
        The configuration; `config.store` says how stores are written.
    acquisition
        Name of a registered row of the sample sheet.

    Raises
    ------
    UserError
        If the sheet has no such registered row, or a TIFF is missing, damaged, not what was registered, or holds NaN or infinity. No
        store has changed then.
    """
    with stage(paths.ingest_receipt(config, acquisition), "ingest", acquisition, config.results) as receipt, ExitStack() as open_files:
        row = find_acquisition(config.acquisitions, acquisition)
        images = [open_files.enter_context(_opened_input(config, row))]
        if row.target:
            images.append(open_files.enter_context(_opened_target(config, row)))
        _remove_unfinished(config, acquisition)
        open_files.callback(_remove_unfinished, config, acquisition)
        with _progress() as progress:
            written = [_write(image, config.store, progress) for image in images]
            certified = _certified(images, row) if row.target else None
            if certified is not None:
                print(f"note: {certified.certificate.sentence}", file=sys.stderr)
                images[1] = _with_certificate(images[1], certified, images[0].planes.header.shape)
                if certified.moved:
                    shutil.rmtree(images[1].partial)
                    written[1] = _write(images[1], config.store, progress)
        for image in images:
            write_metadata(image.partial, "", replace(image.info, windows=display_windows(image.partial)))
        receipt.read = {str(file): sha256_file(file) for image in images for file in image.stamps}
        for image in images:
            _check_untouched(image)
        names = [publish(image.partial, image.final) for image in images]
        receipt.wrote = {
            str(image.final): folder_checksums(image.final, known, files)
            for image, known, files in zip(images, written, names, strict=True)
        }
        if not row.target:
            shutil.rmtree(paths.target_store(config, acquisition), ignore_errors=True)
        _fill(receipt, config, row, images)
        receipt.usage["megapixels"] = megapixels(config, row, "ingest")


@contextmanager
def _opened_input(config: Config, row: Acquisition) -> Iterator[_Image]:
    with open_mosaic(row, config.acquisitions) if row.is_mosaic else _opened(row, row.input) as planes:
        header = planes.header
        measured = header.pixel_size_um if row.pixel_size_source == "metadata" else None
        facts = [
            ("shape (T, C, Z, Y, X)", header.shape, row.shape),
            ("data type", stored_dtype(header), row.dtype),
            ("pixel size", row.pixel_size_um if measured is None else measured[1], row.pixel_size_um),  # along x, as registration takes it
        ]
        for name, found, known in facts:
            same = abs(found - known) <= SAME_LENGTH * known if isinstance(found, float) and isinstance(known, float) else found == known
            if not same:
                raise UserError(f"{row.input}: changed since registration: its {name} is {found}, not {known}; run `cvdm register` again.")
        info = _info(row, header, "input", row.input, 1)
        if isinstance(planes, MosaicPlanes):
            info.attributes[MOSAIC] = planes.mosaic.to_json()
        yield _Image("input", row.input, planes, paths.raw_store(config, row.acquisition), info, _stamps(planes))


@contextmanager
def _opened_target(config: Config, row: Acquisition) -> Iterator[_Image]:
    with _opened(row, row.target) as planes:
        header = planes.header
        scale = header.shape[3] // row.size_y
        if scale < 1 or header.shape != row.restored_shape(scale):
            raise UserError(
                f"{row.target}: changed since registration: its shape {header.shape} is no whole multiple along y and x of the input's, "
                f"{row.shape} (T, C, Z, Y, X); run `cvdm register` again."
            )
        info = _info(row, header, "target", row.target, scale)
        yield _Image("target", row.target, planes, paths.target_store(config, row.acquisition), info, _stamps(planes))


@contextmanager
def _opened(row: Acquisition, path: str) -> Iterator[Planes]:
    with open_chosen(row, path, "z" if row.size_z > 1 and row.size_t == 1 else "t") as planes:
        planes.check_complete()
        yield planes


def _info(row: Acquisition, header: TiffHeader, role: str, path: str, scale: int) -> ImageInfo:
    pixel = float(row.pixel_size_um or 0) / scale
    attributes: dict[str, Any] = {
        "acquisition": row.acquisition,
        "role": role,
        "source": Path(path).name,
        **({} if row.series is None else {"series": row.series}),
        "pixel_size_source": row.pixel_size_source,
        **{name: value for name in ("z_step_source", "assumed") if (value := getattr(row, name))},
        "source_metadata": _said(header),
    }
    return ImageInfo(
        name=row.acquisition if role == "input" else f"{row.acquisition} (target)",
        pixel_size_um=(pixel, pixel),
        channels=row.channels or header.channels,
        windows=((0.0, 1.0),) * header.shape[1],
        z_step_um=row.z_step_um,
        time_step_s=row.time_step_s,
        origin_um=target_origin_um((pixel, pixel), scale),
        attributes=attributes,
    )


def _said(header: TiffHeader) -> dict[str, Any]:
    """Return what the file says beyond sizes: OME-XML stands beside the pixels as a whole, other dialects here."""
    found = header.metadata
    names = ("dialect", "instrument", "objective", "na", "magnification", "emission_nm", "exposure_ms", "acquired", "said")
    values = {name: getattr(found, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}


def _stamps(planes: Planes) -> dict[Path, tuple[int, int]]:
    return {file: (status.st_size, status.st_mtime_ns) for file, status in ((file, file.stat()) for file in planes.files)}


def _check_untouched(image: _Image) -> None:
    for file, stamp in _stamps(image.planes).items():
        if stamp != image.stamps[file]:
            raise UserError(f"{file}: the file was changed while it was read; wait until the microscope has finished, then run again.")


def _write(image: _Image, store: StoreSettings, progress: Progress) -> dict[str, list[Any]]:
    header = image.planes.header
    regions = shards(header.shape, store.shard)
    bar = progress.add_task(f"{image.info.attributes['acquisition']}, {image.role}", total=len(regions))
    dtype = stored_dtype(header)
    create_image(image.partial, header.shape, dtype, store, grouped=True)
    writer = PyramidWriter(image.partial)
    written: dict[str, list[Any]] = {}
    for region in regions if header.by_rows else nested(header.shape, store.shard):
        plane = image.planes.read(region.t, region.c, region.z, region.y, region.x)
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            raise _not_finite(image, region, plane, store.shard)
        written.update(writer.write(region, plane.astype(dtype, copy=False)))
        progress.advance(bar)
    if header.ome_xml is not None:
        write_ome_xml(image.partial, header.ome_xml)
    return written


def _not_finite(image: _Image, region: Shard, plane: NDArray[Any], edge: int) -> DamagedInputError:
    """Return what is said of a region of a plane that holds NaN or infinity: all that is computed of it would be no number either."""
    rows, columns = np.nonzero(~np.isfinite(plane))
    pieces = shards((1, 1, 1, *image.planes.header.shape[3:]), edge)
    read = (image.planes.read(region.t, region.c, region.z, piece.y, piece.x) for piece in pieces)
    count = sum(np.count_nonzero(~np.isfinite(pixels)) for pixels in read)
    return DamagedInputError(
        f"{image.path}: pixels are NaN or infinite: {count:,} in the plane t {region.t}, c {region.c}, z {region.z}, one of them at "
        f"y {region.y.start + rows[0]}, x {region.x.start + columns[0]} (counted from 0); set them to a number, or crop the image, and "
        "save it again."
    )


def _certified(images: list[_Image], row: Acquisition) -> Certified:
    from cvdm_core.acquisitions.certify import certify  # scikit-image takes a second to import, and most acquisitions have no target

    return certify(images[0].partial, images[1].partial, row)


def _with_certificate(image: _Image, certified: Certified, input_shape: tuple[int, ...]) -> _Image:
    """Return the target as it is to be stored: moved back where that is due, with the certificate among its attributes."""
    from cvdm_core.acquisitions.certify import MovedPlanes

    attributes = {**image.info.attributes, ATTRIBUTE: certified.certificate.to_json()}
    planes = MovedPlanes(image.planes, certified.moves, image.planes.header.shape[3] // input_shape[3]) if certified.moved else image.planes
    return replace(image, planes=planes, info=replace(image.info, attributes=attributes))


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not sys.stderr.isatty())


def _remove_unfinished(config: Config, acquisition: str) -> None:
    for store in (paths.raw_store(config, acquisition), paths.target_store(config, acquisition)):
        for left in (store.with_name(store.name + PARTIAL), *store.parent.glob(f".{store.name}{PARTIAL}.*")):
            shutil.rmtree(left, ignore_errors=True)


def _fill(receipt: Receipt, config: Config, row: Acquisition, images: list[_Image]) -> None:
    receipt.settings = {"store": config.store.model_dump(mode="json")}
    receipt.details = {
        "row": row.model_dump(mode="json"),
        "images": {
            image.role: {
                "shape": list(image.planes.header.shape),
                "dtype": stored_dtype(image.planes.header),
                "tiff_bytes": sum(size for size, _ in image.stamps.values()),
            }
            for image in images
        },
        **({MOSAIC: images[0].info.attributes[MOSAIC]} if row.is_mosaic else {}),
        **({ATTRIBUTE: images[1].info.attributes[ATTRIBUTE]} if row.target else {}),
    }
