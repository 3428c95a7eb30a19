"""What planning a night costs: CPU seconds of a dry run for 2,000 acquisitions beyond Snakemake's own start, and the start's delay.

    python benchmarks/planning.py
    python benchmarks/planning.py --night 0.01    # and of a night in which 1 % of them is new and the others are done (minutes to prepare)
    python benchmarks/planning.py --job-start     # only what Snakemake costs in one cluster job, which starts it twice

All figures are from one run on one machine, so their ratios mean something whatever the machine is and whatever else it does: CPU
seconds of Snakemake alone (one rule without files); of this workflow with an empty sheet; of a dry run with all acquisitions, not
printed and printed; of a dry run of the barest rule (one output, `touch`) with as many jobs; and the seconds from `snakemake` to the
start of the first job.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cvdm_core import paths
from cvdm_core.config import load
from cvdm_core.sheet import Acquisition, write_sheet

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
CONFIG = "model: {name: planning}\n"
BAREST = """\
rule all:
    input: expand("made/{{number}}", number=range({jobs}))
rule make:
    output: "made/{{number}}"
    shell: "touch {{output}}"
"""


def cpu_seconds(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run Snakemake in `folder`; return the CPU seconds of it and its children, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([SNAKEMAKE, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result.stdout + result.stderr


def row(number: int) -> Acquisition:
    """Return a measured row: 2048 x 2048 pixels in 3 channels, which is restored to 4096 x 4096 in 3 blocks of 16 shards."""
    name = f"acquisition-{number:04d}"
    sizes = {"size_t": 1, "size_c": 3, "size_z": 1, "size_y": 2048, "size_x": 2048, "dtype": "uint16", "pixel_size_um": 0.1}
    split = "train" if number < 10 else "predict"
    files = {"input": f"raw/{name}.tif", "target": f"raw/{name}_target.tif" if split == "train" else ""}
    return Acquisition.model_validate({"acquisition": name, "specimen": name, "split": split, **files, **sizes})


def prepare(folder: Path, acquisitions: int) -> None:
    """Write configuration and sheet."""
    rows = [row(number) for number in range(acquisitions)]
    write_sheet(folder / "config/acquisitions.tsv", {each.acquisition: each for each in rows})
    (folder / "config/config.yaml").write_text(CONFIG)


def touch(folder: Path) -> None:
    """Enter all outputs into Snakemake's memory, without the 0.1 s that it sleeps for each job, and in few rounds of its scheduler."""
    program = (
        "from snakemake.executors.touch import Executor; from snakemake.cli import main; Executor.SLEEPING_TIME = 0;"
        f"main(['--snakefile', {f'{ROOT}/Snakefile'!r}, '--cores', '10000', '--touch', '--quiet'])"
    )
    subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=True)


def prepare_night(folder: Path, acquisitions: int, new: int) -> None:
    """Make all outputs of the acquisitions but the last `new` ones, enter them into Snakemake's memory, and then add the new ones."""
    prepare(folder, acquisitions - new)
    config = load([folder / "config/config.yaml"])
    for number in range(acquisitions - new):
        each = row(number)
        receipts = [paths.ingest_receipt(config, each.acquisition)]
        if each.split in config.restore:
            receipts += [paths.block_receipt(config, each.acquisition, block) for block in range(3)]
            receipts += [paths.evaluate_receipt(config, each.acquisition), paths.report_receipt(config, each.acquisition)]
            receipts += [paths.report_page(config, each.acquisition), paths.restored_folder(config, each.acquisition) / "metrics.tsv"]
        for receipt in [*receipts, *map(Path, filter(None, (each.input, each.target)))]:
            (folder / receipt).parent.mkdir(parents=True, exist_ok=True)
            (folder / receipt).write_text("{}")
    (folder / paths.train_receipt(config)).parent.mkdir(parents=True)
    (folder / paths.train_receipt(config)).write_text("{}")
    touch(folder)
    prepare(folder, acquisitions)


def print_night(folder: Path, acquisitions: int, share: float, alone: float) -> None:
    """Print what a dry run plans and costs where a share of the acquisitions is new."""
    new = max(1, round(acquisitions * share))
    prepare_night(folder, acquisitions, new)
    seconds, said = cpu_seconds(folder, "--snakefile", f"{ROOT}/Snakefile", "--dry-run", "--quiet", "rules")
    jobs = int(re.findall(r"^total +(\d+)", said, flags=re.MULTILINE)[0])
    each = (seconds - alone) / acquisitions * 1000
    print(f"{new} of {acquisitions} acquisitions are new: {jobs} jobs planned  {seconds:7.2f} CPU s    {each:5.2f} ms an acquisition")


