"""The configuration: the one definition of every key, its meaning, its unit and its default.

`workflow/schemas/config.schema.json` and `config/README.md` are generated from these models, and a test keeps them in step.
Nothing heavy is imported here, because the Snakefile reads this module in every cluster job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cvdm_core.errors import UserError
from cvdm_core.yaml_text import load_yaml

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Split = Literal["train", "val", "test", "predict"]
Precision = Literal["auto", "float32", "bfloat16"]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, so that a misspelt one cannot be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StoreSettings(Section):
    """How OME-Zarr stores are written."""

    format: Literal["0.5", "0.4"] = Field("0.5", description="OME-Zarr version: 0.5 (Zarr v3, sharded) or 0.4 (Zarr v2, one file a chunk)")
    chunk: int = Field(256, ge=16, description="edge of a chunk, the smallest piece a viewer reads [pixels]")
    shard: int = Field(1024, ge=16, description="edge of a shard, the piece one writer owns; a multiple of `chunk` [pixels]")
    compressor: Literal["zstd", "lz4"] = Field("zstd", description="codec inside blosc with bitshuffle: zstd (smaller) or lz4 (faster)")
    output_dtype: Literal["float32", "uint16"] = Field("float32", description="data type of restored images; uint16 records its linear map")

    @model_validator(mode="after")
    def _whole_chunks(self) -> StoreSettings:
        if self.shard % self.chunk:
            raise ValueError(f"store.shard ({self.shard}) must be a multiple of store.chunk ({self.chunk})")
        if self.shard & (self.shard - 1) or self.chunk & (self.chunk - 1):
            raise ValueError("store.shard and store.chunk must be powers of two, so that every pyramid level consists of whole shards")
        return self


class DenoiserSettings(Section):
    """The network that removes the noise."""

    base_channels: int = Field(32, ge=4, description="channels at the first level")
    multipliers: tuple[int, ...] = Field((1, 2, 2), description="channels of each level as multiples of `base_channels`")
    unshuffle: Literal[1, 2, 4] = Field(2, description="pixel-unshuffle factor in front of the network")
    norm: Literal["channel", "none"] = Field(
        "channel", description="per-pixel norm over channels, or none; never over space (tiles must not matter)"
    )


class ScheduleSettings(Section):
    """The noise schedule, gamma(t, x) = exp(-lambda(x) B(t))."""

    kind: Literal["learned", "two_network", "cosine", "linear"] = Field(
        "learned", description="learned: exact by construction; two_network: as published; cosine, linear: fixed (ablations)"
    )
    base_channels: int = Field(8, ge=4, description="channels of the small network for lambda(x)")
    curvature_weight: float = Field(1e-3, ge=0, description="alpha, the weight of the squared second derivative of gamma (paper: 1e-3)")
    lambda_min: float = Field(
        14.0,
        ge=6.0,
        le=16.0,
        description="smallest lambda; gamma(1) <= exp(-lambda_min): so little that even a field's brightness is lost in noise",
    )


class ModelSettings(Section):
    """What is trained."""

    name: Name = Field("cvdm", description="folder name below `models` and below each acquisition's results")
    objective: Literal["diffusion", "regression"] = Field("diffusion", description="diffusion, or regression as the control of equal size")
    scale: int = Field(2, ge=1, le=8, description="pixels of the target along y and x for each pixel of the input (1: same grid)")
    prediction: Literal["v", "epsilon"] = Field(
        "v", description="what the network predicts and the loss weighs: v (default) or epsilon (published)"
    )
    denoiser: DenoiserSettings = DenoiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()


class TrainingSettings(Section):
    """How it is trained."""

    seed: int = Field(0, ge=0, description="seed of weights, crops, augmentation, times and noise")
    steps: int = Field(20_000, ge=1, description="optimiser steps")
    batch: int = Field(16, ge=1, description="crops a step and device")
    crop: int = Field(64, ge=16, description="edge of a training crop on the target grid [pixels]")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate of Adam")
    warmup_steps: int = Field(50, ge=0, description="steps of linear warm-up; after half of all steps the rate falls linearly to zero")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the moving average of weights, which is what is used afterwards")
    intensities: Literal["absolute", "relative"] = Field(
        "absolute",
        description="absolute: a channel's counts mean the same in all files; relative: every file has its own gain and offset "
        "(auto-scaled exports), so each target is put on the scale of its input by a line, and uncertainty is judged after such a fit too",
    )
    precision: Precision = Field("auto", description="auto: bfloat16 where the hardware has it, else float32")
    devices: int = Field(1, ge=1, description="GPUs of one node (DDP); ignored on a CPU")
    workers: int = Field(0, ge=0, description="data-loading processes; 0 loads in the main process")
    validate_every: int = Field(1000, ge=1, description="steps between validations (with pictures)")
    save_every: int = Field(500, ge=1, description="steps between saved states, from which a killed training goes on")


class SamplingSettings(Section):
    """How a trained model is applied."""

    seed: int = Field(0, ge=0, description="seed of the global noise field")
    samples: int = Field(8, ge=1, description="posterior samples drawn for each pixel")
    keep_samples: int = Field(1, ge=0, description="how many of the samples are kept as images of their own")
    steps: int = Field(5, ge=1, description="denoising steps of one sample")
    method: Literal["ancestral", "ddim", "dpmpp_2m"] = Field("ancestral", description="sampler")
    quantiles: tuple[float, float] = Field((0.05, 0.95), description="lower and upper posterior quantile that are stored")
    halo: int = Field(
        64, ge=0, description="context computed around a shard and cut away; see docs/figures.md for the measurement [pixels]"
    )
    tile: int = Field(576, ge=64, description="largest piece the network sees at once, without its margin [pixels]")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="float32: the same pixels on every machine and with every split into jobs, to rounding; bfloat16: faster where the "
        "hardware has it, and shards differ from the whole image by up to 2e-3 of the data range (docs/figures.md)",
    )
    shards_per_job: int = Field(16, ge=1, description="shards that one cluster job restores")

    @model_validator(mode="after")
    def _consistent(self) -> SamplingSettings:
        if self.keep_samples > self.samples:
            raise ValueError(f"sampling.keep_samples ({self.keep_samples}) is larger than sampling.samples ({self.samples})")
        if not 0 <= self.quantiles[0] < self.quantiles[1] <= 1:
            raise ValueError("sampling.quantiles must be two increasing numbers between 0 and 1")
        return self


class EvaluationSettings(Section):
    """How results are measured."""

    richardson_lucy_iterations: int = Field(30, ge=0, description="iterations of the Richardson-Lucy reference row; 0 leaves it out")


class RoutingRule(Section):
    """One rule of the list `routing`: which model restores the acquisitions that it describes.

    The first rule that fits decides, for each channel. A key that is left out fits everything; patterns are as in `fnmatch` (`*`, `?`,
    `[abc]`) for the whole text, whatever the case. Without any rule `model.name` restores everything; with rules, what none fits is not
    restored, and the index page names it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)  # a channel may be called 488

    instrument: str | None = Field(None, description="pattern for the sheet's column `instrument`")
    objective: str | None = Field(None, description="pattern for the column `objective`")
    na: float | None = Field(None, gt=0, description="the column `na`, within 0.3 %")
    magnification: float | None = Field(None, gt=0, description="the column `magnification`, within 0.3 %")
    channel: str | None = Field(None, description="pattern for the name of a channel")
    model: Name = Field(description="folder below `models`, of a model that was brought along, or `model.name`, which is trained here")


