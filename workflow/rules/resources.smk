"""What jobs ask for: minutes, memory, their place in the queue, from the sheet's sizes and what was measured. No rule stands here."""

from cvdm_core.records.throughput import measured_memory_mb, read_throughput, requested_seconds, throughput_file
from cvdm_core.workload import STAGES_OF, block_megapixels, megapixels, training_megapixels

THROUGHPUT = read_throughput(throughput_file(CONFIG.results))


def per_attempt(asked):
    """Return a resource: what `asked` returns, times the attempt, so that a job that failed for want of it gets more."""
    return signed(lambda wildcards, attempt: asked(wildcards) * attempt)


def own(wildcards):
    """Return the configuration with the acquisition's model; of a pair for training the configuration as it is."""
    return TO_RESTORE.get(wildcards.acquisition, CONFIG)


def minutes(model, *work):
    """Return the minutes to ask for, for stages and their megapixels: measured ones, where `cvdm index` has left any.

    5 minutes are for the start: Snakemake twice and Python with its libraries, from a network disk on a bad day.
    """
    return int(5 + sum(requested_seconds(THROUGHPUT, stage, amount, model) for stage, amount in work) / 60)


def minutes_for(wildcards, *stages):
    """Return the minutes to ask for, for stages of a whole acquisition in one job."""
    config = own(wildcards)
    return minutes(config.model.name, *((stage, megapixels(config, row(wildcards), stage)) for stage in stages))


def minutes_for_block(wildcards):
    """Return the minutes to ask for, for one block."""
    config = own(wildcards)
    return minutes(config.model.name, ("sample", block_megapixels(config, row(wildcards))))


def minutes_for_training():
    """Return the minutes to ask for, for all steps; whatever does not fit goes on in the next attempt."""
    return minutes(CONFIG.model.name, ("train", training_megapixels(CONFIG)))


def memory_mb(stage, reckoned, model=CONFIG.model.name):
    """Return the megabytes to ask for: what was reckoned, or more where jobs were measured to need it.

    Never less, because a peak depends on settings and images that are not those of yesterday. A quarter over the peak for what varies,
    and 250 for the two Snakemakes around the command.
    """
    return int(max(reckoned, 250 + 1.25 * measured_memory_mb(THROUGHPUT, stage, model)))


def nice(wildcards):
    """Return by how much a job steps back in SLURM's queue, where it may wait beside more urgent ones that became ready later.

    100 is what an hour of waiting counts where PriorityWeightAge is 16,800 (and PriorityMaxAge a week). Where nothing is urgent nobody steps
    back, so that no night loses its place to other users.
    """
    behind = MOST_URGENT - row(wildcards).urgent
    return f"--nice={100 * behind}" if behind > 0 else ""
