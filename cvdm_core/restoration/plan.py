"""What is to be restored, where it goes, and which shards of it are there already.

A restored image grows in `restored.<fingerprint>.<code>.partial`, shard by shard and from many jobs. Beside it, one small receipt a shard
says which bytes belong to it; a shard without a receipt, or with other bytes, does not count. The fingerprint covers everything that pixels
depend on but the code, so that work is taken up again exactly where it would come out the same. What other code has begun is begun anew,
so that no image is made by two; what it has finished stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvdm_core import __version__, paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.files import checksum_file
from cvdm_core.images.tiles import Shape, Shard
from cvdm_core.model.description import DESCRIPTION, DescribedModel
from cvdm_core.records.code import work_code
from cvdm_core.records.receipts import fingerprint, read_json, sha256_file, write_json
from cvdm_core.restoration.statistics import statistics_of
from cvdm_core.routing import Router
from cvdm_core.sheet import Acquisition

CODE = ("model", "restoration", "images/intensity.py", "images/mosaic.py", "images/tiles.py")
"""What makes the pixels."""

Files = dict[str, list[int | str]]
"""Bytes and checksum (`cvdm_core.files`) of files, by their name relative to a store."""
ShardReceipts = dict[int, dict[str, Any]]
"""What is recorded of shards, by their number: `files`, `ranges` and `made` (who made them)."""


@dataclass(frozen=True)
class Plan:
    """One acquisition, restored with one model and one set of settings.

    Parameters
    ----------
    row
        The acquisition.
    shape
        Shape of the restored image, `(T, C, Z, Y, X)`.
    quantities
        Names of the images that are written: "mean" and, where there are several samples, "std", "lower", "upper"; "sample_0" ...
    fingerprint
        Of everything that the pixels depend on, but for the code.
    code
        That makes the pixels (`records.code`); "" in receipts from before it was recorded.
    inputs
        What the ingest receipt says about the input store.
    final
        The published store.
    """

    row: Acquisition
    shape: Shape
    quantities: tuple[str, ...]
    fingerprint: str
    code: str
    inputs: Mapping[str, Any]
    final: Path

    @property
    def partial(self) -> Path:
        """The store that is being filled; level 0 is float32."""
        return self._beside("partial")

    @property
    def shard_folder(self) -> Path:
        """Folder of the shard receipts."""
        return self._beside("shards")

    @property
    def published(self) -> Path:
        """What was published: fingerprint and files of `final`, and what the stitch receipt says about it."""
        return self.final.with_name("published.json")

    def _beside(self, ending: str) -> Path:
        return self.final.with_name(".".join(filter(None, ("restored", self.fingerprint, self.code, ending))))


def path_in_store(quantity: str) -> str:
    """Return where an image lies inside the restored store: the mean at its root, the others in groups of their names."""
    return "" if quantity == "mean" else quantity


def make_plan(config: Config, row: Acquisition, model: DescribedModel) -> Plan:
    """Return what is to be restored.

    Raises
    ------
    UserError
        If the input was not ingested, or the model does not fit the configuration or the acquisition's channels.
    """
    trained = model.info.get("scale", config.model.scale)
    if trained != config.model.scale:
        raise UserError(
            f"the model {model.name!r} was trained for scale {trained}, not {config.model.scale}; set model.scale to {trained}."
        )
    for channel in row.channels:
        model.channel(channel)
    ingested = read_json(paths.ingest_receipt(config, row.acquisition)).get("wrote", {})
    raw = paths.raw_store(config, row.acquisition)
    inputs = next((value for path, value in ingested.items() if Path(path).name == raw.name), None)
    if inputs is None:
        raise UserError(f"{paths.ingest_receipt(config, row.acquisition)}: it names no {raw.name}; run `cvdm ingest` again.")
    sampling = config.sampling.model_dump(mode="json", exclude={"shards_per_job"})
    if model.spec.objective == "regression":
        quantities: tuple[str, ...] = ("mean",)
    else:
        kept = tuple(f"sample_{number}" for number in range(config.sampling.keep_samples))
        quantities = (*statistics_of(config.sampling.samples), *kept)
    mark = fingerprint(
        row.acquisition, row.shape, row.channels, config.model.scale, sampling, config.store.model_dump(mode="json"),
        model.weights_sha256, model.spec.to_dict(), model.normalisation, inputs, __version__,
    )  # fmt: skip
    final = paths.restored_store(config, row.acquisition)
    return Plan(row, row.restored_shape(config.model.scale), quantities, mark, work_code(*CODE), inputs, final)


def model_read(config: Config, model: DescribedModel) -> dict[str, str]:
    """Return what a receipt says about the model that was read: sha256 of its weights, and of `model.yaml`, whose maps scale the pixels."""
    folder = paths.model_folder(config)
    return {str(folder): model.weights_sha256, str(folder / DESCRIPTION): sha256_file(folder / DESCRIPTION)}


def settings_for_receipt(config: Config, row: Acquisition) -> dict[str, Any]:
    """Return what the receipts of an acquisition's stages say about settings: how it is sampled and stored, and why by this model."""
    settings = {section: getattr(config, section).model_dump(mode="json") for section in ("sampling", "store")}
    if not config.routing:
        return settings
    route = Router(config).route(row)
    return {**settings, "routing": {"model": route.model, "chosen_by": list(route.chosen_by)}}