class InboxSettings(Section):
    """Where acquisitions arrive, and when one of them is complete; docs/operator.md explains it."""

    folder: str = Field(
        "", description="folder in which acquisitions arrive, looked at by `cvdm night` and before `snakemake nightly`; empty: none"
    )
    quiet_minutes: float = Field(
        10.0, gt=0, description="nothing may have changed for so long; longer than the longest pause between two writes [minutes]"
    )
    marker: str = Field(
        "",
        description="name, with `*` and `?`, of the file that says that an acquisition is done, in its folder or above it; `{name}` "
        "stands for the acquisition's name; empty: the site has none",
    )
    instrument: str = Field(
        "", description="the microscope that writes there, for the sheet's column `instrument`; empty: as the files say"
    )


class MessageSettings(Section):
    """Who is told about a night; a message that cannot be sent never stops it."""

    when: Literal["always", "act", "never"] = Field(
        "always", description="always: a summary every night; act: only where a person must act; never"
    )
    mail_to: tuple[str, ...] = Field((), description="addresses of the people who get a mail; empty: no mail")
    mail_from: str = Field("", description="address of the sender; empty: this user on this machine")
    smtp: str = Field("localhost:25", description="host and port of the mail server; 465: encrypted from the start")
    smtp_login_file: str = Field(
        "", description="file with two lines, user and password, both secret and sent encrypted only (STARTTLS); empty: no login is needed"
    )
    webhook_file: str = Field(
        "", description="file that holds the address of a webhook, a secret that stands nowhere else; it gets JSON with the key `text`"
    )
    webhook_variable: str = Field("", description="environment variable that holds the address, in place of a file")


