# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of `make test`: what each runs, in which environment, and what must be there for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from checks.layout import TREE

SERVERS = frozenset({"postgres", "alerts", "metrics"})
LAB = frozenset({"postgres", "docker", "ssh", "alerts", "metrics", "npm"})
BROWSER = frozenset({"browser"})


@dataclass(frozen=True)
class Part:
    """A command in one environment; {python}, {bin} and {work} in its words are filled in when it starts.

    seconds: what it took once on two cores, for the order of the first run and the limit.
    folder: the folder whose tests it runs; a part whose folder holds none is left out, never passed.
    without: folders inside it that this part does not run.
    marker: run only the tests so marked; left out while none is.
    sanity: run by ansible-test, with a home and a copy of the tree of its own.
    quick: part of the quick round.
    last: it looks at the results of the parts with tests, and so runs after all of them.
    """

    name: str
    environment: str
    argv: tuple[str, ...]
    seconds: int
    folder: str = ""
    without: tuple[str, ...] = ()
    marker: str = ""
    packages: frozenset[str] = frozenset()
    sanity: bool = False
    quick: bool = False
    last: bool = False

    @property
    def limit(self) -> int:
        # a machine that is used by others too may be slow; what hangs is ended by pytest's own limit for each test
        return max(1200, 4 * self.seconds)

    def why_left_out(self, tree: Path = TREE) -> str:
        """Why there is nothing to run yet, or an empty string."""
        if not self.folder:
            return ""
        files = [
            file
            for file in sorted((tree / self.folder).rglob("test_*.py"))
            if not any(file.is_relative_to(tree / folder) for folder in self.without)
        ]
        if not files:
            return f"no tests in {self.folder} yet"
        if self.marker and not any(f"mark.{self.marker}" in file.read_text(encoding="utf-8") for file in files):
            return f"no test in {self.folder} is marked {self.marker} yet"
        return ""


def pytest(
    name: str,
    environment: str,
    folder: str,
    seconds: int,
    *,
    packages: frozenset[str] = frozenset(),
    marker: str = "",
    quick: bool = False,
    without: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
) -> Part:
    """A pytest session of its own over one folder, with its results as JUnit XML."""
    chosen = ("-m", marker) if marker else ()
    ignored = tuple(f"--ignore={path}" for path in without)
    session = ("{python}", "-m", "pytest", "--color=no", "--junitxml={work}/junit.xml", "-p", "no:cacheprovider")
    argv = (*session, *chosen, *ignored, *options, folder)
    return Part(name, environment, argv, seconds, folder, without, marker, packages, quick=quick)


def sanity(core: str, seconds: int) -> Part:
    argv = ("{bin}/ansible-test", "sanity", "--color", "no")
    return Part(f"sanity-{core}", f"core-{core}", argv, seconds, packages=frozenset({"sanity"}), sanity=True)


# On a managed host there is no controller: what is tested there are the rooms that travel in a module's payload.
CONTROLLER_ONLY = ("tests/unit/tools", "tests/unit/controller", "tests/unit/lab", "tests/unit/benchmarks")
MEASURED = ("--cov", "--cov-config=pyproject.toml", "--cov-report=term-missing:skip-covered")

PARTS = (
    Part("ruff", "lint", ("{bin}/ruff", "check", "--no-cache", "."), 1, quick=True),
    Part("format", "lint", ("{bin}/ruff", "format", "--no-cache", "--diff", "."), 1, quick=True),
    Part("yamllint", "lint", ("{bin}/yamllint", "--strict", "."), 3, quick=True),
    Part("ansible-lint", "lint", ("{bin}/ansible-lint", "--offline", "--nocolor", "--strict"), 40),
    Part("mypy", "lint", ("{python}", "tools/typecheck.py"), 40),
    Part("imports", "lint", ("{bin}/lint-imports", "--no-cache"), 3, quick=True),
    Part("changelog", "lint", ("{bin}/antsibull-changelog", "lint"), 2, quick=True),
    sanity("newest", 60),
    sanity("2.16", 70),
    pytest("unit-2.16", "core-2.16", "tests/unit", 30),
    pytest("unit-3.9", "target-3.9", "tests/unit", 30, without=CONTROLLER_ONLY),
    pytest("contract", "core-newest", "tests/contract", 900, packages=LAB),
    pytest("scenarios-newest", "core-newest", "tests/scenarios", 2400, packages=LAB | BROWSER),
    pytest("scenarios-2.16", "core-2.16", "tests/scenarios", 400, packages=LAB, marker="essential"),
    pytest("faults", "core-newest", "tests/faults", 900, packages=LAB),
    pytest("docs", "core-newest", "tests/docs", 400, packages=SERVERS),
    pytest("packaging-newest", "core-newest", "tests/packaging", 15),
    pytest("packaging-2.16", "core-2.16", "tests/packaging", 15),
    Part("procedures", "lint", ("{python}", "tools/procedures.py", "{work}/.."), 1, last=True),
    pytest("unit-newest", "core-newest", "tests/unit", 30, quick=True, options=MEASURED),
)
