"""What is to be trained, and on what: everything that is known before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cvdm_core import __version__, paths
from cvdm_core.config import Config
from cvdm_core.errors import UserError
from cvdm_core.images.intensity import Normalisation
from cvdm_core.model import ModelSpec, choose_device, resolve_precision
from cvdm_core.records.receipts import fingerprint, read_json
from cvdm_core.sheet import read_rows
from cvdm_core.training.pairs import Pair, check_contents, check_splits, open_pairs
from cvdm_core.training.statistics import PairMaps, measure_normalisation, measure_pair_maps, measure_residual_std
from cvdm_core.training.validation import Validation

NOT_OF_THE_CURVE = {"workers", "save_every"}
"""Training settings that do not change the result, so that a saved state outlives a change of them."""


@dataclass(frozen=True)
class Problem:
    """A training that is ready to begin.

    Parameters
    ----------
    config : Config
    training, validation : list of Pair
        There may be no validation pairs.
    normalisation : dict
        Linear maps of input and target, by channel name.
    spec : ModelSpec
    state_folder : Path
        Its state while it lasts; another folder for other settings, data or versions.
    """

    config: Config
    training: list[Pair]
    validation: list[Pair]
    normalisation: dict[str, dict[str, Normalisation]]
    spec: ModelSpec
    state_folder: Path

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, those of training first."""
        return [*self.training, *self.validation]

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured of the training pairs and the weights depend on, as plain values."""
        maps = {name: {side: asdict(value) for side, value in sides.items()} for name, sides in self.normalisation.items()}
        return {"normalisation": maps, "residual_std": self.spec.residual_std}

    def as_measured(self, measured: Mapping[str, Any]) -> Problem:
        """Return it with what was measured when the training began; weights mean nothing with what other code might measure now."""
        if not measured:  # a state of before does not tell
            return self
        maps = {name: {side: Normalisation(**value) for side, value in sides.items()} for name, sides in measured["normalisation"].items()}
        return replace(self, normalisation=maps, spec=replace(self.spec, residual_std=measured["residual_std"]))

    def validation_crops(self, pairs: Sequence[Pair]) -> Validation:
        """Return the fixed crops of these pairs."""
        return Validation(pairs, self.config.training.crop, self.maps(pairs), self.config.sampling)

    def maps(self, pairs: Sequence[Pair]) -> PairMaps:
        """Return what brings the images of these pairs to model units."""
        return _pair_maps(self.config, pairs, self.normalisation)


def prepare(config: Config) -> Problem:
    """Open the sheet's pairs, check them, and measure their intensities.

    Raises
    ------
    UserError
        If there are no training pairs, splits are mixed, a pair does not fit the others, or the line of one is unusable.
    """
    known, unusable = read_rows(config.acquisitions)
    for line in unusable:
        if line.may_train:
            raise UserError(line.problem)
    # A row that `cvdm register` could not measure is ingested for nobody; the index page names it.
    rows = [row for row in known.values() if row.registered]
    check_splits(rows)
    training, validation = (open_pairs(config, rows, split) for split in ("train", "val"))
    if not training:
        raise UserError(
            f"{config.acquisitions}: no acquisition with the split 'train' has a target, so there is nothing to train on; "
            f"add pairs to the sheet."
        )
    check_contents(config, [pair.row for pair in [*training, *validation]])
    crop, seed = config.training.crop, config.training.seed
    normalisation = measure_normalisation(training, crop, seed)
    for pair in validation:
        if unknown := [name for name in pair.channels if name not in normalisation]:
            raise UserError(
                f"{pair.row.acquisition}: no training pair has its channel {unknown[0]!r}; rename the channel, or add such a pair."
            )
    residual_std = measure_residual_std(training, crop, seed, _pair_maps(config, training, normalisation)) or 1.0
    spec = ModelSpec.from_dict({**config.model.model_dump(mode="json"), "residual_std": residual_std})
    return Problem(config, training, validation, normalisation, spec, _state_folder(config, [*training, *validation]))


def _pair_maps(config: Config, pairs: Sequence[Pair], normalisation: dict[str, dict[str, Normalisation]]) -> PairMaps:
    settings = config.training
    return measure_pair_maps(pairs, settings.crop, settings.seed, normalisation, settings.intensities)


def _state_folder(config: Config, pairs: Sequence[Pair]) -> Path:
    settings = {key: value for key, value in config.training.model_dump(mode="json").items() if key not in NOT_OF_THE_CURVE}
    precision = str(resolve_precision(config.training.precision, choose_device()))
    # What ingest wrote, not its receipt: ingesting the same files again gives the same pixels at another time of day.
    data = [
        (pair.row.acquisition, pair.row.split, read_json(paths.ingest_receipt(config, pair.row.acquisition))["wrote"]) for pair in pairs
    ]
    name = fingerprint(__version__, config.model.model_dump(mode="json"), settings, precision, data)
    return Path(config.models) / ".state" / f"{config.model.name}.{name}"
