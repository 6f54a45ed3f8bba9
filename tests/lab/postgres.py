# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real PostgreSQL servers of our own: `with running(17) as server: ...`.

A server listens on 127.0.0.1 and in its own socket folder, runs as an unprivileged user, is ready in well under a
second (initdb is done once and copied), and is ended by the next start if this process is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import binaries, processes, scratch

if TYPE_CHECKING:
    from psycopg2.extensions import connection

SUPERUSER = "postgres"

# what the tests of backup and restore need from every server
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "max_prepared_transactions": "10",
    # on, as a real server's, and never by chance at work in the middle of a test
    "autovacuum_naptime": "1d",
    "wal_level": "logical",
    "max_wal_size": "512MB",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
}
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


@dataclass(frozen=True)
class Options:
    """How a server is made.

    settings: lines of postgresql.conf that go over SETTINGS
    auth:     method for TCP and socket in pg_hba.conf (scram-sha-256, trust, md5)
    password: of the superuser; a random one of this machine's lab when empty
    data:     data folder on a given path, such as a small disk; must be empty or absent, every folder above it must
              let the servers' user pass (pytest's tmp_path of root does not); never removed
    own:      with a system identifier of its own; otherwise all servers of a version are copies of one cluster
    durable:  on disk and with fsync, for figures and for systems a person looks at; otherwise in memory without
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    auth: str = "scram-sha-256"
    password: str = ""
    data: Path | None = None
    durable: bool = False
    own: bool = False


class Server:
    """One PostgreSQL server; it keeps its port, socket and data from start to start."""

    def __init__(self, version: int, options: Options) -> None:
        self.version = version
        self.bin = binaries.runnable(binaries.find(version))
        self.host = "127.0.0.1"
        self.user = SUPERUSER
        self._owner = processes.unprivileged()
        self._base = scratch.base(in_memory=not options.durable)
        self.folder = scratch.claim(f"pg{version}", in_memory=not options.durable)
        self.socket_dir = self.folder / "s"
        self.log = self.folder / "log"
        self.data = options.data or self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        _give(self.socket_dir, self._owner, 0o755)
        self.password = self._create_data(options)
        self.port = free_port()
        durability = {"max_wal_size": "4GB"} if options.durable else {"fsync": "off"}
        self.configure(
            {**SETTINGS, **durability, **options.settings, "port": str(self.port)},
            unix_socket_directories=str(self.socket_dir),
        )

    @property
    def pid(self) -> int:
        """Of the postmaster; raises OpsError server_not_running when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise OpsError("server_not_running", f"PostgreSQL {self.version} does not run.", f"See {self.log}.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the postmaster runs."""
        return self._process is not None and self._process.poll() is None

    def configure(self, settings: Mapping[str, str], **more: str) -> None:
        """Append lines to postgresql.conf; the next start (or reload) takes them."""
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as out:
            for name, value in {**settings, **more}.items():
                quoted = value.replace("'", "''")
                out.write(f"{name} = '{quoted}'\n")

    def reload(self) -> None:
        """Read postgresql.conf and pg_hba.conf again (asynchronous, as SIGHUP is)."""
        os.kill(self.pid, signal.SIGHUP)

    def start(self, timeout: float = 60.0) -> None:
        """Start and wait until connections are accepted; seconds. Raises OpsError server_start_failed."""
        with self.log.open("ab") as log:
            # a session of its own: Ctrl-C is for us, and we stop the server in order
            self._process = _spawn([str(self.bin / "postgres"), "-D", str(self.data)], self._owner, log.fileno())
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._ready():
                return
            time.sleep(0.005)
        self.kill()
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise OpsError("server_start_failed", f"PostgreSQL {self.version} did not start.", "Read: " + " | ".join(tail))

    def stop(self, mode: str = "fast", timeout: float = 30.0) -> None:
        """Shut down (smart, fast, immediate); after timeout seconds it is killed. Nothing to do when stopped."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(STOP_SIGNALS[mode])
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL the postmaster and every process below it, as when the machine dies; the data stays."""
        if self._process is None:
            return
        below = [processes.identity(pid) for pid in processes.descendants(self._process.pid)]
        self._process.kill()
        self._process.wait()
        processes.end(below)
        self._process = None

    def remove(self) -> None:
        """Stop at once and remove the server's folder; a data folder given by the caller stays."""
        self.stop("immediate", 5.0)
        scratch.release(self.folder)

    def dsn(self, dbname: str = "postgres", user: str = "", password: str = "", socket: bool = False) -> str:
        """A libpq connection string with the password, over TCP or the socket."""
        parts = {
            "host": str(self.socket_dir) if socket else self.host,
            "port": str(self.port),
            "user": user or self.user,
            "password": password or self.password,
            "dbname": dbname,
        }
        return " ".join(f"{name}={_quoted(value)}" for name, value in parts.items())

    def environment(self, dbname: str = "postgres") -> dict[str, str]:
        """This process's environment with PG* set for the superuser; the password is in a PGPASSFILE (0600)."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {
            **inherited,
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": dbname,
            "PGPASSFILE": str(self.passfile),
        }

    @property
    def passfile(self) -> Path:
        """A .pgpass for the superuser, for every host and database of this server."""
        path = self.folder / "pgpass"
        if not path.exists():
            secret = self.password.replace("\\", "\\\\").replace(":", "\\:")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
                out.write(f"*:*:*:{self.user}:{secret}\n")
        return path

    def tool(self, name: str, *arguments: str, dbname: str = "postgres", timeout: float = 600.0) -> str:
        """Run a client tool of this server's version as the superuser and return what it printed.

        Raises OpsError tool_failed with its last words.
        """
        return self._run([str(self.bin / name), *arguments], dbname, "", timeout)

    def psql(self, sql: str, db: str = "postgres", timeout: float = 600.0) -> str:
        """Run SQL (or a psql script) as the superuser, stop at the first error; unaligned rows without the last \\n.

        Raises OpsError tool_failed with psql's message.
        """
        command = [str(self.bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        # what it counted is there when it returns, not when its backend has come to its end
        flush = "\n;\nSELECT pg_catalog.pg_stat_force_next_flush() \\g /dev/null\n"
        return self._run(command, db, sql + flush, timeout).rstrip("\n")

    def connect(self, dbname: str = "postgres", user: str = "", password: str = "") -> connection:
        """A psycopg2 connection in autocommit mode."""
        import psycopg2

        opened = psycopg2.connect(self.dsn(dbname, user, password))
        opened.autocommit = True
        return opened

    def createdb(self, name: str, template: str = "template1") -> None:
        """CREATE DATABASE name TEMPLATE template; name as it is, not quoted."""
        self.psql(f"CREATE DATABASE {_identifier(name)} TEMPLATE {_identifier(template)}")

    def dropdb(self, name: str) -> None:
        """DROP DATABASE IF EXISTS, with its sessions ended."""
        self.psql(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def _run(self, command: list[str], dbname: str, given: str, timeout: float) -> str:
        done = subprocess.run(
            command,
            input=given,
            env=self.environment(dbname),
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            last = " | ".join(done.stderr.strip().splitlines()[-5:])
            cause = f"{Path(command[0]).name} exited {done.returncode}: {last}."
            raise OpsError("tool_failed", cause, f"See {self.log}.")
        return done.stdout

    def _ready(self) -> bool:
        """The eighth line of postmaster.pid says so, and that file is of this process."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _create_data(self, options: Options) -> str:
        """Copy the initdb template to the data folder and return the superuser's password."""
        stamp = (self.bin / "initdb").stat().st_mtime_ns
        key = hashlib.sha256(f"{self.bin.resolve()} {stamp} {options.auth} {options.password}".encode()).hexdigest()
        template = self.folder / "initdb" if options.own else self._base / f"template-{self.version}-{key[:16]}"
        if not template.is_dir():
            self._create_template(template, options)
        if self.data.is_dir() and any(self.data.iterdir()):
            raise OpsError("data_not_empty", f"{self.data} is not empty.", "Give an empty folder.")
        _give(self.data, self._owner)
        _run_as(["cp", "-a", "--reflink=auto", f"{template}/data/.", str(self.data)], self._owner)
        return (template / "password").read_text(encoding="utf-8")

    def _create_template(self, template: Path, options: Options) -> None:
        partial = self.folder / "template"
        partial.mkdir()
        partial.chmod(0o711)
        password = options.password or secrets.token_urlsafe(12)
        _give(partial / "data", self._owner)
        for name, reader in (("password", os.geteuid()), ("pwfile", self._owner.pw_uid)):
            with open(os.open(partial / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(password)
            os.chown(partial / name, reader, -1)
        command = [str(self.bin / "initdb"), "-D", str(partial / "data"), "-U", SUPERUSER, "--no-sync"]
        command += ["-A", options.auth, "--pwfile", str(partial / "pwfile"), "-E", "UTF8", "--locale", "C.UTF-8"]
        _run_as([*command, "--data-checksums"], self._owner)
        (partial / "pwfile").unlink()
        # another run may have been first: its template is as good
        with contextlib.suppress(OSError):
            partial.rename(template)


@contextlib.contextmanager
def running(
    version: int = 18,
    *,
    settings: Mapping[str, str] | None = None,
    auth: str = "scram-sha-256",
    password: str = "",
    data: Path | None = None,
    durable: bool = False,
    own: bool = False,
) -> Iterator[Server]:
    """A started server, removed at the end; the options are those of Options."""
    server = Server(version, Options(settings or {}, auth, password, data, durable, own))
    try:
        server.start()
        yield server
    finally:
        server.remove()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _give(folder: Path, owner: pwd.struct_passwd, mode: int = 0o700) -> None:
    """Make the folder if need be and hand it to the servers' user."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    folder.chmod(mode)


def _spawn(command: list[str], owner: pwd.struct_passwd, log: int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    root = os.geteuid() == 0
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=environment,
        start_new_session=True,
        user=owner.pw_uid if root else None,
        group=owner.pw_gid if root else None,
        extra_groups=[] if root else None,
    )


def _run_as(command: list[str], owner: pwd.struct_passwd) -> None:
    """Run as the servers' user; raises OpsError tool_failed."""
    root = os.geteuid() == 0
    done = subprocess.run(
        command,
        cwd="/",
        capture_output=True,
        encoding="utf-8",
        check=False,
        user=owner.pw_uid if root else None,
        group=owner.pw_gid if root else None,
        extra_groups=[] if root else None,
    )
    if done.returncode != 0:
        raise OpsError("tool_failed", f"{command[0]} exited {done.returncode}.", f"It said: {done.stderr.strip()}")