def shard_receipt(plan: Plan, shard: Shard) -> Path:
    """Return where the receipt of one shard lies."""
    return plan.shard_folder / f"{shard.index:06d}.json"


def record_shard(
    plan: Plan, shard: Shard, files: Files, ranges: Mapping[str, tuple[float, float]], made: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the receipt of one shard, and return what it says.

    That is its files, the smallest and largest value of each quantity, and who made it: a later run that finds it done has other versions.
    """
    values = {quantity: list(pair) for quantity, pair in ranges.items()}
    content = {"fingerprint": plan.fingerprint, "shard": shard.index, "files": files, "ranges": values, "made": dict(made)}
    write_json(shard_receipt(plan, shard), content)
    return content


def makers(held: ShardReceipts) -> list[dict[str, Any]]:
    """Return who made these shards, each once: versions, device, precision, batch, host, its first start, and its number of shards."""
    found: dict[str, dict[str, Any]] = {}
    for content in held.values():
        if made := content.get("made"):  # older shards do not tell
            maker = found.setdefault(fingerprint({**made, "started": ""}), {**made, "shards": 0})
            maker["started"] = min(maker["started"], made["started"])
            maker["shards"] += 1
    return sorted(found.values(), key=lambda maker: str(maker["started"]))


def held_shard(plan: Plan, shard: Shard) -> dict[str, Any] | None:
    """Return the receipt of a shard whose bytes are on disk as recorded; None where the shard must be computed."""
    try:
        content = read_json(shard_receipt(plan, shard))
    except UserError:
        return None
    return content if not differing(plan.partial, content["files"]) else None


def differing(store: Path, files: Mapping[str, list[Any]]) -> list[str]:
    """Return the names of files that are missing from a store or have other bytes than recorded."""
    return [name for name, (size, digest) in files.items() if not _same(store / name, size, digest)]


def _same(path: Path, size: int, digest: str) -> bool:
    return path.is_file() and path.stat().st_size == size and checksum_file(path) == digest


def published_shards(plan: Plan) -> dict[str, dict[str, Any]] | None:
    """Return the shard receipts, by shard number, of a published store that came out of the same plan; None where there is none."""
    if not plan.published.is_file():
        return None
    content = read_json(plan.published)
    if content.get("fingerprint") != plan.fingerprint or not plan.final.is_dir():
        return None
    shards: dict[str, dict[str, Any]] = content["shards"]
    return shards
