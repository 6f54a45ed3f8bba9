# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each command that a check tells to paste is one that its verb takes: playbook, variables, and words of a choice."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import jinja2
import pytest
import yaml
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[3]
COLLECTION = "ansible_collections.saasops.runbook"
SOURCES = ROOT / "plugins" / "module_utils"
# the class itself, and what reads remedies of an inventory
READERS = ("remedy.py", "health_checks.py")
# what a function that adds variables returns: its name -> the names
ADDED = {"elsewhere": ("saasops_database",), "_other": ("databases",)}


@dataclass(frozen=True)
class Told:
    """A remedy as it stands somewhere: variables with the values that are known, () for what is only known later."""

    where: str
    verb: str
    variables: Mapping[str, tuple[str, ...]]


class Module:
    """The remedies that the source of a Python file makes. Whatever it does not understand fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.loaded = importlib.import_module(".".join((COLLECTION, *parts)))
        self.functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]

    def remedies(self) -> Iterator[Told]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Remedy":
                yield from self._told(self._around(node), node)

    def _around(self, node: ast.AST) -> list[ast.FunctionDef]:
        """The functions that an expression stands in, the innermost last."""
        return [found for found in self.functions if any(inner is node for inner in ast.walk(found))]

    def _told(self, around: Sequence[ast.FunctionDef], node: ast.Call) -> Iterator[Told]:
        where = f"{self.path.name}:{node.lineno}"
        assert len(node.args) >= 2, f"{where}: verb and variables are told by their place"
        assert isinstance(node.args[0], ast.Constant), f"{where}: the verb is written out"
        if node.args[0].value:
            yield Told(where, str(node.args[0].value), dict(self._variables(around, node.args[1], where)))

    def _variables(
        self, around: Sequence[ast.FunctionDef], node: ast.expr, where: str
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        if isinstance(node, ast.Name):
            (node,) = [
                found.value
                for found in ast.walk(around[-1])
                if isinstance(found, ast.Assign) and getattr(found.targets[0], "id", "") == node.id
            ]
        assert isinstance(node, ast.Dict), f"{where}: variables are a dict"
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                name = getattr(value.func, "attr", getattr(value.func, "id", "")) if isinstance(value, ast.Call) else ""
                assert name in ADDED, f"{where}: what is added to the variables is not known here"
                yield from ((added, ()) for added in ADDED[name])
            else:
                assert isinstance(key, ast.Constant), where
                yield str(key.value), tuple(self._values(around, value))

    def _values(self, around: Sequence[ast.FunctionDef], node: ast.expr) -> Iterator[str]:
        """The words that an expression may stand for; nothing for what is measured."""
        if isinstance(node, ast.Constant):
            yield str(node.value)
        elif isinstance(node, ast.Name):
            constant = getattr(self.loaded, node.id, None)
            if isinstance(constant, str):
                yield constant
            for function in around:
                names = [argument.arg for argument in function.args.args]
                if node.id in names:
                    yield from self._given(function.name, names.index(node.id))

    def _given(self, name: str, place: int) -> Iterator[str]:
        """What calls of a function of this file give for one of its arguments."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name and len(node.args) > place:
                yield from self._values(self._around(node), node.args[place])


def built_in() -> list[Told]:
    files = [path for path in sorted(SOURCES.rglob("*.py")) if "Remedy(" in path.read_text(encoding="utf-8")]
    return [told for path in files if path.name not in READERS for told in Module(path).remedies()]


def of_inventories() -> list[Told]:
    found = []
    for path in sorted(ROOT.glob("inventories/*/group_vars/all/health.yml")):
        for check in yaml.safe_load(path.read_text(encoding="utf-8"))["saasops_checks"]:
            remedy = check.get("remedy") or {}
            if remedy.get("verb"):
                given = {str(name): str(value) for name, value in (remedy.get("variables") or {}).items()}
                values = {name: () if "{" in value else (value,) for name, value in given.items()}
                found.append(Told(f"{path.relative_to(ROOT)}: {check['name']}", remedy["verb"], values))
    return found


