"""Measurement of restored images, with and without truth."""


rule evaluate:
    input:
        receipt=STITCH_RECEIPT,
    output:
        receipt=EVALUATE_RECEIPT,
        table=report(
            METRICS_TABLE,
            caption="../report/metrics.rst",
            category="Metrics",
            labels={"acquisition": "{acquisition}", "model": CONFIG.model.name},
        ),
    params:
        config=config_options,
        version=VERSION,
        settings=settings("evaluation"),
        facts=facts_for_results,
    log:
        f"{RESTORED_LOGS}/evaluate.log",
    benchmark:
        f"{RESTORED_LOGS}/evaluate.benchmark.tsv"
    threads: 1
    resources:
        # Images are read block by block; the transforms of the resolution measures need several copies of a block.
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        # Richardson-Lucy and the resolution measures dominate: half a minute a megapixel of input on one core.
        runtime=lambda wildcards, attempt: int(5 + megapixels(wildcards) / 2) * attempt,
    priority: priority
    shell:
        "cvdm evaluate {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1"
