"""Whether the locks of a file system hold on all machines that mount it, or on each machine alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
LOCAL = {"localflock": "flock", "nolock": "lock", "local_lock=flock": "local_lock=none", "local_lock=all": "local_lock=none"}
"""Mount options with which each machine keeps locks for itself (Lustre, NFS), and what is to stand in their place."""
GLOBAL = r"^\s*tuneUseGlobalFileLocks\s*=\s*(?:true|yes|1)\b"
"""The line with which BeeGFS keeps locks for all machines; it does not without."""


@dataclass(frozen=True)
class Mount:
    """A line of `/proc/self/mounts`."""

    folder: Path
    kind: str
    options: tuple[str, ...]


def mount_of(folder: Path, mounts: Path) -> Mount | None:
    """Return what is mounted where a folder lies; None where that cannot be seen. Of what is mounted over each other the last counts."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return None
    found = [Mount(Path(_plain(words[1])), words[2], tuple(words[3].split(","))) for words in lines if len(words) > 3]
    around = [mount for mount in found if folder.is_relative_to(mount.folder)]
    return max(reversed(around), key=lambda mount: len(mount.folder.parts), default=None)


def _plain(text: str) -> str:
    """Return a path without the octal numbers that stand for spaces and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def mend_of_locks(mount: Mount) -> str:
    """Return what to ask for so that locks hold on all machines; nothing where they do, as far as can be seen."""
    if mount.kind == "beegfs":
        named = [option.partition("=")[2] for option in mount.options if option.startswith("cfgFile=")]
        file = Path(named[0] if named else "/etc/beegfs/beegfs-client.conf")
        try:
            everywhere = re.search(GLOBAL, file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        except OSError:
            everywhere = None
        return "" if everywhere else f"`tuneUseGlobalFileLocks = true` in {file} on all machines"
    return next((f"the mount option `{better}` in place of `{option}`" for option, better in LOCAL.items() if option in mount.options), "")
