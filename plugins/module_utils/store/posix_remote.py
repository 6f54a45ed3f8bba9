# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store in a folder of another host, kept by small programs there: the promises of posix.py, over a transport.

The far side computes length and SHA-256 of what arrives. Nothing gets a name before they were compared with what
was sent, so a connection that is cut, whoever thinks that it ended well, leaves a temporary file at most.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import math
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import posix_agent as agent
from ansible_collections.saasops.runbook.plugins.module_utils.store import posix_failures as failures
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.keys import check_key, check_prefix, valid_key
from ansible_collections.saasops.runbook.plugins.module_utils.transport import agent as far
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Completed, Process, Transport

CHUNK = 1024 * 1024
# Bytes up to which an object is taken into memory, so that one program receives, compares and publishes it.
SMALL = 256 * 1024
# Seconds for a question; a volume there that hangs must not hang a run for ever.
_PATIENCE = 600.0
# Seconds for a writer that is given up to notice that its stdin has ended.
_ABANDON = 30.0
# The words of strerror in the locale C, by which a program's last line is told.
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Permission denied": errno.EACCES,
    "Operation not permitted": errno.EPERM,
    "Read-only file system": errno.EROFS,
    "Input/output error": errno.EIO,
    "Is a directory": errno.EISDIR,
    "Not a directory": errno.ENOTDIR,
    "No such file or directory": errno.ENOENT,
    "Stale file handle": errno.ESTALE,
}