class Config(Section):
    """The whole configuration."""

    acquisitions: str = Field("config/acquisitions.tsv", description="the sample sheet, relative to the working directory")
    results: str = Field("results", description="folder of results")
    models: str = Field("models", description="folder of trained models")
    restore: tuple[Split, ...] = Field(("val", "test", "predict"), description="splits of the sheet that are restored and reported")
    store: StoreSettings = StoreSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    routing: tuple[RoutingRule, ...] = Field((), description="which model restores what; the first rule that fits decides")
    inbox: InboxSettings = InboxSettings()
    messages: MessageSettings = MessageSettings()

    @field_validator("acquisitions", "results", "models")
    @classmethod
    def _no_shell(cls, path: str) -> str:
        # A folder of the name `~` would be made, and whoever typed `rm -r ~` to be rid of it would lose their home.
        if path.startswith(("~", "$")):
            raise ValueError("only a shell replaces ~ and $NAME; write the whole path")
        return path


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` put in, section by section (as Snakemake merges configuration files)."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged


def parse(values: Mapping[str, Any], source: str) -> Config:
    """Check raw values and return the configuration.

    Raises
    ------
    UserError
        Naming `source`, the key, the value and what was expected.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        if first["type"] == "extra_forbidden":
            raise UserError(f"{source}: there is no key {key!r}; config/README.md lists every key.") from None
        raise UserError(f"{source}: {key} = {first['input']!r} is not usable: {first['msg']}; config/README.md explains the key.") from None


def load(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> Config:
    """Read one or more YAML files, later ones over earlier ones, then `section.key=value` overrides.

    Raises
    ------
    UserError
        If a file is missing or is not YAML, or a value is refused.
    """
    values: dict[str, Any] = {}
    for path in paths:
        try:
            loaded = load_yaml(Path(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise UserError(f"{path}: there is no such configuration file; name an existing one with --config.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: this is not readable YAML ({' '.join(str(error).split())}); mend the line it names.") from None
        if not isinstance(loaded or {}, Mapping):
            raise UserError(f"{path}: the file must hold `key: value` lines, not a {type(loaded).__name__}.")
        values = merge(values, loaded or {})
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"--set {override}: write it as section.key=value, for example sampling.steps=10.")
        try:
            nested: Any = load_yaml(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {override}: the value is not readable YAML ({' '.join(str(error).split())}); mend it.") from None
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merge(values, nested)
    return parse(values, " + ".join([*map(str, paths), *overrides]) or "the defaults")


def overrides(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return nested values, as `snakemake --config` gives them, in the form `section.key=value` that `load` and `cvdm --set` take."""
    found: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += overrides(value, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}={value if _reads_back(value) else json.dumps(value, default=str)}")
    return found


def _reads_back(value: object) -> bool:
    """Whether a value is text that YAML takes for this text: not for a number, a section or a remark, as a folder's name may look."""
    try:
        return isinstance(value, str) and load_yaml(value) == value
    except yaml.YAMLError:
        return False


def settings_of(section: BaseModel) -> str:
    """Return a section as canonical JSON, for `params:` (a change triggers a rerun) and for receipts."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True)
