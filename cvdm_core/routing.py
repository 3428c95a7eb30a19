"""Which model restores which acquisition: the rules of `routing`, first match wins.

Where the configuration has no rules, its own model restores everything. Where it has, an acquisition that no rule fits, or whose channels
call for different models, is restored by none: a model on data of another instrument would be a guess. The Snakefile imports this module
in every cluster job, so of a model only the small `model.yaml` is read, once, and only if an acquisition calls for it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cvdm_core import paths
from cvdm_core.config import Config, ModelSettings, RoutingRule
from cvdm_core.errors import UserError
from cvdm_core.sheet import Acquisition, settings_for
from cvdm_core.yaml_text import load_yaml

# Two apertures differ by 0.01 or more, 0.7 % of the largest; a file's 1.3999999 is 1.4.
TOLERANCE = 0.003
NAMED = 5
"""Acquisitions named in one sentence; more would hide it."""


@dataclass(frozen=True)
class Route:
    """The model of an acquisition, and the rules that chose it, in words; none where the configuration has no rules."""

    model: str
    chosen_by: tuple[str, ...] = ()


@dataclass
class Router:
    """Answers which model restores an acquisition; acquisitions of equal facts, and models, are looked at once."""

    config: Config
    _found: dict[tuple[Any, ...], Route | str] = field(default_factory=dict)
    _models: dict[str, Config | str] = field(default_factory=dict)

    def route(self, row: Acquisition) -> Route:
        """Return the model that the rules choose for an acquisition.

        Raises
        ------
        UserError
            If no rule fits one of its channels, or the channels call for different models.
        """
        if not self.config.routing:
            return Route(self.config.model.name)
        facts = (row.instrument, row.objective, row.na, row.magnification, row.channels)
        if facts not in self._found:
            self._found[facts] = _choose(self.config, row)
        found = self._found[facts]
        if isinstance(found, str):
            raise UserError(f"{row.acquisition}: {found}")
        return found

    def configuration(self, row: Acquisition) -> Config:
        """Return the configuration for an acquisition: with its model as `model` and its number of posterior samples.

        The model is what its folder says, unless it is trained here.

        Raises
        ------
        UserError
            As `route`, or if the folder of the model is missing or damaged.
        """
        return settings_for(self._with_model(row), row)

    def _with_model(self, row: Acquisition) -> Config:
        route = self.route(row)
        if route.model == self.config.model.name:
            return self.config
        if route.model not in self._models:
            try:
                self._models[route.model] = self.config.model_copy(update={"model": _read_settings(Path(self.config.models), route)})
            except UserError as error:
                self._models[route.model] = str(error)
        found = self._models[route.model]
        if isinstance(found, str):
            raise UserError(f"{row.acquisition}: {found}")
        return found

    def pair_scale(self, row: Acquisition) -> int | None:
        """Return how many pixels a target has for each of the input, along y and x; None where no model says it."""
        if row.split in ("train", "val"):
            return self.config.model.scale
        try:
            return self.configuration(row).model.scale
        except UserError:
            return None


def routed(config: Config, row: Acquisition) -> Config:
    """Return the configuration for one acquisition, as `Router.configuration`."""
    return Router(config).configuration(row)


@dataclass(frozen=True)
class Routes:
    """How each acquisition that can be restored is restored, and one sentence for each other one; by the acquisition's name."""

    configs: Mapping[str, Config]
    routes: Mapping[str, Route]
    problems: Mapping[str, str]

    def sentences(self) -> list[str]:
        """Return each problem once, behind the names of its acquisitions."""
        names: dict[str, list[str]] = {}
        for name, problem in self.problems.items():
            names.setdefault(problem.removeprefix(f"{name}: "), []).append(name)
        return [f"{_listed(found)}: {problem}" for problem, found in names.items()]


