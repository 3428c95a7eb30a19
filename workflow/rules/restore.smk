"""Restoration: block jobs that write whole shards in parallel; `finish` checks and publishes them."""


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
        mem_mb=per_attempt(lambda wildcards: memory_mb("sample", 4000, wildcards.model)),
        runtime=per_attempt(minutes_for_block),
        attempt=per_attempt(lambda wildcards: 1),
        slurm_extra=nice,
    priority: priority
    shell:
        "CVDM_ATTEMPT={resources.attempt} "
        "cvdm sample {params.config:q} --acquisition {wildcards.acquisition:q} --block {wildcards.block} --threads {threads} > {log:q} 2>&1"
