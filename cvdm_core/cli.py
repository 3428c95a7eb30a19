"""`cvdm <stage> ...`: one command a rule; what a rule runs, a person can paste into a shell.

Each command reads the configuration, calls one function of the room that does the work, and turns a `UserError` into one sentence
and exit status 2. The rooms are imported inside the commands, so that `cvdm --help` is quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cvdm_core import __version__
from cvdm_core.config import Config, load
from cvdm_core.errors import UserError
from cvdm_core.files import disk_named

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Restore microscope acquisitions with a conditional variational diffusion model, one stage at a time.",
)

# readable=False: what may not be read is for a `UserError` to say, in one sentence.
ConfigFiles = Annotated[
    list[Path], typer.Option("--config", readable=False, help="configuration file; give it again to lay a second one over the first")
]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value laid over the files")]
AcquisitionName = Annotated[str, typer.Option("--acquisition", help="name of the acquisition in the sample sheet")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads to use")]
DEFAULT_CONFIG = [Path("config/config.yaml")]


def _load(files: list[Path], overrides: list[str] | None, threads: int = 0) -> Config:
    if threads:
        import torch

        from cvdm_core.model import keep_freed_memory

        torch.set_num_threads(threads)
        keep_freed_memory()
    return load(files, overrides or ())


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False) -> None:
    """Options of every command."""


@app.command()
def register(
    paths: Annotated[
        list[Path] | None, typer.Argument(readable=False, help="TIFF files, or folders that hold them, to add to the sheet")
    ] = None,
    config: ConfigFiles = DEFAULT_CONFIG,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="acquisition name for a single added file")] = None,
    specimen: Annotated[str | None, typer.Option(help="specimen of the added files (default: the acquisition's name)")] = None,
    split: Annotated[str, typer.Option(help="split of the added files: train, val, test or predict")] = "predict",
    pixel_size_um: Annotated[float | None, typer.Option(help="pixel size of added files that do not know it [micrometre]")] = None,
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="the images of each added file are the fields of one mosaic, not an acquisition each")
    ] = False,
    z_step_um: Annotated[
        float | None, typer.Option(help="z step of added files that do not know it; their pages are z planes [micrometre]")
    ] = None,
    instrument: Annotated[str, typer.Option(help="microscope of the added files (default: what they say)")] = "",
    inbox: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="folder in which acquisitions arrive: add what is complete and not known, name the rest; status 1: a person must act",
        ),
    ] = None,
) -> None:
    """Read the headers of acquisitions and write what was found into the sample sheet."""
    from cvdm_core.acquisitions.added import Added

    added = Added(name, specimen, split, pixel_size_um, z_step_um, instrument, mosaic)
    if inbox is not None:
        from cvdm_core.acquisitions.inbox import register_inbox

        if paths or name is not None or mosaic:
            raise UserError("--inbox: it finds files and names by itself; give it without files, --name and --mosaic.")
        if register_inbox(_load(config, overrides), inbox, added):
            raise typer.Exit(1)
        return
    from cvdm_core.acquisitions.register import register as run

    run(_load(config, overrides), paths or [], added)


@app.command()
def ingest(acquisition: AcquisitionName, config: ConfigFiles = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Turn the TIFFs of one acquisition into OME-Zarr."""
    from cvdm_core.acquisitions.ingest import ingest as run

    run(_load(config, overrides), acquisition)


