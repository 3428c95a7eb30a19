"""Look-ups for the rules: dictionaries made once from the configuration and the sample sheet. No rule stands here.

The Snakefile is parsed again in every cluster job, so that nothing heavy is imported and no image is opened here.
"""

import os
import re
import sys
from contextlib import ExitStack
from math import prod
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cvdm_core import __version__ as VERSION
from cvdm_core import paths
from cvdm_core.cluster import aftermath, leftovers
from cvdm_core.config import NAME_PATTERN, load
from cvdm_core.errors import UserError
from cvdm_core.images.tiles import n_blocks
from cvdm_core.lock import locked
from cvdm_core.sheet import read_sheet, settings_for


envvars:
    "PATH",


# The rules call `cvdm` of the environment that runs Snakemake, whether or not it is activated. Set in the environment and not with
# shell.prefix, so that a container keeps its own. Before it stand the wrappers without which Snakemake's SLURM plugin can wait for ever.
os.environ["PATH"] = f"{workflow.basedir}/workflow/slurm:{Path(sys.executable).parent}:{os.environ['PATH']}"

DRIVER = ExitStack()


def begin():
    """Refuse to be a second driver in this folder, and end what a dead one left in the queue; before the first job, and not in dry runs.

    The lock is held until this process ends, however it ends: Snakemake's own lock would stay after a kill, and is off in the profiles.
    """
    try:
        DRIVER.enter_context(locked(Path(".snakemake/driver"), "runs the workflow in this folder"))
        cancelled = leftovers.clear(logger.warning)
        aftermath.settle(Path(CONFIG.results), SHEET)  # before a success of this run takes the note of a failure away
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if cancelled:
        # The plan was made while those jobs wrote, and what they had not finished is gone: the same command plans again.
        workflow.persistence.unlock()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, sys.orig_argv)


def overrides(values, prefix=""):
    """Turn what stands behind `snakemake --config` into `section.key=value`, as `cvdm --set` takes it."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from overrides(value, f"{prefix}{key}.")
        else:
            text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else value
            yield f"{prefix}{key}={text}"


# Files named with --configfile replace config/config.yaml: they do not lie over it, or the demo's few training steps would
# become everybody's.
CONFIG_FILES = [os.path.relpath(file) for file in workflow.configfiles] or ["config/config.yaml"]
OVERRIDES = list(overrides(workflow.config_settings.config or {}))
CONFIG_OPTIONS = [option for file in CONFIG_FILES for option in ("--config", file)]
CONFIG_OPTIONS += [option for override in OVERRIDES for option in ("--set", override)]

try:
    CONFIG = load(CONFIG_FILES, OVERRIDES)
    SHEET = read_sheet(CONFIG.acquisitions)
except UserError as error:
    raise WorkflowError(str(error)) from None

# A row that `cvdm register` has not measured cannot be planned; the index page names it.
REGISTERED = {name: row for name, row in SHEET.items() if row.registered}
PAIRS = {name: row for name, row in REGISTERED.items() if row.split in ("train", "val") and row.target}
TRAINABLE = any(row.split == "train" for row in PAIRS.values())
TO_RESTORE = {name: row for name, row in REGISTERED.items() if row.split in CONFIG.restore}
BLOCKS = {
    name: n_blocks(row.restored_shape(CONFIG.model.scale), CONFIG.store.shard, CONFIG.sampling.shards_per_job)
    for name, row in TO_RESTORE.items()
}

# What the targets in the Snakefile ask for.
INGESTED = [paths.ingest_receipt(CONFIG, name) for name in {**PAIRS, **TO_RESTORE}]
RESTORED = [paths.stitch_receipt(CONFIG, name) for name in TO_RESTORE]
REPORTS = [paths.report_receipt(CONFIG, name) for name in TO_RESTORE]
MODELS = [paths.train_receipt(CONFIG)] if TRAINABLE else []

# Patterns of the rules' files, with wildcards in place of names.
A = "{acquisition}"
ACQUISITION_LOGS = "logs/{acquisition}"
RESTORED_LOGS = f"{ACQUISITION_LOGS}/{CONFIG.model.name}"
INGEST_RECEIPT = str(paths.ingest_receipt(CONFIG, A))
TRAIN_RECEIPT = f"{CONFIG.models}/{{model}}/train.json"
BLOCK_RECEIPT = str(paths.restored_folder(CONFIG, A) / "blocks" / "{block}.json")
STITCH_RECEIPT = str(paths.stitch_receipt(CONFIG, A))
EVALUATE_RECEIPT = str(paths.evaluate_receipt(CONFIG, A))
METRICS_TABLE = str(paths.restored_folder(CONFIG, A) / "metrics.tsv")
REPORT_RECEIPT = str(paths.report_receipt(CONFIG, A))
REPORT_PAGE = str(paths.report_page(CONFIG, A))


wildcard_constraints:
    acquisition=NAME_PATTERN.strip("^$"),
    block=r"\d+",
    # Without training pairs in the sheet nothing is called `train`, and a model that is there already is used as it is.
    model=re.escape(CONFIG.model.name) if TRAINABLE else "(?!)",


def row(wildcards):
    """Return the sheet's row of an acquisition."""
    if wildcards.acquisition not in REGISTERED:
        raise WorkflowError(
            f"{CONFIG.acquisitions}: there is no registered acquisition {wildcards.acquisition!r}; `cvdm register` adds it."
        )
    return REGISTERED[wildcards.acquisition]


