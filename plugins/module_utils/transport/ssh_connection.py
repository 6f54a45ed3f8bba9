# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One authenticated ssh connection that many small programs share (OpenSSH's ControlMaster).

The master is a child of ours whose far end reads a pipe that we hold. When we end, however we end, the pipe is
closed and the master goes; nothing of it persists.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport import ssh_failures as failures
from ansible_collections.saasops.runbook.plugins.module_utils.transport.exec_process import (
    end_client,
    signal_client,
    spawn,
)

_PREFIX = "saasops-ssh-"
_SOCKET = "s"
# a socket's path may have 107 bytes, and ssh adds 17 while it makes it
_LONGEST_FOLDER = 60
# Seconds: a folder this old without a listener was left by a killed run.
_ABANDONED = 120.0
_STDERR_KEPT = 64 * 1024
# Seconds for keys and login after the connection stands.
_LOGIN = 30.0


class SharedConnection:
    """The master for one host; up() brings it up, and up again after it was cut. Safe for threads.

    client: argv of ssh with its options, without host and ControlPath. where: the host as an operator wrote it.
    connect_timeout: seconds.
    """

    def __init__(self, client: Sequence[str], host: str, where: str, connect_timeout: float) -> None:
        self._client = list(client)
        self._host = host
        self._where = where
        self._patience = connect_timeout + _LOGIN
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., SharedConnection] | None = None
        self._folder = ""

    def up(self) -> list[str]:
        """argv of a client that goes through the master, up to and with the host.

        Raises OpsError tool_missing, host_unreachable, host_key_unknown, host_key_changed, login_refused,
        shell_unusable.
        """
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self.close()
                self._start()
            return [*self._client, "-o", "ControlMaster=no", *self._shared(), "--", self._host]

    def close(self) -> None:
        """End the master and remove its folder."""
        if self._end is not None:
            self._end()
        self._child = self._end = None

    def _shared(self) -> list[str]:
        return ["-o", f"ControlPath={os.path.join(self._folder, _SOCKET)}"]

    def _start(self) -> None:
        if shutil.which(self._client[0]) is None:
            raise failures.client_missing(self._client[0])
        self._folder = _claim()
        word = os.urandom(16).hex()
        # understood alike by sh, csh and fish
        far = f"echo {word} && exec cat >/dev/null"
        argv = [*self._client, "-o", "ControlMaster=yes", *self._shared(), "--", self._host, far]
        child: subprocess.Popen[bytes] | None = None
        try:
            child = spawn(argv, stdin=True, stdout=True)
            kept = bytearray()
            drain = threading.Thread(target=_keep, args=(child, kept), daemon=True)
            drain.start()
            line = self._first_line(child)
            if line.strip() != word.encode("ascii"):
                raise self._refusal(child, line, drain, kept)
        except BaseException:
            _end(child, self._folder)
            raise
        self._child = child
        self._end = weakref.finalize(self, _end, child, self._folder)

    def _first_line(self, child: subprocess.Popen[bytes]) -> bytes:
        """What the far side says first, or nothing when it says nothing in time."""
        watch = threading.Timer(self._patience, signal_client, (child, signal.SIGKILL))
        watch.daemon = True
        watch.start()
        try:
            return child.stdout.readline(4096) if child.stdout is not None else b""
        finally:
            watch.cancel()

    def _refusal(
        self, child: subprocess.Popen[bytes], line: bytes, drain: threading.Thread, kept: bytearray
    ) -> OpsError:
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(5)
            drain.join(5)
        said = bytes(kept).decode("utf-8", "replace")
        if line:
            shown = line.decode("utf-8", "replace").strip()[:80]
            return failures.shell_unusable(self._where, f"it printed {shown!r} before anything was asked")
        if child.returncode == 255 or child.returncode == -signal.SIGKILL:
            return failures.login_failed(self._where, said)
        return failures.shell_unusable(self._where, f"its shell ended at once ({failures.last_line(said) or 'silent'})")


def _keep(child: subprocess.Popen[bytes], kept: bytearray) -> None:
    stream = child.stderr
    if stream is None:
        return
    with stream:
        for chunk in iter(lambda: stream.read1(8192), b""):  # type: ignore[attr-defined]
            kept += chunk
            del kept[:-_STDERR_KEPT]


def _end(child: subprocess.Popen[bytes] | None, folder: str) -> None:
    if child is not None:
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)
        end_client(child)
    shutil.rmtree(folder, ignore_errors=True)


def _claim() -> str:
    """A new folder of mode 0700 for the control socket; those that killed runs left are removed."""
    base = tempfile.gettempdir()
    if len(base) > _LONGEST_FOLDER:
        base = os.path.join(os.sep, "tmp")
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX):
                _remove_abandoned(entry)
    return tempfile.mkdtemp(prefix=_PREFIX, dir=base)


def _remove_abandoned(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        facts = entry.stat(follow_symlinks=False)
        if facts.st_uid != os.geteuid() or facts.st_mtime > time.time() - _ABANDONED:
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.path.join(entry.path, _SOCKET))
            except (FileNotFoundError, ConnectionRefusedError):
                shutil.rmtree(entry.path, ignore_errors=True)
