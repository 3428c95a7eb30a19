"""The end of a night: it is written down, the index page is brought up to date, and people are told."""

from __future__ import annotations

import platform
import time
import traceback
from pathlib import Path

from cvdm_core import paths
from cvdm_core.errors import UserError
from cvdm_core.nights import messages, summary
from cvdm_core.nights.course import Course
from cvdm_core.nights.printing import show
from cvdm_core.records.measuring import update_throughput
from cvdm_core.records.nights import add_night
from cvdm_core.report.index import write_index


def tell(course: Course) -> None:
    """Write the night down, measure, make the index page, and send the message; none of them can keep the others from it."""
    config = course.config
    course.status = course.status or (1 if course.problems else 0)
    ended = time.time()
    for what, work in (
        ("The night could not be written down", lambda: add_night(config.results, course.night(ended))),
        ("The throughput could not be measured", lambda: update_throughput(config)),
        ("The index page could not be written", lambda: write_index(config)),
    ):
        try:
            work()
        except UserError as error:
            course.status = course.status or 1
            course.problems.append(f"{what}: {error}")
        except Exception as error:
            show(traceback.format_exc(), error=True)
            course.status = course.status or 1
            course.problems.append(f"{what}; that is a bug, please report it: {type(error).__name__}: {error}")
    night = course.night(ended)
    places = [f"Folder: {platform.node()}:{Path.cwd()}", f"Index: {paths.index_page(config)}"]
    said = summary.text(night, [*places, f"Log: {course.log}"] if course.log else places, course.order.inbox)
    # Sent first: what is printed goes to a log on the disk whose want of space may be the news.
    unsent = messages.tell(config.messages, summary.subject(night, platform.node()), said, act=course.status > 0)
    show(said)
    for problem in unsent:
        show(f"cvdm night: {problem}\n", error=True)
