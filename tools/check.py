# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run everything that must hold before a change is merged, or the parts that are asked for.

Needs Python >= 3.11 and nothing else: it installs Debian packages that tests need (when root), makes the locked
environments under .cache, lays the tree out and runs the parts in two lanes. Logs are in .cache/logs. The last
thing printed is the closing line of a pytest session: of a failed one, if any, else of the unit tests.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import tree
from checks import again, debian, environments, sanity
from checks.lanes import Children, Job, Lanes
from checks.layout import CACHE, COLLECTION, LOGS, RESULTS, ROOT, TREE, CheckError
from checks.parts import PARTS, Part
from checks.report import RED, YELLOW, Outcome, coloured, counts, table, verdict

LANES = 2
SHOWN_LINES = 200
DURATIONS = CACHE / "durations.json"
SHORT_SECONDS, SHORT_FIRST = 5, 900.0
PACKAGES_JOB = "debian packages"
# pytest's exit code for that, and for nothing worse
TESTS_FAILED = 1


class Run:
    """One run over some parts."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.children = Children()
        self.started = time.monotonic()
        self.printing = threading.Lock()
        self.interrupted = False
        self.allowance = again.Allowance()
        self.durations: dict[str, float] = {}
        if DURATIONS.is_file():
            self.durations = json.loads(DURATIONS.read_text(encoding="utf-8"))

    def jobs(self) -> list[Job]:
        """The parts, and before them the environments and Debian packages they need."""
        groups = frozenset(group for part in self.parts for group in part.packages)
        jobs = []
        if groups:
            jobs.append(Job(PACKAGES_JOB, partial(debian.install, groups), 10_000))
        for name in dict.fromkeys(part.environment for part in self.parts):
            environment = environments.ENVIRONMENTS[name]
            weight = 1_000 + max(self.weight(part) for part in self.parts if part.environment == name)
            jobs.append(Job(f"environment {name}", partial(prepare, environment), weight))
        for part in self.parts:
            needs = {f"environment {part.environment}"} | ({PACKAGES_JOB} if part.packages else set())
            if part.last:
                needs |= {other.name for other in self.parts if other.folder}
            jobs.append(Job(part.name, partial(self.execute, part), self.weight(part), frozenset(needs)))
        return jobs

    def weight(self, part: Part) -> float:
        """Long parts first, for even lanes; but before them what takes no time and fails most often."""
        seconds = self.durations.get(part.name, float(part.seconds))
        return SHORT_FIRST if seconds < SHORT_SECONDS else seconds

    def execute(self, part: Part) -> str:
        """Run one part to its end and return its counts. Raises CheckError when it failed."""
        work = fresh(part.name)
        # what an earlier run said at its second try says nothing of this one
        shutil.rmtree(RESULTS / again_of(part), ignore_errors=True)
        environment = environments.ENVIRONMENTS[part.environment]
        tree_of_part, variables = TREE, part_variables(environment)
        if part.sanity:
            tree_of_part = CACHE / "ansible-test" / "trees" / part.environment / COLLECTION
            tree.lay_out(tree_of_part)
            sanity.own_repository(tree_of_part)
            if endless := sanity.endless(tree_of_part):
                raise CheckError(
                    f"A parameter is named like its annotation, which ansible-test never ends on: {endless}"
                )
            variables.update(sanity.prepare(environment))
        code = self.children.run(command(part, work), tree_of_part, variables, log_of(part.name), part.limit)
        junit = work / "junit.xml"
        note = counts(junit) if junit.is_file() else ""
        if code == TESTS_FAILED and part.packages and junit.is_file():
            code, note = self.once_more(part, variables, note)
        if code != 0:
            raise CheckError(", ".join(filter(None, (note, f"exit code {code}"))))
        if part.sanity and sanity.nothing_tested(log_of(part.name).read_text(encoding="utf-8")):
            raise CheckError("ansible-test found no file to test")
        if part.folder and (not junit.is_file() or note == "no tests"):
            raise CheckError("it ran no test")
        return note

    def once_more(self, part: Part, variables: dict[str, str], note: str) -> tuple[int, str]:
        """Run the tests of a part that failed a second time, when they are few; its exit code and what to say."""
        tests = again.failed(RESULTS / part.name / "junit.xml")
        with self.printing:
            allowed = self.allowance.take(tests)
        if not allowed:
            return TESTS_FAILED, note
        name = again_of(part)
        words = [word for word in command(part, fresh(name)) if word != part.folder]
        code = self.children.run([*words, *tests], TREE, variables, log_of(name), part.limit)
        with self.printing:
            print(coloured(f"Run again, for they failed: {', '.join(tests)}. Exit code {code}.", YELLOW), flush=True)
            if code == 0:
                print(excerpt(Outcome(part.name, "failed", 0.0)), flush=True)
        return code, f"{note}; {'passed' if code == 0 else 'not passed'} when run again: {', '.join(tests)}"

    def tell(self, outcome: Outcome) -> None:
        """Say how a part ended, with its log when it failed; nothing once the run is interrupted."""
        if self.interrupted:
            return
        clock = time.monotonic() - self.started
        with self.printing:
            note = outcome.note.splitlines()[0] if outcome.note else ""
            line = f"[{clock:6.1f} s] {outcome.status} {outcome.name} ({outcome.seconds:.1f} s) {note}".rstrip()
            print(coloured(line, RED) if outcome.status == "failed" else line, flush=True)
            if outcome.status == "failed":
                print(excerpt(outcome), flush=True)

    def finish(self, outcomes: list[Outcome]) -> int:
        """Print the table, the verdict and last a pytest session's own closing lines; return the exit code."""
        self.durations.update({o.name: round(o.seconds, 1) for o in outcomes if o.status == "passed"})
        DURATIONS.write_text(json.dumps(self.durations, indent=1, sort_keys=True), encoding="utf-8")
        print(f"\n{table(outcomes, time.monotonic() - self.started)}\n\n{verdict(outcomes)}\n")
        if self.allowance.used:
            print(coloured(f"FAILED AT FIRST, find out why: {', '.join(self.allowance.used)}\n", YELLOW))
        failed = {o.name for o in outcomes if o.status == "failed"}
        ran = [part.name for part in self.parts if part.folder and log_of(part.name).is_file()]
        closing = [name for name in ran if name in failed] or ran
        if closing:
            print(f"{closing[-1]}:")
            print("\n".join(log_of(closing[-1]).read_text(encoding="utf-8", errors="replace").splitlines()[-3:]))
        return 1 if failed else 0


