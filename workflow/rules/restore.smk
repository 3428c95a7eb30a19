"""Restoration: block jobs that write whole shards in parallel, then one job an acquisition that checks and publishes."""


rule sample:
    input:
        acquisition=INGEST_RECEIPT,
        model=trained_model,
    output:
        receipt=BLOCK_RECEIPT,
    params:
        config=config_options,
        version=VERSION,
        settings=settings_for_samples,
    log:
        f"{RESTORED_LOGS}/sample.{{block}}.log",
    threads: 4
    resources:
        # All samples of one shard with its halo, in float32, and the network's activations on one tile.
        mem_mb=lambda wildcards, attempt: memory_mb("sample", 4000, wildcards.model) * attempt,
        runtime=lambda wildcards, attempt: minutes_for_block(wildcards) * attempt,
        attempt=lambda wildcards, attempt: attempt,
        slurm_extra=nice,
    priority: priority
    shell:
        "CVDM_ATTEMPT={resources.attempt} "
        "cvdm sample {params.config:q} --acquisition {wildcards.acquisition:q} --block {wildcards.block} --threads {threads} > {log:q} 2>&1"


rule stitch:
    input:
        blocks=block_receipts,
    output:
        receipt=STITCH_RECEIPT,
    params:
        config=config_options,
        version=VERSION,
        settings=settings("store"),
    log:
        f"{RESTORED_LOGS}/stitch.log",
    threads: 1
    resources:
        # One shard of each pyramid level.
        mem_mb=lambda wildcards, attempt: memory_mb("stitch", 2000, wildcards.model) * attempt,
        runtime=lambda wildcards, attempt: minutes_for(wildcards, "stitch") * attempt,
        attempt=lambda wildcards, attempt: attempt,
    priority: priority
    shell:
        "CVDM_ATTEMPT={resources.attempt} cvdm stitch {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1"