class Playbook:
    """What a verb reads: -e variables -> options of its role -> options of its module."""

    def __init__(self, verb: str) -> None:
        path = ROOT / "playbooks" / f"{verb}.yml"
        assert path.is_file(), f"there is no playbook {verb}"
        plays = yaml.safe_load(path.read_text(encoding="utf-8"))
        tasks = [task for play in plays for task in play["tasks"] if "ansible.builtin.include_role" in task]
        (self._task,) = [task for task in tasks if "guard" not in _role(task)][:1]
        role = ROOT / "roles" / _role(self._task)
        self._defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
        (self._call,) = [
            (str(name), options)
            for task in yaml.safe_load((role / "tasks" / "main.yml").read_text(encoding="utf-8"))
            for name, options in task.items()
            if str(name).startswith("saasops.runbook.") and isinstance(options, dict)
        ]

    def options(self, variable: str) -> list[Mapping[str, object]]:
        """The specs of the module's options that a variable reaches; the words of a choice are held against them."""
        vars_: dict[str, object] = {**self._defaults, **self._task["vars"]}
        reached = {variable}
        while True:
            more = {name for name, value in vars_.items() if read(value) & reached} - reached
            if not more:
                break
            reached |= more
        name, options = self._call
        spec = importlib.import_module(f"{COLLECTION}.plugins.modules.{name.rpartition('.')[2]}").SPEC
        return [spec[option] for option, value in options.items() if read(value) & reached]


def _role(task: Mapping[str, object]) -> str:
    return str(cast("Mapping[str, object]", task["ansible.builtin.include_role"])["name"]).rpartition(".")[2]


def read(value: object) -> set[str]:
    """Names that a value's templates read, and words of theirs that may be names for a lookup."""
    if isinstance(value, Mapping):
        return {name for item in value.values() for name in read(item)}
    if isinstance(value, list):
        return {name for item in value for name in read(item)}
    if not isinstance(value, str) or "{{" not in value:
        return set()
    parsed = jinja2.Environment(autoescape=True).parse(value)
    names = {node.name for node in parsed.find_all(nodes.Name)}
    if re.search(r"\b(lookup|query)\(", value):
        names |= {str(node.value) for node in parsed.find_all(nodes.Const)}
    return names


def parameters(told: Told) -> set[str]:
    """The parameters of a fix of the inventory that a remedy names: the playbook repair reads them by their names."""
    system = ROOT / Path(told.where.partition(":")[0]).parent
    fixes = yaml.safe_load((system / "repairs.yml").read_text(encoding="utf-8"))["saasops_repairs"]
    (fix,) = [item for item in fixes if (item["name"],) == told.variables["fix"]]
    return {item["name"] for item in fix.get("parameters", [])}


def words(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in value.split(",")]


@pytest.mark.parametrize("told", [*built_in(), *of_inventories()], ids=lambda told: f"{told.where} {told.verb}")
def test_what_a_remedy_says_is_what_its_verb_takes(told: Told) -> None:
    playbook = Playbook(told.verb)
    fix = parameters(told) if told.verb == "repair" else set()
    for name, values in told.variables.items():
        options = playbook.options(name)
        assert options or name in fix, f"{told.verb} reads no {name}"
        for option in options:
            choices = cast("Sequence[str]", option.get("choices") or words(values))
            assert set(words(values)) <= set(choices), f"{name} is {values}, and may be {choices}"


def test_all_commands_of_the_built_in_checks_are_held_against_their_verbs() -> None:
    verbs = [told.verb for told in built_in()]
    assert {"sessions", "maintenance", "index", "integrity", "backup"} <= set(verbs)
    measures = {word for told in built_in() for word in words(told.variables.get("measures", ()))}
    assert measures == {"vacuum", "analyze", "reindex", "rewrite"}
