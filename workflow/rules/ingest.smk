"""TIFF to OME-Zarr, one job an acquisition."""


rule ingest:
    input:
        tiffs=tiffs,
    output:
        receipt=INGEST_RECEIPT,
    params:
        config=config_options,
        version=VERSION,
        settings=settings("store", store={"output_dtype"}),
        facts=facts_for_ingest,
    log:
        f"{ACQUISITION_LOGS}/ingest.log",
    threads: 1
    resources:
        # One row of shards is held at a time, whatever the image: the rest is Python and its libraries.
        mem_mb=per_attempt(lambda wildcards: memory_mb("ingest", 2000)),
        runtime=per_attempt(lambda wildcards: minutes_for(wildcards, "ingest")),
        attempt=per_attempt(lambda wildcards: 1),
    priority: priority
    shell:
        "CVDM_ATTEMPT={resources.attempt} cvdm ingest {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1"
