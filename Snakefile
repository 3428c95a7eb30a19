"""The whole way of an acquisition, from TIFF to report; `docs/` has the tutorial, `config/README.md` every key."""

import os

from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


# Used with `--software-deployment-method apptainer` only; envs/Containerfile tells how to build it. Relative, because Snakemake refuses every
# plan where a space is in its path, also without containers.
container: f"{os.path.relpath(workflow.basedir)}/envs/cvdm.sif"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/restore.smk"
include: "workflow/rules/finish.smk"
include: "workflow/rules/verify.smk"


rule all:
    default_target: True
    input:
        reports=all_reports,
        model=own_model,


rule nightly:
    input:
        reports=nightly_reports,


rule ingest_all:
    input:
        receipts=all_ingested,


rule train_only:
    input:
        model=own_model,


onstart:
    begin()


# Handlers and not a rule: the index is wanted most when something failed, and then no rule that waits for all would run.
onsuccess:
    shell("cvdm index {CONFIG_OPTIONS:q}")


onerror:
    shell("cvdm index {CONFIG_OPTIONS:q}")
