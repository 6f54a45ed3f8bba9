# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that `ansible-galaxy collection build` makes works where this repository is not.

Everything runs from an empty folder, with the collection installed from the archive and nothing else of ours.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

SOURCE = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (SOURCE / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
PLAYBOOKS = sorted(path.stem for path in (SOURCE / "playbooks").glob("*.yml"))
ROLES = sorted(path.parents[1].name for path in (SOURCE / "roles").glob("*/meta/argument_specs.yml"))
# Where a run leaves its traces; none of it may travel.
FOREIGN = {"__pycache__", ".git", ".cache", ".lab", ".pytest_cache", ".hypothesis", "ansible_collections"}


def ansible(program: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment's ansible-core that sees no collection but the installed one."""
    hidden = ("PYTHONPATH", "ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment.update(
        ANSIBLE_COLLECTIONS_PATH=str(cwd / "installed"),
        ANSIBLE_HOME=str(cwd / "home"),
        ANSIBLE_LOCALHOST_WARNING="false",
        ANSIBLE_INVENTORY_UNPARSED_WARNING="false",
    )
    return subprocess.run(
        [str(Path(sys.executable).parent / program), *words],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    done = ansible("ansible-galaxy", "collection", "build", str(SOURCE), "--output-path", str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="session")
def elsewhere(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the collection installed from the archive, offline."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = ansible("ansible-galaxy", "collection", "install", str(archive), "--offline", "-p", "installed", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def documented(elsewhere: Path) -> Mapping[str, object]:
    """What ansible-doc says of our modules, by full name."""
    names = [f"saasops.runbook.{module}" for module in MODULES]
    done = ansible("ansible-doc", "--type", "module", "--json", *names, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_archive_is_named_after_galaxy_yml(archive: Path) -> None:
    galaxy = yaml.safe_load((SOURCE / "galaxy.yml").read_text(encoding="utf-8"))
    assert archive.name == f"saasops-runbook-{galaxy['version']}.tar.gz"


def test_no_collection_is_a_hard_dependency() -> None:
    assert yaml.safe_load((SOURCE / "galaxy.yml").read_text(encoding="utf-8"))["dependencies"] == {}


def test_the_archive_holds_no_trace_of_a_run(archive: Path) -> None:
    with tarfile.open(archive) as members:
        names = [Path(name) for name in members.getnames()]
    assert [name for name in names if FOREIGN & set(name.parts)] == []
    assert [name for name in names if name.suffix in {".pyc", ".retry", ".gz"}] == []
    assert [name for name in names if name.parts[:2] == ("tests", "output")] == []


@pytest.mark.parametrize("module", MODULES)
def test_ansible_doc_describes_the_installed_module_with_examples_and_return_values(
    module: str, documented: Mapping[str, dict[str, object]]
) -> None:
    described = documented[f"saasops.runbook.{module}"]
    assert described.get("doc")
    assert described.get("examples")
    assert described.get("return")


@pytest.mark.parametrize("role", ROLES)
def test_ansible_doc_describes_the_installed_role(role: str, elsewhere: Path) -> None:
    done = ansible("ansible-doc", "--type", "role", "--json", f"saasops.runbook.{role}", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[f"saasops.runbook.{role}"]["entry_points"]


@pytest.mark.skipif(not PLAYBOOKS, reason="the collection has no playbook")
def test_every_verb_is_found_by_its_full_name_and_parses(elsewhere: Path) -> None:
    verbs = [f"saasops.runbook.{playbook}" for playbook in PLAYBOOKS]
    done = ansible("ansible-playbook", "--syntax-check", "-i", "localhost,", *verbs, cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_an_installed_module_travels_whole_and_answers_for_itself(module: str, elsewhere: Path) -> None:
    """Without sense in its options it starts, imports all it needs and refuses by its own argument spec."""
    done = ansible(
        "ansible", "localhost", "-c", "local", "-m", f"saasops.runbook.{module}", "-a", "no_such=1", cwd=elsewhere
    )
    assert re.search("missing required arguments|Unsupported parameters", done.stdout + done.stderr)


def test_every_module_that_reaches_a_database_takes_the_defaults_of_the_group() -> None:
    runtime = yaml.safe_load((SOURCE / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    group = set(runtime["action_groups"]["database"])
    assert {f"saasops.runbook.{module}" for module in MODULES if module.startswith("pg_")} <= group
