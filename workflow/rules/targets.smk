"""What the targets in the Snakefile ask for. No rule stands here.

Functions, which Snakemake calls only where a target is wanted: each job of a night reads these files twice, and the paths of 2,000
acquisitions for all targets took 0.5 CPU-seconds each time.
"""


def all_ingested(_wildcards):
    """Return the receipts of all raw images that something is made of."""
    return [paths.ingest_receipt(CONFIG, name) for name in {**PAIRS, **TO_RESTORE}]


def all_reports(_wildcards):
    """Return the receipts of all pages."""
    return [paths.report_receipt(config, name) for name, config in TO_RESTORE.items()]


def nightly_reports(_wildcards):
    """Return the receipts of the pages that this night has time for, the most urgent first."""
    return [paths.report_receipt(TO_RESTORE[name], name) for name in ORDER if not NIGHT or name not in NIGHT.deferred]


def own_model(_wildcards):
    """Return the receipt of the model that is trained here, if one is."""
    return [paths.train_receipt(CONFIG)] if TRAINABLE else []
