# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client tools on this machine as another user of it, for a server that lets its own user in by peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Completed, Process
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport


class AsUser(LocalTransport):
    """See transport.base.Transport. prefix: argv that changes the user and runs what follows (setpriv, runuser)."""

    def __init__(self, prefix: Sequence[str]) -> None:
        self._prefix = tuple(prefix)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Completed:
        return super().run([*self._prefix, *argv], env=env, stdin=stdin, timeout=timeout)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, stdout: bool = True
    ) -> Process:
        return super().start([*self._prefix, *argv], env=env, stdin=stdin, stdout=stdout)
