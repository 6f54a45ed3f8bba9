# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parameters of our modules are secrets, so that the controller knows what it is about to send."""

from __future__ import annotations

from collections.abc import Mapping

# every option and suboption of our modules that is no_log; a test holds this against all argument specs
BAG = "secrets"  # a dictionary of which every value is one
SECRETS = frozenset(
    {
        "access_key",
        "api_key",
        "password",
        "secret_key",
        "session_token",
        "bearer_token",
        "pgpass",
        "url_password",
        BAG,
    }
)


def carried(values: object, path: str = "") -> list[str]:
    """The paths of secrets that are given in parameters, for instance store.secret_key; [] when there is none."""
    if isinstance(values, Mapping):
        found = []
        for name, value in values.items():
            here = f"{path}.{name}" if path else str(name)
            if str(name) in SECRETS and not isinstance(value, Mapping):
                found += [here] if value else []
            elif str(name) == BAG and isinstance(value, Mapping):
                found += [f"{here}.{key}" for key, secret in value.items() if secret]
            else:
                found += carried(value, here)
        return found
    if isinstance(values, (list, tuple)):
        return [item for number, value in enumerate(values) for item in carried(value, f"{path}[{number}]")]
    return []
