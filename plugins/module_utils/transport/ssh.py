# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs and files on another host, through OpenSSH's client on the module's host.

The user's and the system's ssh configuration are respected (ProxyJump, aliases); what the promises here rest on
is set on the command line, which wins: no prompt, no terminal, host keys checked strictly, nothing forwarded.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport import ssh_failures as failures
from ansible_collections.saasops.runbook.plugins.module_utils.transport.exec_transport import ExecTransport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.ssh_connection import SharedConnection

# unanswered questions after which a connection is taken for dead
_ALIVE_COUNT = 4


@dataclass(frozen=True)
class SshHost:
    """How to log in. Empty or 0 leaves the choice to ssh's configuration.

    host: name, address or alias. known_hosts: the only file of host keys, where given. connect_timeout, read_timeout:
    seconds until a host that does not answer is given up, before and after the login.
    """

    host: str
    port: int = 0
    user: str = ""
    identity_file: str = ""
    known_hosts: str = ""
    connect_timeout: int = 10
    read_timeout: int = 60
    program: str = "ssh"

    @property
    def where(self) -> str:
        """As an operator writes it: [user@]host[:port]."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    def client(self) -> list[str]:
        """argv of ssh with every option but those of sharing, without the host."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "ConnectTimeout": str(max(1, self.connect_timeout)),
            "ServerAliveInterval": str(max(1, self.read_timeout // _ALIVE_COUNT)),
            "ServerAliveCountMax": str(_ALIVE_COUNT),
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "ControlPersist": "no",
            # objects are compressed already
            "Compression": "no",
            # the words that failures are told by, and no more
            "LogLevel": "ERROR",
        }
        if self.port:
            options["Port"] = str(self.port)
        if self.user:
            options["User"] = self.user
        if self.identity_file:
            options["IdentityFile"] = _configured(self.identity_file)
            options["IdentitiesOnly"] = "yes"
        if self.known_hosts:
            options["UserKnownHostsFile"] = _configured(self.known_hosts)
            options["GlobalKnownHostsFile"] = os.devnull
        argv = [self.program, "-T", "-a", "-x"]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        return argv


class SshGateway:
    """See exec_process.Gateway."""

    name = "ssh"
    hangs_up = True

    def __init__(self, host: SshHost) -> None:
        self._where = host.where
        self._connection = SharedConnection(host.client(), host.host, host.where, host.connect_timeout)

    def command(self, env: Mapping[str, str], program: Sequence[str]) -> list[str]:
        # sshd gives one string to the login shell; env puts the variables where the server would drop them
        far = ["exec", "env", *[f"{key}={value}" for key, value in env.items()], *program]
        return [*self._connection.up(), " ".join(shlex.quote(word) for word in far)]

    def diagnose(self, doing: str, code: int | None, stderr: str) -> OpsError:
        if code in (126, 127):
            return failures.shell_unusable(self._where, f"sh or env cannot be run: {failures.last_line(stderr)}")
        return failures.cut(self._where, doing, code, stderr)

    def close(self) -> None:
        """End the shared connection; a later command opens a new one."""
        self._connection.close()


def open_ssh(host: SshHost) -> ExecTransport:
    """The transport for a host; nothing is contacted yet.

    Raises OpsError ssh_option for a value that is none, so that no option of ssh can be smuggled in, and
    identity_missing, known_hosts_missing for a file that cannot be read.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*", host.host):
        raise _bad("host", host.host, "a name or address")
    if host.user and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@$\\-]*", host.user):
        raise _bad("user", host.user, "a login name")
    if not 0 <= host.port <= 65535:
        raise _bad("port", str(host.port), "a port")
    for option, path, code in (
        ("identity_file", host.identity_file, "identity_missing"),
        ("known_hosts", host.known_hosts, "known_hosts_missing"),
    ):
        if re.search(r'["\n\\]', path):
            raise _bad(option, path, "a path without quotes, backslashes and line breaks")
        if path and not os.access(path, os.R_OK):
            raise OpsError(
                code,
                f"The file {path} of the suboption {option} cannot be read on the host where the module runs.",
                "Put it there, readable by the user that runs the module, or name another one.",
                {"path": path},
            )
    return ExecTransport(SshGateway(host))


def _bad(option: str, value: str, wanted: str) -> OpsError:
    return OpsError(
        "ssh_option", f"{value[:80]!r} is not {wanted}.", f"Set the suboption {option} to {wanted}, or leave it out."
    )


def _configured(path: str) -> str:
    """A path as a value of ssh's configuration, where % begins a token and a space the next value."""
    return '"' + path.replace("%", "%%") + '"'
