"""From a template to a file: escaping, the page's own security policy, writing by rename."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from cvdm_core import __version__

LONGEST_TEXT = 300  # characters of a text from a file that are shown; a hostile name must not become the page


def clean(value: object) -> str:
    """Return text from a file for display: printable, one line, not endless. Escaping is the template's part."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cvdm_core.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean
    return environment


def render(template: str, **content: Any) -> str:
    """Return a page: every value is escaped unless it is markup that this package drew itself.

    The page forbids itself to load anything or to run any script but its own, so that even an escaping error could do no harm.
    """
    environment = _environment()
    source, _, _ = jinja2.PackageLoader("cvdm_core.report").get_source(environment, "page.js")
    script_sha = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return environment.get_template(template).render(script=Markup(source), script_sha=script_sha, version=__version__, **content)