def fresh(name: str) -> Path:
    """An empty folder for the results of a part."""
    work = RESULTS / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def again_of(part: Part) -> str:
    """What the second try of a part is called."""
    return f"{part.name}{again.SUFFIX}"


def command(part: Part, work: Path) -> list[str]:
    """The words of a part's command, with its results in that folder."""
    environment = environments.ENVIRONMENTS[part.environment]
    places = {"python": str(environment.python), "bin": str(environment.folder / "bin"), "work": str(work)}
    return [word.format(**places) for word in part.argv]


def prepare(environment: environments.Environment) -> str:
    return f"Python {environments.ensure(environment).resolve().name.removeprefix('python')}"


def log_of(name: str) -> Path:
    return LOGS / f"{name.replace(' ', '-')}.log"


def excerpt(outcome: Outcome) -> str:
    """The end of a failed part's log, or the whole reason when it has none."""
    log = log_of(outcome.name)
    if not log.is_file():
        return outcome.note
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    cut = [f"... {len(lines) - SHOWN_LINES} lines more in {log.relative_to(ROOT)}"] if len(lines) > SHOWN_LINES else []
    return "\n".join(f"    {line}" for line in [*cut, *lines[-SHOWN_LINES:]])


def part_variables(environment: environments.Environment) -> dict[str, str]:
    """What every part sees: its environment's programs first, the tree to import from, caches out of the tree."""
    variables = environments.pip_environment()
    variables.update(
        PATH=os.pathsep.join([str(environment.folder / "bin"), variables.get("PATH", os.defpath)]),
        VIRTUAL_ENV=str(environment.folder),
        PYTHONPATH=os.pathsep.join([str(ROOT), *target_module_utils(environment)]),
        ANSIBLE_COLLECTIONS_PATH=str(ROOT),
        ANSIBLE_HOME=str(CACHE / "ansible"),
        HYPOTHESIS_STORAGE_DIRECTORY=str(CACHE / "hypothesis"),
        COVERAGE_FILE=str(CACHE / "coverage"),
        MYPY_CACHE_DIR=str(CACHE / "mypy"),
    )
    return variables


def target_module_utils(environment: environments.Environment) -> list[str]:
    """A managed host has no ansible-core, but a module's payload brings ansible.module_utils: give it that alone."""
    if not environment.name.startswith("target-"):
        return []
    newest = environments.ensure(environments.ENVIRONMENTS["core-newest"]).parents[1]
    package = CACHE / "payload" / "ansible"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").unlink(missing_ok=True)
    (package / "__init__.py").write_text("from ansible.release import __author__, __version__\n", encoding="utf-8")
    for name in ("release.py", "module_utils"):
        link = package / name
        link.unlink(missing_ok=True)
        link.symlink_to(next(newest.glob(f"lib/python*/site-packages/ansible/{name}")))
    return [str(package.parent)]


def chosen_parts(only: str, quick: bool) -> list[Part]:
    """The parts asked for, in the table's order. Raises CheckError for a name that is none."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = sorted(set(names) - {part.name for part in PARTS})
    if unknown:
        raise CheckError(f"No such part: {', '.join(unknown)}. `--list` shows them.")
    return [part for part in PARTS if (part.name in names if names else part.quick or not quick)]


def check(parts: list[Part]) -> int:
    """Run these parts and return the exit code."""
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "check.lock", "a+", encoding="utf-8") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckError("Another run of tools/check.py is under way in this checkout; wait for it.") from None
        shutil.rmtree(LOGS, ignore_errors=True)
        LOGS.mkdir(parents=True)
        tree.lay_out(TREE)
        left_out = [Outcome(p.name, "left out", 0.0, p.why_left_out()) for p in parts if p.why_left_out()]
        skipped = {outcome.name for outcome in left_out}
        run = Run([part for part in parts if part.name not in skipped])
        lanes = Lanes(run.jobs(), run.tell)
        try:
            outcomes = lanes.run(LANES)
        except KeyboardInterrupt:
            print(coloured("\nInterrupted: stopping what runs ...", RED), flush=True)
            run.interrupted = True
            lanes.stop()
            run.children.stop()
            return 130
        return run.finish(outcomes + left_out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="PART,PART", help="run these parts alone")
    parser.add_argument("--fast", action="store_true", help="the quick round: style, imports and unit tests")
    parser.add_argument("--list", action="store_true", help="name the parts and what they run")
    options = parser.parse_args()
    if options.list:
        for part in PARTS:
            print(f"{part.name:<18}{part.why_left_out(ROOT) or ' '.join(part.argv)}")
        return 0
    # Being told to end is an interrupt too: what was started is stopped first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts what runs in its background deaf to Ctrl-C, and tests of Ctrl-C would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return check(chosen_parts(options.only, options.fast))
    except CheckError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