@app.command()
def train(
    config: ConfigFiles = DEFAULT_CONFIG,
    overrides: Overrides = None,
    objective: Annotated[
        str | None, typer.Option(help="train the other objective under the name <model>-<objective>: regression is the control")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Train the model on the pairs of the sheet's train split, or go on from where a killed training stopped."""
    from cvdm_core.training.fit import train as run

    settings = _load(config, overrides, threads)
    if objective and objective != settings.model.objective:
        control = [f"model.objective={objective}", f"model.name={settings.model.name}-{objective}"]
        settings = load(config, [*(overrides or []), *control])
    run(settings)


@app.command()
def sample(
    acquisition: AcquisitionName,
    block: Annotated[int, typer.Option(min=0, help="number of the block (a run of whole shards)")],
    config: ConfigFiles = DEFAULT_CONFIG,
    overrides: Overrides = None,
    threads: Threads = 2,
) -> None:
    """Draw posterior samples for one block of an acquisition."""
    from cvdm_core.restoration.sample import sample_block as run

    run(_load(config, overrides, threads), acquisition, block)


@app.command()
def stitch(acquisition: AcquisitionName, config: ConfigFiles = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Check all blocks of an acquisition, build the pyramid, and publish the restored image."""
    from cvdm_core.restoration.stitch import stitch as run

    run(_load(config, overrides), acquisition)


@app.command()
def evaluate(acquisition: AcquisitionName, config: ConfigFiles = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Measure a restored image, against the truth where there is one."""
    from cvdm_core.quality.evaluate import evaluate as run

    run(_load(config, overrides), acquisition)


@app.command()
def report(acquisition: AcquisitionName, config: ConfigFiles = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Write the page of one acquisition."""
    from cvdm_core.report.acquisition import write_report as run

    run(_load(config, overrides), acquisition)


@app.command()
def index(config: ConfigFiles = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Write the index page over all acquisitions, with what failed and what to do, and keep the throughput of the finished jobs."""
    from cvdm_core.records.measuring import update_throughput
    from cvdm_core.report.index import write_index as run

    settings = _load(config, overrides)
    update_throughput(settings)
    typer.echo(f"report: {run(settings)}")


@app.command()
def night(
    profile: Annotated[Path, typer.Option(readable=False, help="folder of the Snakemake profile")] = Path("slurm"),
    by: Annotated[
        str, typer.Option(help="time of day, HH:MM, by which it should be done: what does not fit is shortened or deferred")
    ] = "",
    inbox: Annotated[str, typer.Option(help="folder in which acquisitions arrive (default: inbox.folder of the configuration)")] = "",
    config: ConfigFiles = DEFAULT_CONFIG,
) -> None:
    """Register what arrived, restore it, report, and tell: the one command for cron. Status 1: a person must act; 2: it could not run."""
    from cvdm_core.nights.course import Order
    from cvdm_core.nights.night import run_night

    settings = _load(config, None)
    status = run_night(settings, Order(profile, config, inbox or settings.inbox.folder, by))
    raise typer.Exit(status)


@app.command()
def verify(config: ConfigFiles = DEFAULT_CONFIG, overrides: Overrides = None) -> None:
    """Check that every store and model still matches its receipt, and that every store is a right one."""
    from cvdm_core.images.validation import validate
    from cvdm_core.records.verify import Tally
    from cvdm_core.records.verify import verify as run

    settings, tally = _load(config, overrides), Tally()
    problems = run([Path(settings.results), Path(settings.models)], validate, tally)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"verify: everything below {settings.results} and {settings.models} is as its receipt says: {tally}.")


@app.command()
def export(
    store: Annotated[Path, typer.Argument(readable=False, help="OME-Zarr store, for example results/cells_1/cvdm/restored.ome.zarr")],
    out: Annotated[Path, typer.Argument(help="file to write: .ozx (zipped OME-Zarr) or .ome.tif (pyramidal OME-TIFF)")],
    image: Annotated[str, typer.Option(help="image inside the store, for example std (default: the one at its root)")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file if it is there")] = False,
) -> None:
    """Write a store, or one image of it, as a single file with the same pixels."""
    from cvdm_core.images.export import export as run

    run(store, out, image, overwrite)


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="folder for the TIFFs and the sample sheet")],
    seed: Annotated[int, typer.Option(help="seed of specimens and noise")] = 0,
) -> None:
    """Write the demo's raw acquisitions, from a physical model of microscope and camera."""
    from cvdm_core.simulation.demo import write_demo as run

    run(folder, seed=seed)


@app.command()
def view(
    acquisition: Annotated[str, typer.Argument(help="name of the acquisition in the sample sheet")],
    config: ConfigFiles = DEFAULT_CONFIG,
    overrides: Overrides = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on 127.0.0.1; 0 is any free one")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page in the browser")] = True,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="origin of a viewer elsewhere whose pages may read the stores, such as https://example.org")
    ] = None,
) -> None:
    """Show input, restored image, std and truth side by side in a browser, until Ctrl-C."""
    from cvdm_core.viewing.server import view as run

    run(_load(config, overrides), acquisition, typer.echo, port=port, browser=browser, origins=allow_origin or ())


@app.command()
def doctor(
    profile: Annotated[Path, typer.Option(readable=False, help="folder of the Snakemake profile")] = Path("slurm"),
    config: ConfigFiles = DEFAULT_CONFIG,
    overrides: Overrides = None,
) -> None:
    """Check a SLURM profile against the cluster before the first job: what is right, and what to change."""
    from cvdm_core.doctor.checks import examine

    failed = False
    for finding in examine(_load(config, overrides), config, profile):
        typer.echo(f"{finding.level:<5} {finding.text}")
        failed = failed or finding.level == "fail"
    if failed:
        raise typer.Exit(1)


@app.command()
def leftovers() -> None:
    """Cancel the jobs that a killed driver left in SLURM's queue, and wait until they are gone; a run does this by itself."""
    from cvdm_core.cluster.leftovers import clear
    from cvdm_core.cluster.takeover import driver_lock

    with driver_lock():
        if not clear(typer.echo):
            typer.echo("there are none")


def main() -> None:
    """Run the command line; a `UserError` becomes one sentence and exit status 2."""
    try:
        with disk_named(Path.cwd()):  # what no room has named by itself
            app()
    except UserError as error:
        print(f"cvdm: {error}", file=sys.stderr)
        sys.exit(2)
