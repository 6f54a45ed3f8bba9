# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of transports. Another one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Transport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.docker import open_docker
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport

TRANSPORTS: dict[str, Callable[[Mapping[str, object]], Transport]] = {
    "local": lambda params: LocalTransport(),
    "docker": open_docker,
}


def open_transport(params: Mapping[str, object]) -> Transport:
    """The transport that the option connection asks for. Raises OpsError unknown_transport."""
    name = str(params.get("transport") or "local")
    if name not in TRANSPORTS:
        raise OpsError(
            "unknown_transport", f"There is no transport {name!r}.", f"Use one of: {', '.join(sorted(TRANSPORTS))}."
        )
    return TRANSPORTS[name](params)
