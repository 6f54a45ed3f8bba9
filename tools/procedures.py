# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold docs/coverage.yml against what is there: its verbs, its guides, and tests that passed in this build.

Reads the JUnit files of the parts that ran before it, from the folder given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import yaml

from checks.again import SUFFIX, node_id
from checks.layout import ROOT

COVERAGE = ROOT / "docs" / "coverage.yml"
KEYS = {"verb", "guide", "tests"}


def results(files: Iterable[Path]) -> dict[str, set[str]]:
    """How each test ended in these JUnit files, its parameters left out: {"a/b.py::test_c": {"passed"}}.

    A file of a second try tells the end of what failed at first.
    """
    cases: dict[tuple[str, str], set[str]] = {}
    for file in sorted(files, key=lambda file: file.parent.name.endswith(SUFFIX)):
        part = file.parent.name.removesuffix(SUFFIX)
        told: dict[str, set[str]] = {}
        for case in ElementTree.parse(file).iter("testcase"):  # noqa: S314 - written by our own pytest a moment ago
            bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            told.setdefault(node_id(case), set()).update(bad or ["passed"])
        cases.update({(part, name): ended for name, ended in told.items()})
    found: dict[str, set[str]] = {}
    for (_part, name), ended in cases.items():
        found.setdefault(name.partition("[")[0], set()).update(ended)
    return found


def complaints(coverage: Mapping[str, Mapping[str, object]], ended: Mapping[str, set[str]], root: Path) -> list[str]:
    """What is wrong with the map of procedures, one sentence each."""
    wrong = []
    for identifier, entry in coverage.items():
        if set(entry) != KEYS:
            wrong.append(f"{identifier} has {', '.join(sorted(entry))} instead of {', '.join(sorted(KEYS))}.")
            continue
        if not (root / "playbooks" / f"{entry['verb']}.yml").is_file():
            wrong.append(f"{identifier}: there is no verb {entry['verb']}.")
        if not (root / str(entry["guide"])).is_file():
            wrong.append(f"{identifier}: there is no guide {entry['guide']}.")
        tests = entry["tests"]
        if not isinstance(tests, list) or not tests:
            wrong.append(f"{identifier} names no test.")
            continue
        for test in tests:
            how = ended.get(str(test), {"not run"})
            if how != {"passed"}:
                wrong.append(f"{identifier}: {test}: {', '.join(sorted(how))}.")
    return wrong


def main(results_folder: Path) -> int:
    coverage = yaml.safe_load(COVERAGE.read_text(encoding="utf-8"))
    wrong = complaints(coverage, results(sorted(results_folder.glob("*/junit.xml"))), ROOT)
    print("\n".join(wrong) or f"{len(coverage)} procedures, each with tests that passed in this build")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