def print_job_start(folder: Path, acquisitions: int, repeats: int) -> None:
    """Print what one start of Snakemake in a job costs with a sheet of one row and with a long one, each in turn.

    The command is that of Snakemake's SLURM executor for one block, as a dry run, so that the block itself is not in the figures.
    """
    block = row(acquisitions - 1)
    job = ["--snakefile", f"{ROOT}/Snakefile", "--dry-run", "--mode", "subprocess", "--cores", "all", "--allowed-rules", "sample"]
    job += ["--target-jobs", f"sample:acquisition={block.acquisition},model=planning,block=0", "--force", "--force-use-threads"]
    job += ["--target-files-omit-workdir-adjustment", "--max-inventory-time", "0", "--retries", "0", "--nolock", "--ignore-incomplete"]
    starts: dict[str, list[float]] = {}
    sheets = {"1 row": [block], f"{acquisitions} rows": [row(number) for number in range(acquisitions)]}
    for name, rows in sheets.items():
        site = folder / name.replace(" ", "-")
        prepare(site, 0)
        write_sheet(site / "config/acquisitions.tsv", {each.acquisition: each for each in rows})
        config = load([site / "config/config.yaml"])
        for receipt in (paths.ingest_receipt(config, block.acquisition), paths.train_receipt(config)):
            (site / receipt).parent.mkdir(parents=True)
            (site / receipt).write_text("{}")
    for _ in range(repeats):
        for name in sheets:
            starts.setdefault(name, []).append(cpu_seconds(folder / name.replace(" ", "-"), *job)[0])
    for name, seconds in starts.items():
        print(f"one of the two starts in a job, sheet of {name:10} {min(seconds):7.2f} CPU s")


def seconds_to_first_job(folder: Path) -> float:
    """Return the wall-clock seconds from `snakemake` to the start of its first job, which fails, because there is no TIFF."""
    begin = time.perf_counter()
    arguments = ["--snakefile", f"{ROOT}/Snakefile", "--cores", "1", "ingest_all"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [SNAKEMAKE, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        assert run.stdout
        for line in run.stdout:
            if line.startswith(("rule ingest", "localrule ingest")):
                elapsed = time.perf_counter() - begin
                run.stdout.read()
                return elapsed
    raise RuntimeError("no job was started")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--acquisitions", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--night", type=float, default=0.0, help="share of the acquisitions that is new in a night; 0 leaves it out")
    parser.add_argument("--job-start", action="store_true", help="measure what a start of Snakemake costs in a job, and nothing else")
    options = parser.parse_args()
    if options.job_start:
        with tempfile.TemporaryDirectory() as temporary:
            print_job_start(Path(temporary), options.acquisitions, options.repeats)
        return
    with tempfile.TemporaryDirectory() as temporary:
        full, empty, alone, barest = (Path(temporary) / name for name in ("full", "empty", "alone", "barest"))
        prepare(full, options.acquisitions)
        prepare(empty, 0)
        ours = ["--snakefile", f"{ROOT}/Snakefile", "--dry-run"]
        jobs = int(re.findall(r"^total +(\d+)", cpu_seconds(full, *ours, "--quiet", "rules")[1], flags=re.MULTILINE)[0])
        for folder, snakefile in ((alone, "rule all:\n"), (barest, BAREST.format(jobs=jobs - 1))):
            folder.mkdir()
            (folder / "Snakefile").write_text(snakefile)
        runs = {
            "alone": lambda: cpu_seconds(alone, "--dry-run", "--quiet"),
            "empty": lambda: cpu_seconds(empty, *ours, "--quiet"),
            "planned": lambda: cpu_seconds(full, *ours, "--quiet"),
            "printed": lambda: cpu_seconds(full, *ours),
            "barest": lambda: cpu_seconds(barest, "--dry-run", "--quiet"),
        }
        cpu = {name: min(run()[0] for _ in range(options.repeats)) for name, run in runs.items()}
        prepare(full, 2)
        first = min(seconds_to_first_job(full) for _ in range(options.repeats))

    def each(name: str) -> float:
        return (cpu[name] - cpu["alone"]) / jobs * 1000

    print(f"Snakemake alone                            {cpu['alone']:7.2f} CPU s")
    print(f"this workflow, empty sheet                 {cpu['empty']:7.2f} CPU s    {cpu['empty'] / cpu['alone']:5.2f} x Snakemake alone")
    print(f"{options.acquisitions} acquisitions, {jobs} jobs: planned       {cpu['planned']:7.2f} CPU s    {each('planned'):5.2f} ms a job")
    print(f"{options.acquisitions} acquisitions, {jobs} jobs: and printed   {cpu['printed']:7.2f} CPU s    {each('printed'):5.2f} ms a job")
    print(f"as many jobs of the barest rule: planned   {cpu['barest']:7.2f} CPU s    {each('barest'):5.2f} ms a job")
    print(f"a job of ours over one of the barest rule                    {each('planned') / each('barest'):5.2f} x")
    print(f"from `snakemake` to the first job          {first:7.2f} s of wall clock, at a load of {os.getloadavg()[0]:.1f}")
    if options.night:
        with tempfile.TemporaryDirectory() as temporary:
            print_night(Path(temporary) / "night", options.acquisitions, options.night, cpu["alone"])


if __name__ == "__main__":
    main()
