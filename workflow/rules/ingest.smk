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
    benchmark:
        f"{ACQUISITION_LOGS}/ingest.benchmark.tsv"
    threads: 1
    resources:
        # One row of shards is held at a time, whatever the image: the rest is Python and its libraries.
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        # 1 megapixel (input, with its target) a second is slow even on a busy network disk.
        runtime=lambda wildcards, attempt: int(5 + megapixels(wildcards) / 60) * attempt,
    priority: priority
    shell:
        "cvdm ingest {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1"
