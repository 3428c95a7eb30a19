"""A lock that one process of one machine holds while it changes a file, and that ends with the process, however it ends."""

from __future__ import annotations

import fcntl
import getpass
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cvdm_core.errors import UserError
from cvdm_core.files import disk_named


@contextmanager
def locked(path: str | Path, deed: str = "is writing it") -> Iterator[None]:
    """Hold the lock of `path` for the body: the file `.<name>.lock` beside it, which stays there and holds its last owner's name.

    `deed` says what the owner does meanwhile, for whoever is refused.

    The kernel keeps the lock (over NFS: the server), not the file's presence, so that nothing is left to be removed after a kill.

    Raises
    ------
    UserError
        If somebody else holds it, by name, it may not be written, or the file system has no locks.
    """
    target = Path(path)
    lock = target.with_name(f".{target.name}.lock")
    with disk_named(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
            raise UserError(f"{target}: {owner} {deed}; wait until that has ended, then run the same command again.") from None
        except OSError as error:
            raise UserError(
                f"{lock}: the file system gives no lock ({error.strerror}); put the folder on one that does, or ask for the mount "
                "option (Lustre: flock; NFS: no nolock)."
            ) from None
        with disk_named(lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _owner().encode(), 0)
        yield
    finally:
        os.close(descriptor)


def wait_for(path: str | Path, seconds: float) -> None:
    """Wait for so long until nobody holds the lock of `path`; whoever still does is named when it is taken."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with locked(path):
                return
        except UserError:
            time.sleep(1)


def _owner() -> str:
    since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"{_user()} on {platform.node()} (process {os.getpid()}, since {since})\n"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"user {os.getuid()}"
