"""Measurement of restored images, with and without truth, and the page for people: seconds of work, so it has no job of its own."""


rule evaluate:
    input:
        receipt=STITCH_RECEIPT,
    output:
        receipt=EVALUATE_RECEIPT,
        table=report(
            METRICS_TABLE,
            caption="../report/metrics.rst",
            category="Metrics",
            labels={"acquisition": "{acquisition}", "model": "{model}"},
        ),
        reported=REPORT_RECEIPT,
        page=report(
            REPORT_PAGE,
            caption="../report/acquisition.rst",
            category="Acquisitions",
            labels={"acquisition": "{acquisition}", "model": "{model}"},
        ),
    params:
        config=config_options,
        version=VERSION,
        settings=settings("evaluation"),
        facts=facts_for_results,
    log:
        f"{RESTORED_LOGS}/evaluate.log",
    threads: 1
    resources:
        # Images are read block by block; the transforms of the resolution measures need several copies of a block. Pictures of the page
        # are made from a pyramid level or a crop that fits a screen.
        mem_mb=lambda wildcards, attempt: memory_mb("evaluate", 3000, wildcards.model) * attempt,
        runtime=lambda wildcards, attempt: minutes_for(wildcards, "evaluate", "report") * attempt,
        attempt=lambda wildcards, attempt: attempt,
    priority: priority
    shell:
        "export CVDM_ATTEMPT={resources.attempt}; "
        "cvdm evaluate {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1 && "
        "cvdm report {params.config:q} --acquisition {wildcards.acquisition:q} >> {log:q} 2>&1"