def tiffs(wildcards):
    """Return the TIFFs of an acquisition that can be named as inputs.

    A missing one is for `cvdm ingest` to name, and costs no other acquisition. One with `<`, `{` and the like in its path would be
    taken for a pattern; it is read all the same, but a change of it is not noticed.
    """
    files = [path for path in (row(wildcards).input, row(wildcards).target) if path and Path(path).is_file()]
    return [path for path in files if not re.search(r"[<>{}]", path)]


def trained_model(_wildcards):
    """Return the receipt of the model, which is trained here or was brought along."""
    receipt = paths.train_receipt(CONFIG)
    if not TRAINABLE and not receipt.is_file():
        raise WorkflowError(
            f"{CONFIG.acquisitions}: no row has the split `train` and a target, and there is no trained model in {receipt.parent}; "
            "add training pairs, or copy a model's folder there."
        )
    return receipt


def block_receipts(wildcards):
    """Return the receipts of all blocks of an acquisition."""
    return [paths.block_receipt(CONFIG, wildcards.acquisition, block) for block in range(BLOCKS[wildcards.acquisition])]


# What of the sheet says how an image was acquired, and changes no pixel of the input.
OPTICS = ["na", "na_source", "emission_nm", "emission_source", "instrument", "instrument_source", "objective", "objective_source"]


def facts_for_ingest(wildcards):
    """Return what the sheet says about an acquisition's files: a change makes ingest, and all that follows, run again."""
    return row(wildcards).model_dump_json(exclude={"specimen", "split", "note", "urgent", "samples", *OPTICS})


def facts_for_results(wildcards):
    """Return all that the sheet says about an acquisition, for the stages that only measure and show."""
    return row(wildcards).model_dump_json(exclude={"urgent"})


def settings_for_samples(wildcards):
    """Return what matters of the configuration when posterior samples are drawn, with what the sheet says instead."""
    return [settings_for(CONFIG, row(wildcards)).sampling.model_dump_json(), *settings("store")]


def pairs_for_training(_wildcards):
    """Return who is trained and validated on; moving a specimen to another split trains anew."""
    return [f"{name} {row.split} {row.specimen}" for name, row in PAIRS.items()]


def config_options(wildcards, input):
    """Return the options that give a command its configuration.

    That `input` stands in the signature tells Snakemake to leave them out when it compares parameters: what matters of the
    configuration is named by each rule, and a file under another name makes nothing run again.
    """
    return CONFIG_OPTIONS


def settings(*sections, **excluded):
    """Return sections of the configuration as text, without the keys that do not matter: a change makes the rule run again."""
    return [getattr(CONFIG, section).model_dump_json(exclude=excluded.get(section)) for section in sections]


def megapixels(wildcards):
    """Return the size of an acquisition's input, all planes together."""
    return prod(row(wildcards).shape) / 1e6


def minutes_for_block():
    """Return the minutes a block job may take: pixels that pass the network, at 5 megapixels a second (a slow GPU)."""
    side = CONFIG.store.shard + 2 * CONFIG.sampling.halo
    passes = CONFIG.sampling.shards_per_job * CONFIG.sampling.samples * CONFIG.sampling.steps
    return int(10 + passes * side**2 / 1e6 / 5 / 60)
