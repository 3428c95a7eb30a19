"""`cvdm night`: look at the inbox, plan for the deadline, run the workflow, write down what came of it, and tell people.

Whatever goes wrong in a step, the night is written down and told. A night that is killed cannot do so; the next one does it in its place.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType

from cvdm_core.acquisitions.inbox import register_inbox
from cvdm_core.acquisitions.progress import record_progress
from cvdm_core.cluster import takeover
from cvdm_core.cluster.aftermath import settle
from cvdm_core.config import Config
from cvdm_core.doctor.dry_run import snakemake
from cvdm_core.doctor.requests import profile_settings
from cvdm_core.errors import UserError
from cvdm_core.lock import locked, wait_for
from cvdm_core.nights.course import Course, Order, deadline, moment
from cvdm_core.nights.driver import TIMED_OUT, Driver
from cvdm_core.nights.fitting import plan, to_restore
from cvdm_core.nights.outcome import outcome, stamps
from cvdm_core.nights.printing import show
from cvdm_core.nights.telling import tell
from cvdm_core.nights.tonight import read_tonight, tonight_file
from cvdm_core.sheet import read_rows, rows_so_far

PATIENCE_S = 120.0
"""How long another `cvdm register`, which cron may start every few minutes, is waited for."""

STARTS = 5
"""A driver that is killed is started again and goes on; where it is killed so often, something does it, and a person must look."""

NAMED = 10
"""Acquisitions that a remark names; the index page has all."""


class Stopped(BaseException):
    """Somebody ended the night with a signal."""


def run_night(config: Config, order: Order) -> int:
    """Run one night and return the exit status: 0 nobody needs to do anything, 1 a person must act, 2 it could not run.

    Raises
    ------
    UserError
        If the deadline is no time of day, or there is no such profile: nothing was done then.
    """
    profile_settings(order.profile)
    course = Course(config, order, started=time.time())
    course.until = deadline(order.by, course.started) if order.by else None
    with _signals():
        try:
            with locked(Path(config.results) / "night", "runs the night"):
                _go(course)
        except UserError as error:  # before anything was done: another night goes on, or nothing can be written
            course.status = 2
            course.problems.append(str(error))
            tell(course)
    return course.status


def _go(course: Course) -> None:
    results = course.config.results
    before = read_tonight(results)
    if before is not None:
        course.problems.append(
            f"The night that {before.owner} began at {moment(before.started)} was killed; it was about to {before.step}. What it had "
            "finished counts, and the rest runs now. Was the machine restarted, or its memory used up?"
        )
    step = ""
    try:
        for step, work in (("look at the inbox", look), ("end what was left", clear), ("plan", plan), ("run the workflow", run)):
            course.note(step)
            wait_for(course.config.acquisitions, PATIENCE_S)
            work(course)
    except (Stopped, KeyboardInterrupt) as error:
        course.problems.append(f"It was ended ({error or 'Ctrl-C'}) when it was about to {step}. The same command goes on from there.")
    except UserError as error:
        course.status = 2
        course.problems.append(f"It could not {step}: {error}")
    except Exception as error:  # a bug of ours must be told as well, and must not be the end of the record
        show(traceback.format_exc(), error=True)
        course.status = 2
        course.problems.append(f"It could not {step}; that is a bug, please report it: {type(error).__name__}: {error}")
    with suppress(UserError):  # no space: what follows says so
        course.note("write down what came of it")
    tell(course)
    tonight_file(results).unlink(missing_ok=True)


def look(course: Course) -> None:
    """Register what is complete. A look that fails costs the night nothing else."""
    if not course.order.inbox:
        return
    sheet = Path(course.config.acquisitions)
    known = rows_so_far(sheet)[0]
    try:
        found = register_inbox(course.config, course.order.inbox)
        course.problems += [f"{entry.state}: {entry.name}: {entry.reason}" for entry in found if not entry.kind]
    except UserError as error:
        course.problems.append(f"The inbox could not be looked at: {error}")
    except Exception as error:
        show(traceback.format_exc(), error=True)
        course.problems.append(f"The inbox could not be looked at; that is a bug, please report it: {type(error).__name__}: {error}")
    course.registered = tuple(name for name in rows_so_far(sheet)[0] if name not in known)


def clear(course: Course) -> None:
    """End what a killed driver left, before anything is planned from files that it still writes. Another driver that lives is refused."""
    with takeover.driver_lock():
        takeover.end_what_was_left(course.config.results, course.remarks.append)


def run(course: Course) -> None:
    """Run the workflow, and find out what came of it."""
    before = stamps(course.config, to_restore(course.config), course.names)
    code = 0
    try:
        if course.targets:
            code = _drive(course)
    finally:
        _settle(course)
        course.came = came = outcome(course.config, to_restore(course.config), course.names, before, course.started)
        if act := sorted({failure.subject for failure in came.failed if failure.act}):
            course.problems.append(f"Failed: {', '.join(act)}; why, and what to do, stands under their names.")
        if came.unlike:
            named = ", ".join(came.unlike[:NAMED]) + (f" and {len(came.unlike) - NAMED} more" if len(came.unlike) > NAMED else "")
            course.remarks.append(f"Inputs that look like nothing that their model was trained on: {named}; their pages say what differs.")
        wait_for(course.config.acquisitions, PATIENCE_S)
        record_progress(course.config, came.notes)
    if code in TIMED_OUT:
        course.problems.append(
            f"The run was stopped at {moment(time.time())}, with {len(came.unfinished)} acquisitions unfinished; they go on the next "
            f"night. If that happens again, look into {course.log} for what hangs."
        )
    elif code and not came.failed:
        course.problems.append(f"Snakemake ended with status {code}, and no stage says why; {course.log} has what was said.")


def _settle(course: Course) -> None:
    """Let SLURM say what became of jobs that left no word; the driver does so too, unless it was killed."""
    try:
        settle(Path(course.config.results), Path(course.config.models), read_rows(course.config.acquisitions)[0])
    except Exception as error:
        show(traceback.format_exc(), error=True)
        course.remarks.append(f"What SLURM says of killed jobs could not be noted: {type(error).__name__}: {error}")


def _drive(course: Course) -> int:
    course.log = f"logs/nights/{datetime.fromtimestamp(course.started).strftime('%Y-%m-%d_%H%M%S')}.log"
    command = [*snakemake(course.order.profile, course.order.configs), "--", *course.targets]
    for start in range(STARTS):
        driver = Driver(command, course.end - time.time(), Path(course.log))
        try:
            code = driver.wait()
        finally:
            driver.stop()
        if code >= 0 or time.time() >= course.end:
            break
        if start + 1 < STARTS:
            course.remarks.append(f"Snakemake was killed (signal {-code}) at {moment(time.time())} and started again.")
    return TIMED_OUT[0] if code < 0 and time.time() >= course.end else code


@contextmanager
def _signals() -> Iterator[None]:
    """Turn the first signal that ends a service or a session into an exception, so that the night is written down."""
    old = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    ours = [number for number, handler in old.items() if handler == signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, old[number])
