"""The check that everything still is as its receipt says."""


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
