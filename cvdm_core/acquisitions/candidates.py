"""Which acquisitions a list of files and folders holds.

The conventions: `<name>_input.tif` and `<name>_target.tif` in one folder are a pair called `<name>`; files of a folder whose names
differ in time, plane or channel only are one input (see `patterns`); any other TIFF is an input called as its file. Folders are
searched to any depth, also through links; what begins with a dot is left out. The endings may be in capitals. A path with words in braces
(`{well}_{field}_T{t}.tif`) is an acquisition for each text that stands in their places. Files in a maker's own format are refused (see
`vendors`).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvdm_core.acquisitions.patterns import gather, name_of_pattern
from cvdm_core.acquisitions.refusals import Refusal
from cvdm_core.acquisitions.vendors import is_vendor_file, not_exported, refuse_vendor_file
from cvdm_core.images.sequence import is_pattern, is_template, patterns_of_template
from cvdm_core.images.tiff_source import spans_files
from cvdm_core.sheet import Series

SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.tf2", ".ome.tf8", ".ome.btf", ".tiff", ".tif", ".lsm", ".stk", ".tf2", ".tf8", ".btf")
_ROLE = re.compile(r"(?P<name>.+)_(?P<role>input|target)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Candidate:
    """An acquisition that could be added: the name that its file suggests, its input, and the target beside it.

    `series`, `specimen` and `note` are set where it is one of several images of its file.
    """

    name: str
    input: Path
    target: Path | None = None
    series: Series = None
    specimen: str = ""
    note: str = ""


def find_candidates(paths: Sequence[Path], is_known: Callable[[Path], bool]) -> tuple[list[Candidate], list[Refusal]]:
    """Return what `paths` hold, in the order given (folders: by name), and what cannot be taken.

    Files that `is_known` are never gathered to a pattern: they are acquisitions of their own already.
    """
    vendor_files: list[Path] = []
    others: list[Path] = []
    for path in paths:
        (vendor_files if is_vendor_file(path) and not path.is_dir() else others).append(path)
    refusals = [refuse_vendor_file(path) for path in not_exported(vendor_files, filter(_is_tiff, others))]
    files: dict[Path, str] = {}
    for path in others:
        if is_template(path):
            files |= _of_template(path, refusals)
            continue
        before = len(refusals)
        found = _inputs_below(path, is_known, refusals) if path.is_dir() else [path]
        if not found and len(refusals) == before:
            refusals.append(Refusal(path.name, str(path), f"{path}: the folder holds no TIFF; name the folder of the microscope's files."))
        files |= {file: _name(file) for file in found}
    targets: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files:
        if _role(path) == "target":
            targets[path.parent, _name(path)].append(path)
    candidates = []
    for path, name in files.items():
        if _role(path) == "target":
            continue
        beside = targets.pop((path.parent, _name(path)), []) if _role(path) == "input" else []
        if len(beside) > 1:
            problem = (
                f"{path}: {len(beside)} targets lie beside it ({', '.join(other.name for other in beside)}); leave only the right one."
            )
            refusals.append(Refusal(name, str(path), problem))
        else:
            candidates.append(Candidate(name, path, beside[0] if beside else None))
    for (_, name), alone in targets.items():
        problem = f"{alone[0]}: this is a target, but no {name}_input.tif lies beside it; give that file as well, or rename this one."
        refusals.append(Refusal(name, str(alone[0]), problem))
    return candidates, refusals


def _of_template(template: Path, refusals: list[Refusal]) -> dict[Path, str]:
    """Return the patterns and files that a template stands for, each with a name: of its file, after the words of its folders."""
    try:
        found = patterns_of_template(template)
    except (OSError, re.error) as error:  # a folder that cannot be read, a word that is no name
        refusals.append(Refusal(template.name, str(template), f"{template}: it cannot be searched ({error}); correct it."))
        return {}
    if not found:
        problem = f"{template}: no file matches; {{t}} and {{z}} stand for numbers, other words in braces for text, all else for itself."
        refusals.append(Refusal(template.name, str(template), problem))
    return {
        path: "_".join([text for word, text in words.items() if f"{{{word}}}" not in template.name] + [_name(path)])
        for path, words in found.items()
    }


def _inputs_below(folder: Path, is_known: Callable[[Path], bool], refusals: list[Refusal]) -> list[Path]:
    everything = _files_below(folder, refusals)
    files = list(filter(_is_tiff, everything))
    refusals += map(refuse_vendor_file, not_exported(list(filter(is_vendor_file, everything)), files))
    found = [file for file in files if is_known(file)]
    for path, members in gather([file for file in files if not is_known(file)]).items():
        # a set of OME-TIFFs tells itself which planes its files hold
        a_set = len(members) > 1 and not is_known(path) and spans_files(members[0])
        found += members if a_set else [path]
    return found


def _files_below(folder: Path, refusals: list[Refusal]) -> list[Path]:
    found: list[Path] = []
    walked: set[Path] = set()
    starts = [folder]  # and the links to folders, after all that is no link

    def refuse(error: OSError) -> None:
        problem = f"{error.filename}: the folder cannot be searched ({error.strerror}); check its permissions and the file server."
        refusals.append(Refusal(Path(error.filename).name, str(error.filename), problem))

    for start in starts:
        real = start.resolve()
        if start != folder and any(inner.is_relative_to(real) for inner in (start.parent.resolve(), folder.resolve())):
            continue  # a link to where it lies itself
        for where, folders, names in os.walk(start, onerror=refuse):
            place = real / Path(where).relative_to(start)
            if place in walked:
                folders.clear()
                continue
            walked.add(place)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            starts += [path for path in (Path(where, name) for name in folders) if path.is_symlink()]
            files = [Path(where, name) for name in sorted(names) if not name.startswith(".")]
            found += files
            refusals += [_leads_nowhere(file) for file in files if "." not in file.name and _is_lost(file)]
    return found


def _is_lost(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except OSError:  # it leads through a folder that is closed to us
        return True


def _leads_nowhere(path: Path) -> Refusal:
    """Refuse a link to nothing that is called like a folder: a TIFF is told where it is opened, and other files are nobody's."""
    problem = f"{path}: it is a link to a folder that is not there (is its file server mounted?); mount it, or remove the link."
    return Refusal(path.name, str(path), problem)


def _is_tiff(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _stem(path: Path) -> str:
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def _role(path: Path) -> str:
    match = _ROLE.fullmatch(_stem(path))
    return match["role"].lower() if match else ""


def _name(path: Path) -> str:
    match = _ROLE.fullmatch(_stem(path))
    name = match["name"] if match else _stem(path)
    return name_of_pattern(name) if is_pattern(path) else name
