# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A transport over any client that can exec a program with pipes on a far side."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport import agent
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import (
    Completed,
    FileFact,
    Process,
    staging_damaged,
)
from ansible_collections.saasops.runbook.plugins.module_utils.transport.exec_process import (
    ExecProcess,
    Gateway,
    end_client,
    signal_client,
    spawn,
)
from ansible_collections.saasops.runbook.plugins.module_utils.transport.own import MARK, RUN

CHUNK = 1 << 20
# Seconds for small questions; a far side that does not answer must not hang a run.
PATIENCE = 60.0
_NUMBERS = itertools.count(1)


class ExecTransport:
    """See transport.base.Transport. The gateway decides where programs run."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.name = gateway.name

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Completed:
        return self._start(argv, env, stdin=bool(stdin), stdout=True).communicate(stdin, timeout)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, stdout: bool = True
    ) -> Process:
        return self._start(argv, env, stdin, stdout)

    def _start(self, argv: Sequence[str], env: Mapping[str, str] | None, stdin: bool, stdout: bool) -> ExecProcess:
        # of one width, so that no token is the beginning of another
        token = f"{RUN}-{next(_NUMBERS):08d}"
        marked = {"LC_ALL": "C", **(env or {}), MARK: token}
        return ExecProcess(self._gateway, argv, marked, stdin, stdout, lambda: self._end_token(token))

    def _end_token(self, token: str) -> None:
        if self._gateway.hangs_up:
            return
        # when the far side is gone, so is what ran there
        with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
            self.end(self._find("-", MARK, token))

    def _sh(self, program: str, *arguments: str, stdin: bytes = b"", timeout: float | None = None) -> Completed:
        return self.run(["sh", "-c", program, "saasops", *arguments], stdin=stdin, timeout=timeout)

    @contextlib.contextmanager
    def secret_file(self, content: str) -> Iterator[str]:
        """A keeper on the far side holds the file while its stdin is open: it goes when we close it, or die."""
        secret = content.encode("utf-8")
        word = os.urandom(8).hex()
        program = ["sh", "-c", agent.KEEP, "saasops-pass", word, str(len(secret))]
        keeper = spawn(self._gateway.command({MARK: f"{RUN}-secret"}, program), stdin=True, stdout=True)
        try:
            line = b""
            if keeper.stdin is not None and keeper.stdout is not None:
                watch = threading.Timer(PATIENCE, signal_client, (keeper, signal.SIGKILL))
                watch.daemon = True
                watch.start()
                with contextlib.suppress(OSError):
                    keeper.stdin.write(secret)
                    keeper.stdin.flush()
                line = keeper.stdout.readline()
                watch.cancel()
            said = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
            if said[0] != word or not said[2]:
                raise self._no_secret(keeper)
            yield said[2]
        finally:
            if keeper.stdin is not None:
                with contextlib.suppress(OSError):
                    keeper.stdin.close()
            # the client returns when the keeper has removed the file
            with contextlib.suppress(subprocess.TimeoutExpired):
                keeper.wait(10)
            end_client(keeper)
            if keeper.stderr is not None:
                keeper.stderr.close()

    def _no_secret(self, keeper: subprocess.Popen[bytes]) -> OpsError:
        try:
            _output, stderr = keeper.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            stderr = b""
        return self._gateway.diagnose("handing over a password", keeper.returncode, stderr.decode("utf-8", "replace"))

    def sweep(self) -> None:
        """Remove secret files whose keeper was killed; every secret_file() does it too."""
        self._sh(agent.KEEP, "none", "0", timeout=PATIENCE)

    def make_folder(self, path: str) -> None:
        done = self._sh(agent.MAKE_FOLDER, path, timeout=PATIENCE)
        if done.code == 3:
            raise OpsError("staging_exists", f"The folder {path} exists already.", "Remove it or choose another one.")
        _refuse(done, path)

    def remove_tree(self, path: str) -> None:
        self.run(["rm", "-rf", "--", path])

    def file_facts(self, folder: str) -> list[FileFact]:
        done = self._sh(agent.FACTS, folder)
        _refuse(done, folder)
        return agent.read_facts(done.stdout)

    @contextlib.contextmanager
    def read_file(self, path: str) -> Iterator[Iterator[bytes]]:
        process = self._start(["cat", "--", path], None, stdin=False, stdout=True)

        def chunks() -> Iterator[bytes]:
            stdout = process.stdout
            while stdout is not None:
                chunk = stdout.read(CHUNK)
                if chunk:
                    yield chunk
                if len(chunk) < CHUNK:
                    _refuse(Completed(process.wait(), b"", process.stderr_text().encode()), path)
                    return

        try:
            yield chunks()
        finally:
            process.kill()

    def write_file(self, path: str, chunks: Iterable[bytes]) -> FileFact:
        partial = f"{path}.partial-{os.urandom(4).hex()}"
        writer = self._start(["sh", "-c", agent.WRITE, "saasops", partial], None, stdin=True, stdout=True)
        checksum, length, kept = hashlib.sha256(), 0, False
        try:
            stdin, stdout = writer.stdin, writer.stdout
            if stdin is None or stdout is None:
                raise OpsError("transport_failed", "The transport gave no pipes.", "Report this as a defect.")
            # a writer that ended early says why on its stderr
            with contextlib.suppress(BrokenPipeError):
                for chunk in chunks:
                    checksum.update(chunk)
                    length += len(chunk)
                    stdin.write(chunk)
                stdin.close()
            answer = stdout.read()
            _refuse(Completed(writer.wait(), answer, writer.stderr_text().encode()), path)
            far = _fact(answer)
            if far != (length, checksum.hexdigest()):
                raise OpsError(
                    "stream_cut",
                    f"The stream was cut while writing {path}: {length} bytes were sent, {far[0]} arrived.",
                    "Nothing of it was kept; run the verb again.",
                    {"sent": length, "received": far[0]},
                )
            _refuse(self.run(["mv", "-f", "--", partial, path], timeout=PATIENCE), path)
            kept = True
        finally:
            writer.kill()
            if not kept:
                with contextlib.suppress(OpsError, subprocess.TimeoutExpired):
                    self.run(["rm", "-f", "--", partial], timeout=PATIENCE)
        return FileFact(os.path.basename(path), length, checksum.hexdigest())

    def write_known(self, path: str, chunks: Iterable[bytes], known: FileFact) -> None:
        far = self.write_file(path, chunks)
        if (far.length, far.sha256) != (known.length, known.sha256):
            raise staging_damaged(path, known, far.length)

    def remove_files(self, paths: Sequence[str]) -> None:
        self.run(["rm", "-f", "--", *paths], timeout=PATIENCE)

    def free_bytes(self, path: str) -> int:
        done = self._sh(agent.FREE, path, timeout=PATIENCE)
        _refuse(done, path)
        return agent.read_free(done.stdout)

    def same_volume(self, one: str, other: str) -> bool:
        done = self.run(["stat", "-c", "%d", "--", one, other], timeout=PATIENCE)
        _refuse(done, f"{one} or {other}")
        devices = done.stdout.split()
        if len(devices) != 2:
            raise agent.unreadable(done.stdout)
        return devices[0] == devices[1]

    def find_marked(self, mark: str) -> list[int]:
        return self._find(RUN, "PGAPPNAME", mark)

    def _find(self, own: str, variable: str, beginning: str) -> list[int]:
        done = self._sh(agent.FIND, own, variable, beginning, timeout=PATIENCE)
        return sorted(int(pid) for pid in done.stdout.split())

    def end(self, pids: Sequence[int]) -> None:
        if pids:
            self._sh(agent.END, *[str(pid) for pid in pids], timeout=PATIENCE)


def _fact(answer: bytes) -> tuple[int, str]:
    found = re.fullmatch(rb"(\d+)\n([0-9a-f]{64})\s.*\n", answer)
    if not found:
        raise agent.unreadable(answer)
    return int(found.group(1)), found.group(2).decode("ascii")


def _refuse(done: Completed, path: str) -> None:
    """Raise when a program that works on files did not exit 0."""
    if done.code == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise OpsError(
            "staging_full", f"The volume of {path} is full.", "Free space there, or name another staging path."
        )
    raise OpsError(
        "staging_unusable",
        f"{path} cannot be used: {said or f'exit code {done.code}'}.",
        "Check that the folder exists, its owner and mode.",
    )
