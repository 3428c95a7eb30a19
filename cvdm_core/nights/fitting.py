"""The night's plan: what is to be done, what of it fits before the deadline, and what is said about the rest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime

from cvdm_core.acquisitions.arrivals import printable
from cvdm_core.config import Config
from cvdm_core.doctor.dry_run import snakemake
from cvdm_core.nights.course import Course, moment
from cvdm_core.nights.damaged import REASON, still_damaged
from cvdm_core.nights.driver import Job, planned_jobs
from cvdm_core.nights.forecast import Unmeasured, capacity, forecast
from cvdm_core.nights.outcome import failing
from cvdm_core.nights.planning import make_plan
from cvdm_core.nights.printing import show
from cvdm_core.nights.shortening import write_samples
from cvdm_core.records.throughput import read_throughput, throughput_file
from cvdm_core.routing import find_routes
from cvdm_core.sheet import Acquisition, read_rows, read_sheet


def to_restore(config: Config) -> dict[str, Acquisition]:
    """Return the registered rows of the sheet that are to be restored and have a model, by name."""
    rows = read_sheet(config.acquisitions)
    return {name: rows[name] for name in find_routes(config, rows.values()).configs}


def plan(course: Course) -> None:
    """Find out what is to be done, from a dry run, and where there is a deadline, what of it fits.

    Fills in `names`, `targets`, `deferred` and `reduced`; fewer samples are written into the sheet.

    Raises
    ------
    UserError
        If the workflow cannot be planned, or the sheet is being written by another process.
    """
    config, order = course.config, course.order
    broken = [(printable(line.acquisition), printable(line.problem)) for line in read_rows(config.acquisitions)[1]]
    told = " ".join(course.problems)  # by the look at the inbox
    course.problems += [f"Left out: {name}: {problem}" for name, problem in broken if problem not in told]
    write_samples(config, {}, "")  # takes old notes away from cells that a person has emptied, before anything is planned from them
    jobs = planned_jobs(snakemake(order.profile, order.configs))
    rows = to_restore(config)
    routes = find_routes(config, read_sheet(config.acquisitions).values())
    course.problems += [f"Not restored: {sentence}" for sentence in routes.sentences()]
    damaged = still_damaged(config, rows, {job.acquisition for job in jobs})
    course.problems += [f"Not tried again: {name}: {message}" for name, message in damaged.items()]
    jobs = [job for job in jobs if job.acquisition not in damaged]
    planned = {job.acquisition for job in jobs}
    names = [name for name in rows if name in planned]
    if course.until is not None and names:
        try:
            _fit(course, course.until - time.time(), jobs, rows)
        except Unmeasured as stage:
            course.remarks.append(
                f"No plan could be made for the deadline, because too few jobs of `{stage}` were measured so far: everything runs, the "
                "most urgent and the oldest first."
            )
        except Exception as error:  # a plan that fails must not cost the night
            show(traceback.format_exc(), error=True)
            course.deferred, course.reduced = {}, {}
            course.problems.append(f"No plan could be made for the deadline, so everything runs: {type(error).__name__}: {error}")
    course.names = tuple(name for name in names if name not in course.deferred)
    course.deferred |= dict.fromkeys(damaged, REASON)
    if jobs:
        course.targets = ("nightly",)


def _fit(course: Course, seconds: float, jobs: Sequence[Job], rows: Mapping[str, Acquisition]) -> None:
    throughput = read_throughput(throughput_file(course.config.results))
    places, between, counted = capacity(course.config, course.order.profile, jobs, throughput)
    failed = failing(course.config, set(rows))
    works = forecast(course.config, rows, jobs, throughput, between, failing=failed)
    made = make_plan(works, places, seconds)
    course.reduced = {work.name: (made.samples[work.name], work.samples) for work in works if made.samples.get(work.name, 0)}
    course.reduced = {name: (count, of) for name, (count, of) in course.reduced.items() if count < of}
    late = f"it did not fit before {moment(course.until or 0)}; "
    first, last = "of those of its urgency it comes before all that are newer", "it has failed, and comes behind all others of its urgency"
    course.deferred = {name: late + (last if name in failed else first) for name in made.deferred}
    if course.reduced:
        write_samples(course.config, course.reduced, datetime.fromtimestamp(course.started).strftime("%Y-%m-%d"))
    course.remarks.append(
        f"Planned from the measured throughput for {counted}: {len(made.samples)} of {len(works)} acquisitions, done after "
        f"{made.ends / 3600:.1f} of {seconds / 3600:.1f} hours."
    )
    if made.ends > seconds:
        course.remarks.append("That is longer than the night: what is not finished goes on the next night.")
