"""Look-ups for the rules: dictionaries made once from the configuration and the sample sheet. No rule stands here.

The Snakefile is parsed again in every cluster job, so that nothing heavy is imported and no image is opened here.
"""

import gc
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from snakemake.cli import get_argument_parser
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cvdm_core import __version__ as VERSION
from cvdm_core import paths
from cvdm_core.cluster import aftermath, takeover
from cvdm_core.config import NAME_PATTERN, load, overrides
from cvdm_core.errors import UserError
from cvdm_core.images.tiles import n_blocks
from cvdm_core.nights.tonight import read_tonight
from cvdm_core.routing import find_routes
from cvdm_core.sheet import read_rows


envvars:
    "PATH",


# A plan is a large graph of small objects that all live until it ends: looking through them for garbage after every 700 new ones took a
# tenth of its time.
gc.set_threshold(200_000)

# The rules call `cvdm` of the environment that runs Snakemake, whether or not it is activated. Set in the environment and not with
# shell.prefix, so that a container keeps its own. Before it stand the wrappers without which Snakemake's SLURM plugin can wait for ever.
os.environ["PATH"] = f"{workflow.basedir}/workflow/slurm:{Path(sys.executable).parent}:{os.environ['PATH']}"

# Sites warn a job with SIGUSR1 before they end it. The two Snakemakes around the stage would die of it, and the stage with them before it
# has saved what it has; whoever has nothing to save goes on.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

DRIVER = ExitStack()


def begin():
    """Refuse to be a second driver in this folder, and end what a dead one left, in the queue or here; before the first job, and not in dry runs.

    The lock is held until this process ends, however it ends: Snakemake's own lock would stay after a kill, and is off in the profiles.
    """
    try:
        DRIVER.enter_context(takeover.driver_lock())
        ended = takeover.end_what_was_left(CONFIG.results, logger.warning)
        aftermath.settle(Path(CONFIG.results), Path(CONFIG.models), SHEET)  # before a success of this run takes the note of a failure away
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if ended:
        # The plan was made while those wrote, and what they had not finished is gone: the same command plans again.
        workflow.persistence.unlock()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, sys.orig_argv)


# Files named with --configfile replace config/config.yaml: they do not lie over it, or the demo's few training steps would
# become everybody's.
CONFIG_FILES = [os.path.relpath(file) for file in workflow.configfiles] or ["config/config.yaml"]
OVERRIDES = overrides(workflow.config_settings.config or {})
CONFIG_OPTIONS = [option for file in CONFIG_FILES for option in ("--config", file)]
CONFIG_OPTIONS += [option for override in OVERRIDES for option in ("--set", override)]


def register_arrivals():
    """Register what arrived in the inbox, before the sheet is read.

    Only by the driver that is asked for `nightly`, not in the jobs, which read this file too, and not in a dry run. Within `cvdm night`
    it is done already. What cannot be registered is printed, and costs nothing else.
    """
    if not workflow.is_main_process or not CONFIG.inbox.folder or NIGHT is not None or "nightly" not in sys.argv:
        return
    # Snakemake tells the workflow its targets, and that it is a dry run, only after this file was read.
    asked = get_argument_parser().parse_args(sys.argv[1:])
    if "nightly" in asked.targets and not asked.dryrun:
        subprocess.run(["cvdm", "register", *CONFIG_OPTIONS, "--inbox", CONFIG.inbox.folder], check=False, stdout=sys.stderr)


try:
    CONFIG = load(CONFIG_FILES, OVERRIDES)
    NIGHT = read_tonight(CONFIG.results)
    if NIGHT and NIGHT.until < time.time():
        NIGHT = None
    register_arrivals()
    SHEET, UNUSABLE = read_rows(CONFIG.acquisitions)
except UserError as error:
    raise WorkflowError(str(error)) from None

# A row that `cvdm register` has not measured cannot be planned; the index page names it.
REGISTERED = {name: row for name, row in SHEET.items() if row.registered}
PAIRS = {name: row for name, row in REGISTERED.items() if row.split in ("train", "val") and row.target}
TRAINABLE = any(row.split == "train" for row in PAIRS.values())

# A pair whose line somebody broke is no reason to train a model that is there anew without it.
if workflow.is_main_process and any(line.may_train for line in UNUSABLE) and paths.train_receipt(CONFIG).is_file():
    TRAINABLE = False

# What is restored, each acquisition with the configuration that has its model; what has none costs the others nothing.
ROUTES = find_routes(CONFIG, SHEET.values())
TO_RESTORE = ROUTES.configs
if workflow.is_main_process:
    for line in UNUSABLE:
        logger.warning(f"left out: {line.problem}")
    for sentence in ROUTES.sentences():
        logger.warning(f"not restored: {sentence}")

# The most urgent first, then the oldest, which stand first in the sheet. Pairs for training come before all, because all wait for the model.
MOST_URGENT = max((REGISTERED[name].urgent for name in TO_RESTORE), default=0)
ORDER = sorted(TO_RESTORE, key=lambda name: -REGISTERED[name].urgent)
FIRST = len(ORDER) + 1
PRIORITY = {name: FIRST - 1 - place for place, name in enumerate(ORDER)} | dict.fromkeys(PAIRS, FIRST)

