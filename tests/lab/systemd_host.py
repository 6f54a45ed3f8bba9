# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with systemd as its first process, in a container: PostgreSQL in it, and Ansible's way in by ssh.

Its programs are those of this machine (/usr, read-only); everything else is its own. It has no network: sshd is
started by docker exec for each connection and speaks through that.
"""

from __future__ import annotations

import contextlib
import io
import secrets
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import docker as engine
from ansible_collections.saasops.runbook.tests.lab import sshd
from ansible_collections.saasops.runbook.tests.lab.docker import docker

TAG = "saasops-lab/systemd:2"
BIN = "/usr/lib/postgresql/15/bin"
_PASSWD = (
    "root:*:0:0:root:/root:/bin/sh\nsshd:*:74:65534::/run/sshd:/usr/sbin/nologin\n"
    "postgres:*:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh\nnobody:*:65534:65534::/nonexistent:/bin/false\n"
    "messagebus:*:101:101::/nonexistent:/bin/false\n"
)
_GROUP = "root:x:0:\npostgres:x:999:\nnogroup:x:65534:\nmessagebus:x:101:\nssl-cert:x:102:postgres\n"
_POSTGRES = f"""[Unit]
Description=PostgreSQL of the lab
[Service]
User=postgres
RuntimeDirectory=postgresql
RuntimeDirectoryPreserve=yes
ExecStart={BIN}/postgres -D /var/lib/postgresql/data -c listen_addresses= -c fsync=off
KillSignal=SIGINT
[Install]
WantedBy=multi-user.target
"""
_SSHD = "HostKey /etc/ssh/host_key\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"


def image() -> str:
    """The image's tag; made when the engine has none."""
    with contextlib.suppress(OpsError):
        docker("image", "inspect", TAG)
        return TAG
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("dev", "etc/systemd/system/multi-user.target.wants", "etc/ssh", "proc", "root/.ssh", "run"):
            _add(tar, folder, tarfile.DIRTYPE, 0o755)
        for folder in ("sys", "usr", "var/lib", "var/log", "var/tmp", "var/backups", "tmp", "opt", "mnt/python"):
            _add(tar, folder, tarfile.DIRTYPE, 0o1777 if folder.endswith("tmp") else 0o755)
        for name in ("bin", "lib", "lib64", "sbin"):
            _add(tar, name, tarfile.SYMTYPE, 0o777, link=f"usr/{name}")
        files = {
            "etc/passwd": _PASSWD,
            "etc/group": _GROUP,
            "etc/machine-id": "",
            "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
            "etc/hosts": "127.0.0.1 localhost\n",
            "etc/ssh/sshd_config": _SSHD,
            "etc/systemd/system/postgresql.service": _POSTGRES,
            # in memory, so it is made at every start
            "etc/tmpfiles.d/sshd.conf": "d /run/sshd 0755 root root\n",
        }
        for name, text in files.items():
            _add(tar, name, tarfile.REGTYPE, 0o644, text.encode())
        units = "etc/systemd/system"
        _add(tar, f"{units}/default.target", tarfile.SYMTYPE, 0o777, link="/lib/systemd/system/multi-user.target")
        for unit in ("systemd-logind.service", "getty.target", "systemd-remount-fs.service", "dbus.service"):
            _add(tar, f"{units}/{unit}", tarfile.SYMTYPE, 0o777, link="/dev/null")
    docker(
        "import",
        "--change=ENV container=docker",
        '--change=CMD ["/lib/systemd/systemd"]',
        "-",
        TAG,
        given=buffer.getvalue(),
    )
    return TAG


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname = kind, mode, len(data), link
    tar.addfile(member, io.BytesIO(data))


@dataclass
class SystemdHost:
    """A running host; folder holds our key to it."""

    name: str
    folder: Path

    def run(self, *argv: str, given: bytes | None = None, user: str = "root") -> str:
        """A program on the host."""
        return docker("exec", "--interactive", f"--user={user}", self.name, *argv, given=given)

    def psql(self, sql: str, database: str = "postgres") -> str:
        """SQL as the superuser, not through our session."""
        argv = [f"{BIN}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", "-"]
        return self.run(*argv, given=sql.encode(), user="postgres")

    def connects(self, user: str, database: str) -> bool:
        """Whether a client gets in."""
        argv = [
            "docker",
            "exec",
            "--user=postgres",
            self.name,
            f"{BIN}/psql",
            "-XAtqc",
            "SELECT 1",
            "-U",
            user,
            database,
        ]
        return subprocess.run(argv, capture_output=True, check=False, timeout=30).returncode == 0

    def variables(self) -> dict[str, object]:
        """How Ansible reaches it as root."""
        proxy = f"docker exec -i {self.name} /usr/sbin/sshd -i -f /etc/ssh/sshd_config"
        return {
            "ansible_connection": "ssh",
            "ansible_host": self.name,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.folder / "identity"),
            "ansible_ssh_common_args": f"-o ProxyCommand='{proxy}' -o StrictHostKeyChecking=no "
            f"-o UserKnownHostsFile={self.folder}/known_hosts -o LogLevel=ERROR",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_pipelining": True,
        }

    def wait(self, seconds: float = 60.0) -> None:
        """Until systemd is up and PostgreSQL answers. Raises OpsError."""
        deadline = time.monotonic() + seconds
        said = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(OpsError):
                self.run(f"{BIN}/pg_isready", "-q")
                return
            time.sleep(0.1)
        with contextlib.suppress(OpsError):
            said = self.run("systemctl", "--no-pager", "list-units", "--failed")
        raise OpsError("host_start_failed", f"{self.name} is not up. {said}", docker("logs", "--tail=20", self.name))

    def restart(self, pause: float = 0.0) -> None:
        """Switch the host off and on again, with seconds in between."""
        docker("kill", self.name)
        time.sleep(pause)
        docker("start", self.name)
        self.wait()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[SystemdHost]:
    """A host `saasops-host-<random>` with an empty PostgreSQL 15, removed at the end. Needs a running engine."""
    host = SystemdHost(f"saasops-host-{secrets.token_hex(3)}", folder)
    sshd.new_key(folder / "identity")
    sshd.new_key(folder / "host_key")
    options = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined", "--cgroupns=host", "--network=none"]
    options += ["--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro", "--volume=/usr:/usr:ro"]
    options += ["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec", f"--label={engine.LABEL}={engine.owner()}"]
    try:
        docker("run", "--detach", f"--name={host.name}", f"--hostname={host.name}", *options, image())
        _prepare(host, folder)
        host.wait()
        yield host
    finally:
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            docker("rm", "--force", "--volumes", host.name)


def _prepare(host: SystemdHost, folder: Path) -> None:
    places: Mapping[str, tuple[Path, str]] = {
        "identity.pub": (folder / "identity.pub", "/root/.ssh/authorized_keys"),
        "host_key": (folder / "host_key", "/etc/ssh/host_key"),
    }
    for path, target in places.values():
        host.run("/usr/bin/tee", target, given=path.read_bytes())
    host.run("/usr/bin/chmod", "600", "/etc/ssh/host_key")
    host.run("/usr/bin/mkdir", "-p", "/run/sshd")
    host.run("/usr/bin/install", "-d", "-o", "postgres", "-g", "postgres", "/var/lib/postgresql", "/run/postgresql")
    data = "/var/lib/postgresql/data"
    host.run(f"{BIN}/initdb", "-D", data, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C", user="postgres")
    deadline = time.monotonic() + 30
    while True:
        try:
            host.run("systemctl", "enable", "--now", "postgresql.service")
            return
        except OpsError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
