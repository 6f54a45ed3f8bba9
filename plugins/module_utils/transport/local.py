# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client tools and files on the machine where the module runs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import (
    Completed,
    FileFact,
    Process,
    staging_damaged,
)
from ansible_collections.saasops.runbook.plugins.module_utils.transport.own import MARK, RUN

CHUNK = 1 << 20
MEMORY = os.path.join(os.sep, "dev", "shm")
_STDERR_KEPT = 64 * 1024


def _tool_missing(program: str, error: OSError) -> OpsError:
    if isinstance(error, PermissionError):
        return OpsError(
            "tool_missing", f"The program {program} may not be run.", "Check its mode and owner.", {"program": program}
        )
    return OpsError(
        "tool_missing",
        f"The program {program} was not found.",
        "Install the PostgreSQL client package of the server's major version, or set connection.client_bin.",
        {"program": program},
    )


class LocalProcess:
    """A child process in a session of its own, so that killing it reaches what it started.

    The child dies with us too (PR_SET_PDEATHSIG where Linux has it is not used: it follows the thread,
    not the process); what survives a SIGKILL of the module is found by its mark (find_marked).
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], stdin: bool, stdout: bool) -> None:
        try:
            # pipes and a session of its own, which run_command does not give
            self._child = subprocess.Popen(  # pylint: disable=ansible-bad-function
                list(argv),
                env=dict(env),
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise _tool_missing(argv[0], error) from error
        self._kept = bytearray()
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()

    def _read_stderr(self) -> None:
        stream = self._child.stderr
        if stream is None:
            return
        with stream:
            for chunk in iter(lambda: stream.read1(8192), b""):  # type: ignore[attr-defined]
                self._kept += chunk
                del self._kept[:-_STDERR_KEPT]

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def stdin(self) -> IO[bytes] | None:
        return self._child.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return self._child.stdout

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._child.poll()

    def wait(self, timeout: float | None = None) -> int:
        code = self._child.wait(timeout)
        self._drain.join(5)
        return code

    def stderr_text(self) -> str:
        return bytes(self._kept).decode("utf-8", "replace")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGTERM)
        try:
            self._child.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class LocalTransport:
    """See transport.base.Transport."""

    name = "local"

    def _env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**os.environ, "LC_ALL": "C", **(env or {}), MARK: f"{RUN}-local"}

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Completed:
        try:
            # module_utils is used outside of a module too, where there is no run_command
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                list(argv), env=self._env(env), input=stdin, capture_output=True, timeout=timeout, check=False
            )
        except OSError as error:
            raise _tool_missing(argv[0], error) from error
        return Completed(done.returncode, done.stdout, done.stderr)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, stdout: bool = True
    ) -> Process:
        return LocalProcess(argv, self._env(env), stdin, stdout)

    @contextlib.contextmanager
    def secret_file(self, content: str) -> Iterator[str]:
        unnamed = _unnamed_file(content)
        if unnamed is not None:
            try:
                yield f"/proc/{os.getpid()}/fd/{unnamed}"
            finally:
                os.close(unnamed)
            return
        # memory where there is some: a killed process must not leave a secret on a disk
        memory = MEMORY if os.access(MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="saasops-pass-", dir=memory) as folder:
            path = os.path.join(folder, "pgpass")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
                stream.write(content)
            yield path

    def make_folder(self, path: str) -> None:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError as error:
            raise OpsError(
                "staging_exists", f"The folder {path} exists already.", "Remove it or choose another one."
            ) from error
        except OSError as error:
            raise _file_error(error, path) from error

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def file_facts(self, folder: str) -> list[FileFact]:
        def refuse(error: OSError) -> None:
            raise _file_error(error, folder) from error

        paths = sorted(
            os.path.relpath(os.path.join(where, name), folder)
            for where, _folders, names in os.walk(folder, onerror=refuse)
            for name in names
        )
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(lambda name: _fact(os.path.join(folder, name), name), paths))

    @contextlib.contextmanager
    def read_file(self, path: str) -> Iterator[Iterator[bytes]]:
        with contextlib.ExitStack() as stack:
            try:
                stream = stack.enter_context(open(path, "rb", buffering=0))
            except OSError as error:
                raise _file_error(error, path) from error
            yield iter(lambda: stream.read(CHUNK), b"")

    def write_file(self, path: str, chunks: Iterable[bytes]) -> FileFact:
        checksum = hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                checksum.update(chunk)
                yield chunk

        length = _write(path, hashed())
        return FileFact(os.path.basename(path), length, checksum.hexdigest())

    def write_known(self, path: str, chunks: Iterable[bytes], known: FileFact) -> None:
        length = _write(path, chunks)
        if length != known.length:
            raise staging_damaged(path, known, length)

    def remove_files(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def free_bytes(self, path: str) -> int:
        while not os.path.exists(path):
            path = os.path.dirname(path) or "/"
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize

    def same_volume(self, one: str, other: str) -> bool:
        return os.stat(one).st_dev == os.stat(other).st_dev

    def find_marked(self, mark: str) -> list[int]:
        wanted = b"PGAPPNAME=" + mark.encode()
        own = f"{MARK}={RUN}-".encode()
        found = []
        for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as stream:
                items = stream.read().split(b"\0")
                if any(item.startswith(wanted) for item in items) and not any(item.startswith(own) for item in items):
                    found.append(int(entry))
        return sorted(found)

    def end(self, pids: Sequence[int]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            deadline = time.monotonic() + 2
            while any(os.path.exists(f"/proc/{pid}") for pid in left) and time.monotonic() < deadline:
                time.sleep(0.05)


def _write(path: str, chunks: Iterable[bytes]) -> int:
    """Write a file that appears whole or not at all; returns its length."""
    partial, length = f"{path}.partial-{os.urandom(4).hex()}", 0
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as stream:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[stream.write(view) :]
                length += len(chunk)
        os.replace(partial, path)
    except OSError as error:
        raise _file_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
    return length


def _fact(path: str, name: str) -> FileFact:
    checksum, length = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            checksum.update(chunk)
            length += len(chunk)
    return FileFact(name, length, checksum.hexdigest())


def _file_error(error: OSError, path: str) -> OpsError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OpsError(
            "staging_full", f"The volume of {path} is full.", "Free space there, or name another staging path."
        )
    return OpsError(
        "staging_unusable",
        f"{path} cannot be used: {error.strerror}.",
        "Check that the folder exists, its owner and mode.",
    )


def _unnamed_file(content: str) -> int | None:
    """A descriptor of a file of mode 0600 that has no name and goes with this process, however that ends.

    Programs of the same user read it by its name in /proc. None where there is no such thing.
    """
    if not hasattr(os, "memfd_create") or not os.access(f"/proc/{os.getpid()}/fd", os.X_OK):
        return None
    try:
        descriptor = os.memfd_create("saasops-pass")
    except OSError:
        return None
    # libpq ignores a password file that others may read
    os.fchmod(descriptor, 0o600)
    os.write(descriptor, content.encode("utf-8"))
    return descriptor