# Patterns of the rules' files, with wildcards in place of names.
A = "{acquisition}"
ANY = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"name": "{model}"})})
ACQUISITION_LOGS = "logs/{acquisition}"
RESTORED_LOGS = f"{ACQUISITION_LOGS}/{{model}}"
INGEST_RECEIPT = str(paths.ingest_receipt(CONFIG, A))
TRAIN_RECEIPT = str(paths.train_receipt(ANY))
BLOCK_RECEIPT = str(paths.restored_folder(ANY, A) / "blocks" / "{block}.json")
EVALUATE_RECEIPT = str(paths.evaluate_receipt(ANY, A))
METRICS_TABLE = str(paths.restored_folder(ANY, A) / "metrics.tsv")
REPORT_RECEIPT = str(paths.report_receipt(ANY, A))
REPORT_PAGE = str(paths.report_page(ANY, A))


wildcard_constraints:
    acquisition=NAME_PATTERN.strip("^$"),
    block=r"\d+",
    model=NAME_PATTERN.strip("^$"),


# Without training pairs in the sheet nothing is called `train`, and a model that is there already is used as it is.
TRAINED_HERE = re.escape(CONFIG.model.name) if TRAINABLE else "(?!)"


def signed(function):
    """Keep a function's signature with it: Snakemake asks for it two or three times a call, which was a tenth of the time of a plan."""
    function.__signature__ = inspect.signature(function)
    return function


def row(wildcards):
    """Return the sheet's row of an acquisition."""
    if wildcards.acquisition not in REGISTERED:
        raise WorkflowError(
            f"{CONFIG.acquisitions}: there is no registered acquisition {wildcards.acquisition!r}; `cvdm register` adds it."
        )
    return REGISTERED[wildcards.acquisition]


@signed
def tiffs(wildcards):
    """Return the TIFFs of an acquisition that can be named as inputs.

    A missing one is for `cvdm ingest` to name, and costs no other acquisition. One with `<`, `{` and the like in its path would be
    taken for a pattern; it is read all the same, but a change of it is not noticed, nor of the other files of a series or a set. In
    an inbox it is: then the note of a new arrival stands for them.
    """
    arrival = paths.arrival(CONFIG, wildcards.acquisition)
    files = [path for path in (row(wildcards).input, row(wildcards).target, str(arrival)) if path and Path(path).is_file()]
    return [path for path in files if not re.search(r"[<>{}]", path)]


def restored_with(wildcards):
    """Return the configuration with which an acquisition is restored, where it has the model that is asked for."""
    name, model = wildcards.acquisition, wildcards.model
    if name in TO_RESTORE and TO_RESTORE[name].model.name == model:
        return TO_RESTORE[name]
    row(wildcards)
    if name in TO_RESTORE:
        why = f"its model is {TO_RESTORE[name].model.name!r}; the configuration (model.name, routing) says so."
    else:
        why = ROUTES.problems.get(name, "its split is not among those in `restore`.").removeprefix(f"{name}: ")
    raise WorkflowError(f"{name}: it is not restored with the model {model!r}: {why}")


@signed
def trained_model(wildcards):
    """Return the receipt of the model, which is trained here or was brought along; without its receipt, what describes it."""
    config = restored_with(wildcards)
    receipt = paths.train_receipt(config)
    if config.model.name != CONFIG.model.name:
        return receipt if receipt.is_file() else receipt.with_name("model.yaml")
    if not TRAINABLE and not receipt.is_file():
        raise WorkflowError(
            f"{CONFIG.acquisitions}: no row has the split `train` and a target, and there is no trained model in {receipt.parent}; "
            "add training pairs, or copy a model's folder there."
        )
    return receipt


@signed
def block_receipts(wildcards):
    """Return the receipts of all blocks of an acquisition."""
    config = restored_with(wildcards)
    blocks = n_blocks(row(wildcards).restored_shape(config.model.scale), config.store.shard, config.sampling.shards_per_job)
    return [paths.block_receipt(config, wildcards.acquisition, block) for block in range(blocks)]


# What of the sheet says how an image was acquired, and changes no pixel of the input.
OPTICS = ["na", "na_source", "emission_nm", "emission_source", "instrument", "instrument_source", "objective", "objective_source"]


@signed
def facts_for_ingest(wildcards):
    """Return what the sheet says about an acquisition's files: a change makes ingest, and all that follows, run again."""
    return row(wildcards).model_dump_json(exclude={"specimen", "split", "note", "urgent", "samples", *OPTICS})


@signed
def facts_for_results(wildcards):
    """Return all that the sheet says about an acquisition, for the stages that only measure and show."""
    return row(wildcards).model_dump_json(exclude={"urgent"})


@signed
def settings_for_samples(wildcards):
    """Return what matters of the configuration when posterior samples are drawn, with what the sheet says instead."""
    return [restored_with(wildcards).sampling.model_dump_json(), *settings("store")]


def pairs_for_training(_wildcards):
    """Return who is trained and validated on; moving a specimen to another split trains anew."""
    return [f"{name} {row.split} {row.specimen}" for name, row in PAIRS.items()]


@signed
def config_options(wildcards, input):
    """Return the options that give a command its configuration.

    That `input` stands in the signature tells Snakemake to leave them out when it compares parameters: what matters of the
    configuration is named by each rule, and a file under another name makes nothing run again.
    """
    return CONFIG_OPTIONS


@signed
def priority(wildcards):
    """Return which ready job Snakemake starts first: all jobs of an acquisition before those of the next."""
    return PRIORITY.get(wildcards.acquisition, 0)


def settings(*sections, **excluded):
    """Return sections of the configuration as text, without the keys that do not matter: a change makes the rule run again."""
    return [getattr(CONFIG, section).model_dump_json(exclude=excluded.get(section)) for section in sections]
