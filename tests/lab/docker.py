# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker engine for the tests: the one that is there, or a private one; and PostgreSQL in a container.

A private engine (root, Debian's docker.io) has its own socket and data in a scratch folder and no network, so it
touches neither iptables nor another engine. What a killed run left is ended by the next one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import Connection
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Transport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.docker import open_docker
from ansible_collections.saasops.runbook.tests.lab import docker_image, processes, scratch
from ansible_collections.saasops.runbook.tests.lab.places import Place

LABEL = "saasops-lab-owner"


def docker(*arguments: str, given: bytes | None = None, timeout: float = 120.0) -> str:
    """Run the docker program and return what it printed. Raises OpsError docker_failed."""
    try:
        done = subprocess.run(["docker", *arguments], input=given, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise OpsError("docker_failed", "There is no docker program.", "apt-get install docker.io") from error
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip()
        raise OpsError("docker_failed", f"docker {arguments[0]} exited {done.returncode}: {last}.", "Read it.")
    return done.stdout.decode("utf-8", "replace").strip()


def answers() -> bool:
    """Whether the engine that DOCKER_HOST (or the default socket) names can be used."""
    with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
        docker("version", "--format={{.Server.Version}}", timeout=10)
        return True
    return False


@contextlib.contextmanager
def engine() -> Iterator[None]:
    """An engine that docker() and every child process reach: DOCKER_HOST is set while a private one runs."""
    sweep()
    if answers():
        _remove_orphans()
        yield
        return
    if os.geteuid() != 0:
        raise OpsError(
            "engine_missing", "No Docker engine answers, and only root can start one.", "Start Docker, or run as root."
        )
    folder = scratch.claim("docker")
    before = os.environ.get("DOCKER_HOST")
    try:
        os.environ["DOCKER_HOST"] = _start(folder)
        yield
    finally:
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            running = docker("ps", "--quiet").split()
            if running:
                docker("kill", *running)
        if before is None:
            os.environ.pop("DOCKER_HOST", None)
        else:
            os.environ["DOCKER_HOST"] = before
        _clean(folder)


def _start(folder: Path) -> str:
    """Start a daemon and return its address. Raises OpsError engine_failed with its last words."""
    address = f"unix://{folder}/sock"
    command = ["dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/run", f"--pidfile={folder}/pid"]
    command += [f"--host={address}", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    environment = {**os.environ, "DOCKER_HOST": address}
    with (folder / "log").open("wb") as log:
        try:
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        except FileNotFoundError as error:
            raise OpsError("engine_missing", "There is no dockerd.", "apt-get install docker.io") from error
    scratch.record(folder, daemon.pid)
    deadline = time.monotonic() + 60
    while daemon.poll() is None and time.monotonic() < deadline:
        if (folder / "sock").exists():
            asked = subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False)
            if asked.returncode == 0:
                return address
        time.sleep(0.02)
    tail = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
    raise OpsError("engine_failed", "dockerd did not start.", "Read: " + " | ".join(tail))


def sweep() -> None:
    """End private engines, and the containers in them, whose owners do not run any more."""
    for folder in scratch.base().glob("docker.*"):
        if not processes.alive(folder.name.split(".")[1]):
            _clean(folder)


def _clean(folder: Path) -> None:
    daemons = scratch.recorded(folder)
    processes.end(daemons, grace=10.0)
    # a container's supervisor outlives a killed daemon; its command line names our socket
    left = [pid for pid in _everyone() if any(str(folder) in word for word in processes.command_line(pid))]
    doomed = [
        processes.identity(pid) for supervisor in left for pid in [supervisor, *processes.descendants(supervisor)]
    ]
    processes.end(doomed)
    for point in _mounts(folder):
        subprocess.run(["umount", "-l", point], capture_output=True, check=False)
    scratch.release(folder)


def _everyone() -> list[int]:
    return [int(p.name) for p in processes.PROC.iterdir() if p.name.isdigit() and int(p.name) != os.getpid()]


def _mounts(folder: Path) -> list[str]:
    """Mount points below the folder, the deepest first."""
    lines = (processes.PROC / "self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    points = [line.split(" ")[1] for line in lines]
    return sorted((p for p in points if p.startswith(f"{folder}/")), key=len, reverse=True)


def owner() -> str:
    return f"{socket.gethostname()}:{processes.identity(os.getpid())}"


def _remove_orphans() -> None:
    """On an engine that is not ours: containers that a killed run of this host left."""
    listed = docker("ps", "--all", f"--filter=label={LABEL}", f'--format={{{{.ID}}}} {{{{.Label "{LABEL}"}}}}')
    for line in listed.splitlines():
        identifier, _space, owner = line.partition(" ")
        host, _colon, name = owner.rpartition(":")
        if host == socket.gethostname() and not processes.alive(name):
            docker("rm", "--force", "--volumes", identifier)


def image() -> str:
    """The PostgreSQL image's tag; made when the engine has none of this recipe."""
    with contextlib.suppress(OpsError):
        docker("image", "inspect", docker_image.TAG)
        return docker_image.TAG
    importing = subprocess.Popen(
        ["docker", "import", *docker_image.changes(), "-", docker_image.TAG],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if importing.stdin is None or importing.stderr is None:
        raise OpsError("docker_failed", "docker import gave no pipes.", "Report this.")
    with importing:
        # an import that was refused says why itself
        with contextlib.suppress(BrokenPipeError):
            docker_image.write(importing.stdin)
            importing.stdin.close()
        said = importing.stderr.read().decode("utf-8", "replace")
    if importing.returncode != 0:
        raise OpsError("docker_failed", f"docker import failed: {said}.", "Read it.")
    return docker_image.TAG


@dataclass
class PostgresContainer:
    """A running container; its server listens on 127.0.0.1:5432 inside and on the default socket (trust)."""

    name: str
    password: str
    places: list[Place] = field(default_factory=list)

    def transport(self, user: str = "postgres") -> Transport:
        """Our own transport into it."""
        return open_docker({"container": self.name, "container_user": user})

    def place(self) -> Place:
        """Sessions through psql in the container, with the password over TCP."""
        connection = Connection(
            host="127.0.0.1", user="postgres", password=self.password, application_name="saasops-test"
        )
        return Place(connection, docker_image.VERSION, self.transport())

    def params(self) -> dict[str, object]:
        """The option connection for it."""
        return {
            "transport": "docker",
            "container": self.name,
            "container_user": "postgres",
            "host": "127.0.0.1",
            "user": "postgres",
            "password": self.password,
        }

    def run(self, *argv: str, user: str = "postgres", given: bytes | None = None) -> str:
        """A program in the container, not through our transport."""
        return docker("exec", "--interactive", f"--user={user}", self.name, *argv, given=given)

    def psql(self, sql: str, database: str = "postgres") -> str:
        """SQL over the socket, as the superuser, not through our session."""
        argv = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
        return self.run(*argv, given=sql.encode())

    def start(self) -> None:
        """Start (again) and wait until connections are accepted."""
        docker("start", self.name)
        self.wait()

    def wait(self, seconds: float = 60.0) -> None:
        """Until connections are accepted. Raises OpsError server_start_failed with the log's end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            asked = subprocess.run(
                ["docker", "exec", self.name, "pg_isready", "-q", "-h", "127.0.0.1"], capture_output=True, check=False
            )
            if asked.returncode == 0:
                return
            time.sleep(0.05)
        raise OpsError("server_start_failed", f"{self.name} does not answer.", docker("logs", "--tail=5", self.name))


@contextlib.contextmanager
def postgres_container(
    name: str = "saasops-lab", password: str = "", options: Sequence[str] = ()
) -> Iterator[PostgresContainer]:
    """PostgreSQL in a container `<name>-<random>`, removed at the end; options go to docker run."""
    unique = f"{name}-{secrets.token_hex(3)}"
    password = password or secrets.token_urlsafe(12)
    container = PostgresContainer(unique, password)
    command = [
        "run",
        "--detach",
        f"--name={unique}",
        "--network=none",
        "--stop-signal=SIGINT",
        f"--label={LABEL}={owner()}",
    ]
    try:
        docker(*command, f"--env=POSTGRES_PASSWORD={password}", *options, image())
        container.wait()
        yield container
    finally:
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            docker("rm", "--force", "--volumes", unique)
