"""`cvdm night --profile slurm` on a real SLURM: one night, and one with nothing to do."""

from __future__ import annotations

import re

import pytest
import yaml
from site_tree import Site

from cvdm_core.records.nights import read_nights
from cvdm_core.sheet import read_sheet, write_sheet


@pytest.mark.slow
def test_a_night_restores_what_is_new_with_the_urgent_in_front_and_the_next_one_submits_nothing(site: Site) -> None:
    # The site's own lines: this cluster has no GPU that computes, and two CPUs.
    profile = site.folder / "profiles/slurm/config.yaml"
    settings = yaml.safe_load(profile.read_text())
    settings |= {
        "set-resources": {"train": {"gpu": 0}, "sample": {"gpu": 0}},
        "set-threads": {"train": 2, "sample": 1},
        "slurm-init-seconds-before-status-checks": 4,
    }
    profile.write_text(yaml.safe_dump(settings))
    for name, split in {"pair": "train", "checked": "val", "new": "predict", "now": "predict"}.items():
        site.facility.acquire(name, split, target=split != "predict")
    registered = site.typed("cvdm register")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    rows = read_sheet(site.facility.sheet)
    write_sheet(site.facility.sheet, {**rows, "now": rows["now"].model_copy(update={"urgent": 1})})

    first = site.typed("cvdm night --profile slurm --by 07:00", timeout=1500)

    assert first.returncode == 0, first.stdout + first.stderr
    night = read_nights(site.folder / "results", 1)[0]
    assert set(night.restored) == {"new", "now"} and not night.failed and not night.unfinished
    jobs = site.jobs()
    assert {state for state, _ in jobs.values()} == {"COMPLETED"}
    nice = {}
    for number, (_, comment) in jobs.items():
        found = re.search(r"\bNice=(-?\d+)", site.cluster.said("scontrol", "show", "job", str(number)))
        nice[comment] = int(found[1]) if found else None
    sampling = {comment: value for comment, value in nice.items() if "rule_sample" in comment}
    assert {value for comment, value in sampling.items() if "now" in comment} == {0}
    assert {value for comment, value in sampling.items() if "new" in comment} == {100}

    second = site.typed("cvdm night --profile slurm", timeout=600)

    assert second.returncode == 0 and "nothing to restore" in second.stdout, second.stdout + second.stderr
    assert max(site.jobs()) == max(jobs)  # SLURM forgets the older ones after MinJobAge