def find_routes(config: Config, rows: Collection[Acquisition]) -> Routes:
    """Return how those acquisitions of the sheet are restored that are measured and stand in a split that is restored."""
    router = Router(config)
    trained_here = any(row.registered and row.split == "train" and row.target for row in rows)
    own_is_there = trained_here or not config.routing or paths.train_receipt(config).is_file()
    configs, routes, problems = {}, {}, {}
    for row in rows:
        if not row.registered or row.split not in config.restore:
            continue
        try:
            route, chosen = router.route(row), router.configuration(row)
            if route.model == config.model.name and not own_is_there:
                raise UserError(f"{row.acquisition}: {_calling(route)}, but {_no_model(paths.model_folder(config))}")
        except UserError as error:
            problems[row.acquisition] = str(error)
        else:
            configs[row.acquisition], routes[row.acquisition] = chosen, route
    return Routes(configs, routes, problems)


def _choose(config: Config, row: Acquisition) -> Route | str:
    """Return the model of all channels, or what is wrong."""
    chosen: dict[str, tuple[str, str]] = {}
    for channel in row.channels or ("",):
        number = next((number for number, rule in enumerate(config.routing) if _fits(rule, row, channel)), None)
        if number is None:
            return (
                f"no rule of `routing` fits its channel {channel!r} ({_described(row)}), and a model on data of another instrument would "
                f"be a guess; add a rule, or mend instrument, objective or na in its row of {config.acquisitions}."
            )
        chosen[channel] = (config.routing[number].model, _in_words(number + 1, config.routing[number]))
    models = dict.fromkeys(model for model, _ in chosen.values())
    if len(models) > 1:
        calls = ", ".join(f"{channel!r} for {model} by {words.partition(' (')[0]}" for channel, (model, words) in chosen.items())
        return (
            f"its channels call for different models ({calls}), and one model restores all channels of an acquisition; put above them "
            "a rule with a model that was trained on all of them, or save the channels as files of their own."
        )
    return Route(next(iter(models)), tuple(dict.fromkeys(words for _, words in chosen.values())))


def _fits(rule: RoutingRule, row: Acquisition, channel: str) -> bool:
    texts = ((rule.instrument, row.instrument), (rule.objective, row.objective), (rule.channel, channel))
    numbers = ((rule.na, row.na), (rule.magnification, row.magnification))
    return all(wanted is None or _like(text, wanted) for wanted, text in texts) and all(
        wanted is None or (value is not None and abs(value / wanted - 1) <= TOLERANCE) for wanted, value in numbers
    )


def _like(text: str, pattern: str) -> bool:
    # Not fnmatch.fnmatch, which looks at case on one system and not on another.
    return re.match(fnmatch.translate(pattern.casefold()), text.casefold()) is not None


def _in_words(number: int, rule: RoutingRule) -> str:
    keys = rule.model_dump(exclude={"model"}, exclude_none=True)
    return f"rule {number} ({', '.join(f'{key} {value}' for key, value in keys.items()) or 'fits everything'})"


def _described(row: Acquisition) -> str:
    known = {"instrument": row.instrument, "objective": row.objective, "na": row.na, "magnification": row.magnification}
    return ", ".join(f"{key} {value or 'unknown'}" for key, value in known.items())


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _calling(route: Route) -> str:
    return f"{' and '.join(words.partition(' (')[0] for words in route.chosen_by)} of `routing` calls for the model {route.model}"


def _no_model(folder: Path) -> str:
    return f"there is no trained model in {folder}; copy a model's folder there, or correct the rule."


def _read_settings(models: Path, route: Route) -> ModelSettings:
    """Return what a model's folder says it is, under the name of the folder: a copy may lie under another name than it was trained."""
    folder = models / route.model
    description = folder / "model.yaml"
    try:
        # The C parser, where there is one: the list of what a model was trained on is long.
        content = load_yaml(description.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        network = {key: value for key, value in content["spec"].items() if key != "residual_std"}
        return ModelSettings.model_validate({**network, "name": route.model, "scale": content["scale"]})
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{_calling(route)}, but {_no_model(folder)}") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{_calling(route)}, but {description} cannot be used ({type(error).__name__}: {reason}); copy the model's folder again, or "
            "use the version of cvdm that wrote it."
        ) from None
