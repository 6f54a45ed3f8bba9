# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd that end something at its time on this host, whatever became of whoever made them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.timer_unit import (
    Expiry,
    moment,
    name_of,
    service,
    timer,
)
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Transport

BOOTED = "/run/systemd/system"
PERSISTENT, TRANSIENT = "/etc/systemd/system", "/run/systemd/system"
SECRETS = "/var/lib/saasops/expiry"


def missing() -> OpsError | None:
    """Why no timer can be made on this host; None when one can."""
    if not os.path.isdir(BOOTED) or shutil.which("systemctl") is None:
        return OpsError(
            "expiry_without_actor",
            "systemd does not run on this host, so nobody would end it when its time has come.",
            "Leave the length of time out and end it yourself (state=released); status shows it until then.",
        )
    if os.geteuid() != 0:
        return OpsError(
            "expiry_needs_root",
            "A timer of systemd is made by root, and this task is not run as root.",
            "Let this one task become root (saasops_timer_become: true in the inventory), or leave the length of time "
            "out and end it yourself (state=released).",
        )
    return None


@dataclass(frozen=True)
class Paths:
    """Where the units of one expiry lie."""

    timer: str
    service: str
    secret: str

    @property
    def all(self) -> list[str]:
        return [self.timer, self.service, self.secret]


def paths(identifier: str, folder: str = PERSISTENT) -> Paths:
    name = os.path.join(folder, name_of(identifier))
    return Paths(f"{name}.timer", f"{name}.service", os.path.join(SECRETS, identifier))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def _found(identifier: str) -> list[Paths]:
    both = (paths(identifier, folder) for folder in (PERSISTENT, TRANSIENT))
    return [place for place in both if os.path.exists(place.timer) or os.path.exists(place.service)]


def exists(identifier: str) -> bool:
    """Whether any unit of this name lies here; readable for everybody."""
    return bool(_found(identifier)) or os.path.exists(paths(identifier).secret)


def stands(transport: Transport, identifier: str, at: float) -> bool:
    """Whether a timer waits for exactly this moment (POSIX seconds); readable for everybody."""
    if not any(f"OnCalendar={moment(at)}\n" in _text(place.timer) for place in _found(identifier)):
        return False
    argv = ["systemctl", "is-active", "--quiet", f"{name_of(identifier)}.timer"]
    return shutil.which("systemctl") is not None and transport.run(argv, timeout=30).code == 0


def texts(expiry: Expiry, folder: str) -> dict[str, str]:
    """Path -> text of both units."""
    place = paths(expiry.id, folder)
    systemctl, rm = (os.path.realpath(shutil.which(name) or name) for name in ("systemctl", "rm"))
    return {place.service: service(expiry, systemctl, rm, place.all), place.timer: timer(expiry)}


def same(transport: Transport, expiry: Expiry, secret: str, folder: str) -> bool:
    """Whether these very units wait already."""
    written = all(_text(path) == text for path, text in texts(expiry, folder).items())
    kept = _text(paths(expiry.id).secret) if os.path.exists(paths(expiry.id).secret) else ""
    return written and kept == secret and stands(transport, expiry.id, expiry.at)


def _systemctl(transport: Transport, *words: str) -> None:
    done = transport.run(["systemctl", *words], timeout=60)
    if done.code != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise OpsError("timer_failed", f"systemctl {words[0]} exited {done.code}: {said}", "See journalctl -xe.")


def _write(path: str, text: str, mode: int, owner: Sequence[int] = ()) -> None:
    part = f"{path}.{os.urandom(4).hex()}"
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
            if owner:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise OpsError(
            "timer_failed", f"{path} could not be written: {error.strerror}.", "Free space, or check its folder."
        ) from error


def install(transport: Transport, expiry: Expiry, secret: str, owner: tuple[int, int], folder: str) -> None:
    """Make both units and start the timer; what waited under this name before is replaced.

    secret: the text of a file of mode 0600 that belongs to owner (uid, gid), beside the units, "" for none.
    Raises OpsError timer_failed; then nothing of it is left.
    """
    place = paths(expiry.id, folder)
    try:
        if secret:
            os.makedirs(SECRETS, mode=0o711, exist_ok=True)
            _write(place.secret, secret, 0o600, owner)
        for path, text in texts(expiry, folder).items():
            _write(path, text, 0o644)
        _systemctl(transport, "daemon-reload")
        if folder == PERSISTENT:
            _systemctl(transport, "enable", "--quiet", f"{name_of(expiry.id)}.timer")
        # not start: one that stands already would keep its old time
        _systemctl(transport, "restart", f"{name_of(expiry.id)}.timer")
        if not stands(transport, expiry.id, expiry.at):
            raise OpsError("timer_failed", f"{place.timer} does not run.", "See systemctl status of it.")
    except OpsError:
        with contextlib.suppress(OpsError):
            remove(transport, expiry.id)
        raise


def remove(transport: Transport, identifier: str) -> None:
    """Take the units of one expiry away; no error when there are none."""
    units = f"{name_of(identifier)}.timer"
    found = _found(identifier)
    if any(os.path.exists(place.timer) for place in found):
        _systemctl(transport, "disable", "--quiet", "--now", units)
    for place in [*found, paths(identifier)]:
        for path in place.all:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    if found:
        _systemctl(transport, "daemon-reload")
        # a service that failed on its way stays in the list of failed units otherwise
        transport.run(["systemctl", "reset-failed", f"{name_of(identifier)}.service"], timeout=30)
