"""What lies around the cluster: folders, space, locks, the wrappers; and what cannot be seen from a login node."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.doctor.finding import Finding
from cvdm_core.doctor.mounts import MOUNTS, mend_of_locks, mount_of
from cvdm_core.errors import UserError
from cvdm_core.lock import locked
from cvdm_core.sheet import read_sheet

WRAPPERS = ("squeue", "sacct", "sbatch", "srun")
PYRAMID = 4 / 3  # all smaller levels together are a third of the first
RAW_BYTES, RESTORED_BYTES = 2, 4  # a pixel: uint16 as acquired, float32 as restored
TEMPORARY_GB = 1.0  # what libraries put into TMPDIR, with room to spare


def check_surroundings(config: Config, workflow: Path = Path("workflow/slurm")) -> Iterator[Finding]:
    """Check what the workflow needs beside SLURM, in the folder in which it will run."""
    for folder in (config.results, config.models, "logs"):
        yield check_writable(Path(folder))
    yield check_space(config)
    yield check_temporary()
    # The driver's lock is in the working folder, the night's beside the results; often that is one file system.
    systems = {nearest(folder).stat().st_dev: folder for folder in (Path.cwd(), Path(config.results))}
    yield from map(check_lock, systems.values())
    yield check_wrappers(workflow)


def nearest(folder: Path) -> Path:
    """Return a folder, or the nearest above it that exists."""
    return next((path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/"))


def check_writable(folder: Path) -> Finding:
    """Check that a file can be made in a folder, or in the nearest folder above it that exists."""
    existing = nearest(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            return Finding("ok", f"{folder} can be written")
    except OSError as error:
        return Finding(
            "fail", f"{folder}: no file can be made in {existing} ({error.strerror}); choose another folder, or mend its permissions"
        )


def check_space(config: Config) -> Finding:
    """Compare the free space with what is still to be written, uncompressed."""
    needed = needed_gb(config)
    free = shutil.disk_usage(nearest(Path(config.results))).free / 1e9
    words = f"{config.results}: {free:.0f} GB are free, and what is still to be made takes at most {needed:.0f} GB"
    if free < needed:
        return Finding("warn", f"{words}, uncompressed; make space, or choose another disk with `results` in the configuration")
    return Finding("ok", f"{words} (quotas are not seen)")


def needed_gb(config: Config) -> float:
    """Return the most that the stores of all acquisitions without results can take."""
    quantities = 1 if config.model.objective == "regression" else 4 + config.sampling.keep_samples  # mean, std, lower, upper, samples
    total = 0.0
    for name, row in read_sheet(config.acquisitions).items():
        restored = prod(row.restored_shape(config.model.scale))
        if not paths.ingest_receipt(config, name).is_file():
            total += (prod(row.shape) + (restored if row.target else 0)) * RAW_BYTES
        if row.split in config.restore and not paths.stitch_receipt(config, name).is_file():
            total += restored * quantities * RESTORED_BYTES
    return total * PYRAMID / 1e9


def check_temporary() -> Finding:
    """Check the space for temporary files, on this machine."""
    place = Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free / 1e9
    if free < TEMPORARY_GB:
        return Finding("warn", f"{place} (TMPDIR): {free:.1f} GB are free on this machine; set TMPDIR to a roomier folder")
    return Finding("ok", f"{place} (TMPDIR) has {free:.0f} GB free on this machine")


def check_lock(folder: Path, mounts: Path = MOUNTS) -> Finding:
    """Check that the file system keeps locks, for all machines: they tell a second driver in the same folder that there is one."""
    existing = nearest(folder)
    try:
        with locked(existing / "doctor", "examines this folder"):
            pass
    except (UserError, OSError) as error:
        return Finding("fail", str(error))
    (existing / ".doctor.lock").unlink(missing_ok=True)
    mount = mount_of(existing.resolve(), mounts)
    if mount is not None and (mend := mend_of_locks(mount)):
        return Finding(
            "warn",
            f"{folder}: on {mount.folder} ({mount.kind}) a lock holds on one machine only, so that a driver on another machine is not "
            f"refused and cancels the jobs of the first; start drivers on one machine only, or ask for {mend}",
        )
    return Finding("ok", f"the file system of {folder} keeps locks")


def check_wrappers(folder: Path) -> Finding:
    """Check that the wrappers of SLURM's commands are there and can be run: copies of a tree often lose links and permissions."""
    missing = [name for name in WRAPPERS if not os.access(folder / name, os.X_OK)]
    if missing:
        return Finding(
            "fail",
            f"{folder}: {', '.join(missing)} cannot be run, and Snakemake would wait for ever where a question to SLURM fails; "
            "fetch the tree anew with `git clone` or `rsync --archive`",
        )
    return Finding("ok", f"the wrappers of SLURM's commands in {folder} can be run")


def not_seen() -> Iterator[Finding]:
    """Say what was not checked, because it cannot be seen from here."""
    yield Finding("note", "not checked: the nodes' own disks and TMPDIR, their GPU drivers, and that they see this folder under this path;")
    yield Finding("note", "`snakemake --profile slurm ingest_all` tries that, and each job's log says first what it runs on")
