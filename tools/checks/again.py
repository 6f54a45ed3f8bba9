# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Few tests against real servers that failed are run once more, by themselves, and named whatever comes of it.

Some three thousand tests share a machine with servers, clients and each other; one of them being wrong about time
must not cost a run of an hour, and must not be forgotten either (CPython's own runner does the same, with --rerun).
More than a few is no accident: then nothing is run again.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

# of a whole run, all its parts together
MOST = 3
# of the name of a part, for the results of its second try
SUFFIX = "-again"
_BAD = ("failure", "error")


def node_id(case: ElementTree.Element) -> str:
    """How pytest is told to run the test of a JUnit file's case: "tests/a/test_b.py::TestC::test_d[18]"."""
    names = str(case.get("classname")).split(".")
    # what stands after the file's name are classes
    file = next((index for index, name in enumerate(names) if name.startswith("test_")), len(names) - 1)
    return "::".join(["/".join(names[: file + 1]) + ".py", *names[file + 1 :], str(case.get("name"))])


def failed(junit: Path) -> list[str]:
    """Tests that failed, each once."""
    cases = ElementTree.parse(junit).iter("testcase")  # noqa: S314 - written by our own pytest a moment ago
    return list(dict.fromkeys(node_id(case) for case in cases if any(case.find(tag) is not None for tag in _BAD)))


class Allowance:
    """How many tests of a run may still be run again."""

    def __init__(self, most: int = MOST) -> None:
        self._left = most
        self.used: list[str] = []

    def take(self, tests: list[str]) -> bool:
        """Whether all of these may be."""
        if not tests or len(tests) > self._left:
            return False
        self._left -= len(tests)
        self.used += tests
        return True
