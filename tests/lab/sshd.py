# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real OpenSSH server of our own, an ordinary unprivileged process: `with running() as server: ...`.

It listens on 127.0.0.1 and has keys of its own, so that neither this machine's server nor its users' keys are
touched. It lets in the one user that it runs as.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import processes, s3, scratch

HOST = "127.0.0.1"


class Server:
    """One sshd. identity: the key that is let in; stranger: one that is not. Both belong to who runs the tests."""

    def __init__(self, *configuration: str) -> None:
        self.folder = scratch.claim("sshd")
        self.user = processes.unprivileged()
        self.port = s3.free_ports(1)[0]
        self.log = self.folder / "log"
        self.identity, self.stranger = self.folder / "identity", self.folder / "stranger"
        self.known_hosts = self.folder / "known_hosts"
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None
        for key in (self.identity, self.stranger, self.folder / "host_key"):
            _keygen(key)
        (self.folder / "authorized_keys").write_bytes(_public(self.identity).read_bytes())
        self.trust(self.folder / "host_key")
        self._own("host_key", "authorized_keys")

    def trust(self, key: Path) -> None:
        """Make the known_hosts file hold exactly this host key for us."""
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {_public(key).read_text(encoding='ascii')}", "ascii")

    def store_folder(self, name: str = "store") -> Path:
        """A new empty folder that the user of this server may write to."""
        path = self.folder / f"{name}-{os.urandom(4).hex()}"
        path.mkdir(mode=0o700)
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Let the user of this server own a file or folder."""
        if os.geteuid() == 0:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def options(self, path: Path | str, **changes: object) -> dict[str, object]:
        """The option store for a folder of this host."""
        return {
            "type": "posix",
            "path": str(path),
            "host": HOST,
            "port": self.port,
            "user": self.user.pw_name,
            "identity_file": str(self.identity),
            "known_hosts": str(self.known_hosts),
            **changes,
        }

    def start(self, timeout: float = 20.0) -> None:
        """Start and wait for the greeting; seconds. Raises OpsError sshd_start_failed, sshd_missing."""
        configuration = self.folder / "sshd_config"
        lines = [
            f"ListenAddress {HOST}:{self.port}",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            *[line.replace("{folder}", str(self.folder)) for line in self._configuration],
        ]
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        # sshd starts itself again for a connection, so its path must be absolute
        command = [str(_program()), "-D", "-e", "-f", str(configuration)]
        if os.geteuid() == 0:
            command[:0] = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--init-groups"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=2) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            time.sleep(0.02)
        self.stop()
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise OpsError("sshd_start_failed", "The ssh server did not start.", "Its last words: " + " | ".join(tail))

    def sessions(self) -> list[int]:
        """Pids of the sshd that serve connections: a monitor for each, and below it the one that has the socket."""
        below = processes.descendants(self._process.pid) if self._process else []
        return [pid for pid in below if "".join(processes.command_line(pid)[:1]).startswith("sshd:")]

    def cut(self) -> int:
        """SIGKILL every session, as a crash does; how many processes they were."""
        return len(processes.end([processes.identity(pid) for pid in self.sessions()]))

    def far_processes(self, word: str) -> list[int]:
        """Pids of what the user of this server runs with such a word in its command line."""
        everything = (int(entry.name) for entry in processes.PROC.iterdir() if entry.name.isdigit())
        return [pid for pid in everything if any(word in part for part in processes.command_line(pid))]

    def stop(self) -> None:
        """End the listener and every session."""
        if self._process is not None:
            found = processes.descendants(self._process.pid)
            names = [processes.identity(pid) for pid in found]
            self._process.kill()
            self._process.wait()
            processes.end(names)
            self._process = None

    def remove(self) -> None:
        """Stop and remove everything."""
        self.stop()
        scratch.release(self.folder)

    def _own(self, *names: str) -> None:
        for name in names:
            self.give(self.folder / name)


@contextlib.contextmanager
def running(*configuration: str) -> Iterator[Server]:
    """A started server, removed at the end.

    configuration: more lines of sshd_config, in which {folder} is the server's.
    """
    server = Server(*configuration)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def new_key(path: Path) -> Path:
    """A key pair that nobody knows."""
    _keygen(path)
    return path


def _keygen(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)


def _public(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


def _program() -> Path:
    path = os.pathsep.join([*os.get_exec_path(), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which("sshd", path=path)
    if found is None:
        raise OpsError("sshd_missing", "The program sshd is not on this machine.", "apt-get install openssh-server.")
    return Path(found)
