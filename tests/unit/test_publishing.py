"""Nothing is published that is not complete and right."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from store_faults import FAULTS, FURTHER
from store_tree import fill, pixels, settings

from cvdm_core.errors import UserError
from cvdm_core.images.omezarr import create_image, write_region
from cvdm_core.images.omezarr_metadata import write_ome_xml
from cvdm_core.images.publishing import publish
from cvdm_core.images.tiles import shards
from cvdm_core.images.validation import validate

FORMATS = ("0.5", "0.4")


def _published(tmp_path: Path, version: str) -> tuple[Path, Path]:
    partial, final = tmp_path / "a.ome.zarr.partial", tmp_path / "a.ome.zarr"
    fill(partial, pixels((1, 1, 1, 40, 20)), settings(format=version))
    fill(partial, pixels((1, 1, 1, 40, 20), "float32"), settings(format=version), "std")
    write_ome_xml(partial, "<OME/>")
    return partial, final


@pytest.mark.parametrize("version", FORMATS)
def test_publishing_replaces_the_old_store(tmp_path: Path, version: str) -> None:
    partial, final = _published(tmp_path, version)
    (partial / "0" / "left.123.partial").write_bytes(b"from a killed writer")
    shutil.copytree(partial, final)
    (final / "old").write_text("old")
    publish(partial, final)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert not (final / "old").exists()
    assert not list(final.rglob("*.partial"))
    validate(final)


@pytest.mark.parametrize("version", FORMATS)
def test_a_faulty_store_is_not_published(tmp_path: Path, version: str) -> None:
    good, final = _published(tmp_path, version)
    final.mkdir()
    for name in ("truncated shard", "unit um", "surplus file", "no version"):
        partial = tmp_path / "faulty.partial"
        shutil.copytree(good, partial)
        (FAULTS | FURTHER)[name].plant(partial)
        with pytest.raises(UserError) as caught:
            publish(partial, final)
        assert str(partial) in str(caught.value), name
        assert not list(final.iterdir()), name
        shutil.rmtree(partial)
    publish(good, final)


def test_a_store_without_ome_metadata_is_not_published(tmp_path: Path) -> None:
    create_image(tmp_path / "a.partial", (1, 1, 1, 32, 32), "uint16", settings())
    write_region(tmp_path / "a.partial", shards((1, 1, 1, 32, 32), 32)[0], np.zeros((32, 32), np.uint16))
    with pytest.raises(UserError, match="no valid OME-Zarr"):
        publish(tmp_path / "a.partial", tmp_path / "a")
    with pytest.raises(UserError, match="not an image that cvdm has written"):
        publish(tmp_path / "nothing.partial", tmp_path / "a")
