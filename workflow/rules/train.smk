"""Training, one job a model. A killed job goes on from its saved state, which lies outside the outputs."""


rule train:
    input:
        receipts=[paths.ingest_receipt(CONFIG, name) for name in PAIRS],
    output:
        receipt=TRAIN_RECEIPT,
    params:
        config=config_options,
        version=VERSION,
        settings=settings("model", "training", training={"workers", "save_every"}),
        pairs=pairs_for_training,
    log:
        "logs/models/{model}/train.log",
    threads: 8
    resources:
        # Crops are read from the stores as they are needed; a worker process holds what the main process holds.
        mem_mb=per_attempt(lambda wildcards: memory_mb("train", 6000 + 2000 * CONFIG.training.workers)),
        runtime=per_attempt(lambda wildcards: minutes_for_training()),
        attempt=per_attempt(lambda wildcards: 1),
    wildcard_constraints:
        model=TRAINED_HERE,
    priority: FIRST
    shell:
        "CVDM_ATTEMPT={resources.attempt} cvdm train {params.config:q} --threads {threads} > {log:q} 2>&1"
