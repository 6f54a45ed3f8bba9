# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the contracts of import-linter cannot say: decisions need nothing but Python itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOMAIN = Path(__file__).resolve().parents[3] / "plugins" / "module_utils" / "domain"
OWN = "ansible_collections.saasops.runbook.plugins.module_utils.domain"


def imported(source: str) -> Iterator[str]:
    """The full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def foreign(source: str) -> list[str]:
    return [
        name
        for name in imported(source)
        if name.split(".")[0] not in sys.stdlib_module_names and f"{name}.".find(f"{OWN}.") != 0
    ]


@pytest.mark.parametrize("file", sorted(DOMAIN.glob("**/*.py")), ids=lambda file: file.stem)
def test_a_decision_imports_the_standard_library_and_decisions_alone(file: Path) -> None:
    assert foreign(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import yaml", ["yaml"]),
        ("from . import plan", ["."]),
        ("def f():\n    import jinja2.nodes", ["jinja2.nodes"]),
        (f"from {OWN.replace('domain', 'store')} import base", [OWN.replace("domain", "store")]),
        (f"import json\nfrom {OWN}.errors import OpsError", []),
    ],
)
def test_what_is_neither_is_found_wherever_it_stands(line: str, found: list[str]) -> None:
    assert foreign(line) == found
