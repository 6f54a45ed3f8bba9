# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of the two systemd units that end something at its time: a service with the act, a timer with the moment.

The service is tried again until the act succeeds, and then removes both units: nothing is left of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.open_item import ID

PREFIX = "saasops-expiry-"
RETRY_SECONDS = 15
ATTEMPT_SECONDS = 60
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?\Z")


@dataclass(frozen=True)
class Expiry:
    """What happens when. at: POSIX seconds. argv: the act, its program with an absolute path; no shell reads it.

    user: who runs it. environment: no secrets, units can be read by everybody.
    """

    id: str
    at: float
    argv: tuple[str, ...]
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


def name_of(identifier: str) -> str:
    """The name of the units without their suffix. Raises OpsError bad_item."""
    if not ID.match(identifier):
        raise OpsError("bad_item", f"{identifier[:80]!r} cannot name an expiry.", "Use a-z, 0-9 and hyphens.")
    return PREFIX + identifier


def moment(at: float) -> str:
    """A time as OnCalendar takes it; whole seconds, never before the moment."""
    whole = datetime.fromtimestamp(int(at) + (at > int(at)), tz=timezone.utc)
    return whole.strftime("%Y-%m-%d %H:%M:%S UTC")


def quoted(word: str) -> str:
    """One word of a command line or of Environment, as systemd.syntax(7) reads it back unchanged."""
    if "\0" in word:
        raise OpsError("bad_argv", "A word of argv holds a NUL.", "Leave it out.")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return '"' + text.replace("\t", "\\t").replace("\r", "\\r") + '"'


def command(argv: Sequence[str]) -> str:
    """argv for ExecStart, where a dollar sign is special too."""
    return " ".join(quoted(word).replace("$", "$$") for word in argv)


def _plain(text: str) -> str:
    return " ".join(text.replace("%", "%%").split()).rstrip("\\")[:200]


def refuse_bad(expiry: Expiry) -> None:
    """Raises OpsError bad_argv, bad_item for what would not be read back as it was meant."""
    name_of(expiry.id)
    if not expiry.argv or not expiry.argv[0].startswith("/"):
        raise OpsError("bad_argv", "The program of argv needs an absolute path.", "Give a list that begins with one.")
    if not _USER.match(expiry.user) or any(not _VARIABLE.match(name) for name in expiry.environment):
        raise OpsError("bad_argv", "The user or a variable's name is not one.", "Correct user and environment.")


def service(expiry: Expiry, systemctl: str, rm: str, files: Sequence[str]) -> str:
    """The service: the act, and when that succeeded the removal of the units and of files, as root."""
    refuse_bad(expiry)
    lines = [
        "[Unit]",
        f"Description={_plain(expiry.description or expiry.id)}",
        "After=network.target postgresql.service",
    ]
    lines += ["", "[Service]", "Type=oneshot", f"User={expiry.user}", f"TimeoutStartSec={ATTEMPT_SECONDS}"]
    lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in sorted(expiry.environment.items())]
    lines.append(f"ExecStart={command(expiry.argv)}")
    timer = f"{name_of(expiry.id)}.timer"
    lines.append(f"ExecStart=+{command([systemctl, '--no-block', 'disable', '--now', timer])}")
    lines.append(f"ExecStart=+{command([rm, '-f', *files])}")
    return "\n".join(lines) + "\n"


def timer(expiry: Expiry) -> str:
    """The timer. A moment that passed while the host was down is made up for at its start."""
    return "\n".join(
        [
            "[Unit]",
            f"Description={_plain(expiry.description or expiry.id)}",
            "",
            "[Timer]",
            f"OnCalendar={moment(expiry.at)}",
            "AccuracySec=1s",
            "Persistent=true",
            f"OnUnitInactiveSec={RETRY_SECONDS}s",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )
