# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller knows every parameter that is a secret."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from ansible_collections.saasops.runbook.plugins import modules
from ansible_collections.saasops.runbook.plugins.module_utils.domain.secrets import SECRETS, carried

COLLECTION = Path(next(iter(modules.__path__))).parents[1]
MODULES = sorted(path.stem for path in (COLLECTION / "plugins" / "modules").glob("*.py") if path.stem != "__init__")


def options(spec: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every option and suboption with its name."""
    for name, body in spec.items():
        yield name, body
        inner = body.get("options")
        if isinstance(inner, Mapping):
            yield from options(inner)


@pytest.mark.parametrize("module", MODULES)
def test_every_parameter_that_is_not_logged_is_known_as_a_secret(module: str) -> None:
    spec = importlib.import_module(f"{modules.__name__}.{module}").SPEC
    secret = {name for name, body in options(spec) if body.get("no_log")}
    assert secret <= SECRETS
    # and the other way: a name that is a secret in one module is one in all
    assert {name for name, _body in options(spec) if name in SECRETS} == secret


def test_every_module_passes_admission() -> None:
    routing = yaml.safe_load((COLLECTION / "meta" / "runtime.yml").read_text(encoding="utf-8"))["plugin_routing"]
    routed = {name for name, body in routing["modules"].items() if body["action_plugin"] == "saasops.runbook.admission"}
    # the report is made on the controller, by a plugin that is an admission
    own = {"admission", "guard_report"}
    assert routed | own == set(MODULES)


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({"connection": {"host": "db", "password": "x"}}, ["connection.password"]),
        ({"connection": {"password": ""}, "store": {"secret_key": None}}, []),
        ({"poolers": [{"host": "p"}, {"password": "x"}]}, ["poolers[1].password"]),
        ({"connection": {"unix_socket": "/run"}, "store": {"path": "/srv"}}, []),
        ({"anchor": "/mnt"}, []),
    ],
)
def test_secrets_are_found_at_any_depth(values: Mapping[str, object], paths: list[str]) -> None:
    assert carried(values) == paths
