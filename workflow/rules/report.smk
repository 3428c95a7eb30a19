"""Pages for people, and the check that everything still is as its receipt says."""


rule report:
    input:
        receipt=EVALUATE_RECEIPT,
    output:
        receipt=REPORT_RECEIPT,
        page=report(
            REPORT_PAGE,
            caption="../report/acquisition.rst",
            category="Acquisitions",
            labels={"acquisition": "{acquisition}", "model": CONFIG.model.name},
        ),
    params:
        config=config_options,
        version=VERSION,
        facts=facts_for_results,
    log:
        f"{RESTORED_LOGS}/report.log",
    benchmark:
        f"{RESTORED_LOGS}/report.benchmark.tsv"
    threads: 1
    resources:
        # Pictures are made from a pyramid level or a crop that fits a screen.
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    priority: priority
    shell:
        "cvdm report {params.config:q} --acquisition {wildcards.acquisition:q} > {log:q} 2>&1"


# No output and no benchmark file: with either, Snakemake would not check a second time.
rule verify:
    params:
        config=config_options,
    log:
        "logs/verify.log",
    threads: 1
    resources:
        # Every file is read once and hashed, piece by piece.
        mem_mb=1000,
        runtime=240,
    shell:
        "cvdm verify {params.config:q} 2>&1 | tee {log:q}"