class RemotePosixStore:
    """Objects as files below root on the host that the transport reaches; posix.PosixStore reads the same folder.

    where: that host as an operator wrote it. root must exist there; create=True makes it at the first put.
    """

    def __init__(self, transport: Transport, where: str, root: str, create: bool = False) -> None:
        self._transport = transport
        self.root = os.path.normpath(root)
        self.create = create
        self._url = f"ssh://{where}{self.root}"

    def __repr__(self) -> str:
        return f"RemotePosixStore({self._url!r})"

    @property
    def url(self) -> str:
        return self._url

    def check(self, write: bool) -> None:
        name = _temporary("probe")
        self._ask(agent.CHECK, "write" if write else "read", name, doing="trying the folder", writing=write)

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        check_key(key)
        mode = "exclusive" if if_absent else "replace"
        if if_absent:
            self._ask(agent.ABSENT, key, doing=f"looking for {key}", writing=True, key=key)
        rest = iter(chunks)
        first: list[bytes] = []
        for chunk in rest:
            first.append(chunk)
            if sum(map(len, first)) > SMALL:
                return self._put_stream(key, mode, itertools.chain(first, rest))
        return self._put_small(key, mode, b"".join(first))

    def _put_small(self, key: str, mode: str, body: bytes) -> Stored:
        sha256 = hashlib.sha256(body).hexdigest()
        facts = (str(len(body)), sha256)
        self._ask(
            agent.WRITE, _temporary(key), key, mode, *facts, doing=f"writing {key}", writing=True, key=key, stdin=body
        )
        return Stored(key, len(body), sha256)

    def _put_stream(self, key: str, mode: str, chunks: Iterable[bytes]) -> Stored:
        name, doing = _temporary(key), f"writing {key}"
        writer = self._transport.start(self._argv(agent.WRITE, name, key, mode, "", ""), stdin=True)
        published = False
        try:
            length, sha256 = self._feed(writer, chunks)
            answer = writer.stdout.read() if writer.stdout else b""
            self._refuse(Completed(writer.wait(), answer, writer.stderr_text().encode()), doing, True, key)
            if answer.decode("ascii", "replace").split() != [str(length), sha256]:
                raise self._other_bytes(key)
            self._ask(agent.PUBLISH, name, key, mode, doing=f"publishing {key}", writing=True, key=key)
            published = True
        finally:
            if not published:
                self._abandon(writer, name, key)
            writer.kill()
        return Stored(key, length, sha256)

    def _abandon(self, writer: Process, name: str, key: str) -> None:
        """Let the writer end and remove its file; what cannot be reached now, sweep finds later."""
        with contextlib.suppress(OpsError, OSError, ValueError, subprocess.TimeoutExpired):
            if writer.stdin is not None:
                writer.stdin.close()
            # it could otherwise make the file after it was removed
            writer.wait(_ABANDON)
            self._ask(agent.DISCARD, name, doing=f"discarding {key}", writing=True)

    @staticmethod
    def _feed(writer: Process, chunks: Iterable[bytes]) -> tuple[int, str]:
        """Length and SHA-256 (hex) of what was sent, up to the writer's end if that comes first."""
        checksum, length = hashlib.sha256(), 0
        stdin = writer.stdin
        if stdin is None:
            raise OpsError("transport_failed", "The transport gave no pipes.", "Report this as a defect.")
        for chunk in chunks:
            checksum.update(chunk)
            length += len(chunk)
            try:
                stdin.write(chunk)
            except BrokenPipeError:
                # a writer that ended early says why on its stderr
                break
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        return length, checksum.hexdigest()

    def get(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._reading(check_key(key))

    @contextmanager
    def _reading(self, key: str) -> Iterator[Iterator[bytes]]:
        reader = self._transport.start(self._argv(agent.READ, key))
        try:
            stdout = reader.stdout
            header = stdout.readline() if stdout else b""
            if not header.endswith(b"\n"):
                self._end_reading(reader, key)
                raise far.unreadable(header)
            yield self._chunks(reader, key, int(header))
        finally:
            reader.kill()

    def _chunks(self, reader: Process, key: str, length: int) -> Iterator[bytes]:
        delivered = 0
        stdout = reader.stdout
        while stdout is not None:
            chunk = stdout.read(CHUNK)
            if not chunk:
                break
            delivered += len(chunk)
            yield chunk
        # raises when other bytes arrived than left the far side
        self._end_reading(reader, key)
        if delivered != length:
            raise failures.object_damaged(self._url, key, f"ended after {delivered} of {length} bytes")

    def _end_reading(self, reader: Process, key: str) -> None:
        done = Completed(reader.wait(), b"", reader.stderr_text().encode())
        if done.code != 0 and _reason(done)[0] == errno.EIO:
            raise failures.object_damaged(self._url, key, "cannot be read to its end")
        self._refuse(done, f"reading {key}", False, key)

    def list(self, prefix: str) -> list[ObjectInfo]:
        check_prefix(prefix)
        done = self._run(agent.LIST, prefix.rpartition("/")[0], doing="listing objects")
        if done.code == agent.ROOT_MISSING and self.create:
            return []
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        if done.code != 1 or any("No such file" not in line for line in lines):
            # a folder that another run deleted meanwhile is no failure
            self._refuse(done, "listing objects", False)
        found = []
        for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
            length, modified, path = line.split(" ", 2)
            key = path[2:]
            if valid_key(key) and key.startswith(prefix):
                found.append(ObjectInfo(key, int(length), float(modified)))
        return sorted(found, key=lambda info: info.key)

    def delete(self, keys: Iterable[str]) -> None:
        wanted = [check_key(key) for key in keys]
        if not wanted:
            return
        paths = [key.split("/") for key in wanted]
        folders = {"/".join(path[:depth]) for path in paths for depth in range(1, len(path))}
        deepest_first = sorted(folders, key=lambda folder: -folder.count("/"))
        lines = "".join(f"{line}\n" for line in (*wanted, "", *deepest_first))
        done = self._run(agent.DELETE, doing="deleting objects", stdin=lines.encode("ascii"))
        if not (done.code == agent.ROOT_MISSING and self.create):
            self._refuse(done, "deleting objects", True)

    def sweep(self, prefix: str, older_than: float) -> Sequence[str]:
        check_prefix(prefix)
        # an age, since that host's clock dates its files
        age = math.ceil(time.time() - older_than)
        done = self._run(agent.SWEEP, _mangled(prefix), str(age), doing="looking for temporary files")
        if done.code == agent.ROOT_MISSING and self.create:
            return []
        self._refuse(done, "looking for temporary files", True)
        return [f".tmp/{name}" for name in done.stdout.decode("utf-8", "replace").splitlines()]

    def free_bytes(self) -> int | None:
        done = self._run(agent.PRESENT, doing="asking for free space")
        if not (done.code == agent.ROOT_MISSING and self.create):
            self._refuse(done, "asking for free space", False)
        return self._transport.free_bytes(self.root)

    def _argv(self, program: str, *values: str) -> Sequence[str]:
        return ["sh", "-c", program, "saasops-store", self.root, "create" if self.create else "present", *values]

    def _run(self, program: str, *values: str, doing: str, stdin: bytes = b"") -> Completed:
        try:
            return self._transport.run(self._argv(program, *values), stdin=stdin, timeout=_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise failures.failed(
                self._url, OSError(errno.ETIMEDOUT, f"no answer in {_PATIENCE:.0f} seconds"), doing, writing=False
            ) from error

    def _ask(
        self, program: str, *values: str, doing: str, writing: bool, key: str = "", stdin: bytes = b""
    ) -> Completed:
        done = self._run(program, *values, doing=doing, stdin=stdin)
        self._refuse(done, doing, writing, key)
        return done

    def _refuse(self, done: Completed, doing: str, writing: bool, key: str = "") -> None:
        """Raise what a program that did not exit 0 stands for."""
        if done.code == 0:
            return
        if done.code in (agent.ROOT_MISSING, agent.ROOT_NO_FOLDER):
            if done.code == agent.ROOT_MISSING and self.create and key:
                raise failures.object_missing(self._url, key)
            raise failures.root_missing(self._url, exists=done.code == agent.ROOT_NO_FOLDER)
        if done.code == agent.EXISTS:
            raise failures.object_exists(self._url, key)
        if done.code == agent.MISSING:
            raise failures.object_missing(self._url, key)
        if done.code == agent.NO_FILE:
            raise failures.object_damaged(self._url, key, "is not a file")
        if done.code == agent.OTHER_BYTES:
            raise self._other_bytes(key)
        if done.code == agent.TEMPORARY_GONE:
            raise failures.not_writable(self._url, f"the temporary file of {key} was removed by another process")
        if done.code == agent.FOLDER_GONE:
            raise failures.not_writable(self._url, "a folder is removed again and again")
        if done.code == agent.NO_LINKS:
            raise failures.no_links(self._url)
        number, said = _reason(done)
        if done.code == 127:
            raise OpsError(
                "tool_missing",
                f"A program that the store {self._url} needs is missing on its host: {said}.",
                "Install coreutils and findutils there.",
            )
        raise failures.failed(self._url, OSError(number, said), doing, writing=writing)

    def _other_bytes(self, key: str) -> OpsError:
        return OpsError(
            "stream_cut",
            f"The store {self._url} received other bytes of {key} than were sent.",
            "Nothing of it was kept; check the network and that host, then run the verb again.",
            {"key": key},
        )


def _reason(done: Completed) -> tuple[int, str]:
    """errno and words of what a program said last; 0 when the words are not known."""
    lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    for line in reversed(lines):
        for words, number in _WORDS.items():
            if words in line:
                return number, words
    return 0, lines[-1].strip() if lines else f"exit code {done.code}"


def _mangled(key: str) -> str:
    """A key as one file name, as posix.py does it, so that either sweeps what the other left."""
    return key.replace("/", "+")[:180]


def _temporary(key: str) -> str:
    return f"{_mangled(key)}+{os.urandom(8).hex()}"
