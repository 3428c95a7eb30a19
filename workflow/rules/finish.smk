"""One job an acquisition once its blocks are there: check and publish the image, measure it, write its page.

One core and seconds to minutes each, so that they share a job: on a cluster, queue and start cost more than most of them. Each skips what
is done: a published image is checked and kept where only the measures or the page change.
"""


rule finish:
    input:
        blocks=block_receipts,
    output:
        # Not the receipt of the published image: it stays where measuring fails, as the image does.
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
        settings=settings("store", "evaluation"),
        facts=facts_for_results,
    log:
        f"{RESTORED_LOGS}/finish.log",
    threads: 1
    resources:
        # stitch: one shard of each pyramid level. evaluate: images are read block by block; the transforms of the resolution measures need
        # several copies of a block. report: pictures are made from a pyramid level or a crop that fits a screen.
        mem_mb=per_attempt(lambda wildcards: max(memory_mb("stitch", 2000, wildcards.model), memory_mb("evaluate", 3000, wildcards.model))),
        runtime=per_attempt(lambda wildcards: minutes_for(wildcards, *STAGES_OF["finish"])),
        attempt=per_attempt(lambda wildcards: 1),
    priority: priority
    shell:
        "export CVDM_ATTEMPT={resources.attempt}; "
        "cvdm stitch {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1 && "
        "cvdm evaluate {params.config:q} --acquisition {wildcards.acquisition:q} >> {log:q} 2>&1 && "
        "cvdm report {params.config:q} --acquisition {wildcards.acquisition:q} >> {log:q} 2>&1"
