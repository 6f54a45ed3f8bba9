# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's view as one HTML page that needs nothing else.

Ansible's own templating never escapes and, since core 2.19, renders natively, where even {% autoescape %} does
nothing. What comes from journals and table names is not to be trusted with that, so the page has an environment of its
own with autoescape on. Behind it stands a Content-Security-Policy that names this page's one script and one style by
their SHA-256: a script that slipped through would not run, and nothing can be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

PAGES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pages")


def _source(name: str) -> str:
    with open(os.path.join(PAGES, name), encoding="utf-8") as stream:
        return stream.read()


def _hash(text: str) -> str:
    """A source of a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def policy(style: str, script: str) -> str:
    """The page's Content-Security-Policy: this style and this script, and nothing from anywhere."""
    return (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def render(view: Mapping[str, object]) -> str:
    """The page of a view (domain/report_view.py). Raises jinja2.UndefinedError for a view of another release."""
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, script = _source("report.css"), _source("report.js")
    # the only two texts that are not escaped are our own files
    page = environment.get_template("report.html.j2")
    return page.render(view=view, style=Markup(style), script=Markup(script), policy=policy(style, script))  # noqa: S704
