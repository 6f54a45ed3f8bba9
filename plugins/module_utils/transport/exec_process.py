# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One program run through an exec client (docker exec and its like), its end and its output proven."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Protocol, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport import agent
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import Completed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_STDERR_KEPT = 64 * 1024


class Gateway(Protocol):
    """The client that runs programs on a far side."""

    @property
    def name(self) -> str:
        """As the option connection.transport calls it."""

    @property
    def hangs_up(self) -> bool:
        """Whether the far side closes a program's pipes when its client ends, so that it ends by itself."""

    def command(self, env: Mapping[str, str], program: Sequence[str]) -> list[str]:
        """The client's whole command line, which runs this program (argv); stdin attached, no terminal."""

    def diagnose(self, doing: str, code: int | None, stderr: str) -> OpsError:
        """Why an exec ended without the agent's trailer: the far side is gone, or its stream was cut."""


def spawn(argv: Sequence[str], stdin: bool, stdout: bool) -> subprocess.Popen[bytes]:
    """Start a client in a session of its own: Ctrl-C is for us, and killing it reaches what it started."""
    try:
        # pipes and a session of its own, which run_command does not give
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise OpsError(
            "tool_missing",
            f"The program {argv[0]} cannot be run: {error.strerror}.",
            f"Install {argv[0]} on the host where the module runs, or choose another transport.",
            {"program": argv[0]},
        ) from error


def signal_client(child: subprocess.Popen[bytes], number: int) -> None:
    """A signal to a client and what it started; nothing when it is gone."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)


def end_client(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM and after 2 seconds SIGKILL for a client; its pipes are closed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            break
        signal_client(child, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


class _Counted(io.RawIOBase):
    """A pipe whose bytes are counted and hashed as they are read."""

    def __init__(self, pipe: io.RawIOBase) -> None:
        super().__init__()
        self._pipe = pipe
        self._hash = hashlib.sha256()
        self._rest = b""
        self.length = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if self._rest:
            taken = self._rest[: len(view)]
            view[: len(taken)] = taken
            self._rest = self._rest[len(taken) :]
            return len(taken)
        count = int(self._pipe.readinto(view) or 0)
        self._hash.update(view[:count])
        self.length += count
        return count

    def finish(self) -> None:
        """Take what the pipe still holds after its writer has ended, for later reads."""
        for chunk in iter(lambda: self._pipe.read(1 << 16), b""):
            self._hash.update(chunk)
            self.length += len(chunk)
            self._rest += chunk

    def sha256(self) -> str:
        return self._hash.hexdigest()


class ExecProcess:
    """See transport.base.Process. wait() raises OpsError stream_cut when the output did not arrive whole.

    end_far() ends what is left of it on the far side.
    """

    def __init__(
        self,
        gateway: Gateway,
        argv: Sequence[str],
        env: Mapping[str, str],
        stdin: bool,
        stdout: bool,
        end_far: Callable[[], None],
    ) -> None:
        self._gateway = gateway
        self._doing = f"running {os.path.basename(argv[0])}"
        self._end_far = end_far
        self._word = os.urandom(16).hex()
        self._killed = False
        self._stream: _Counted | None = None
        self._reader: io.BufferedReader | None = None
        program = ["sh", "-c", agent.RUN, "saasops", self._word, "keep" if stdout else "drop", *argv]
        self._child = spawn(gateway.command(env, program), stdin, stdout)
        if self._child.stdout is not None:
            self._stream = _Counted(cast("io.RawIOBase", cast("io.BufferedReader", self._child.stdout).raw))
            self._reader = io.BufferedReader(self._stream, 1 << 16)
        self._kept = bytearray()
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()

    def _read_stderr(self) -> None:
        stream = cast("io.BufferedReader", self._child.stderr)
        with stream:
            for chunk in iter(lambda: stream.read1(8192), b""):
                self._kept += chunk
                del self._kept[:-_STDERR_KEPT]

    @property
    def pid(self) -> int:
        """Of the client on this side."""
        return self._child.pid

    @property
    def stdin(self) -> IO[bytes] | None:
        return self._child.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        return self._reader

    def _trailer(self) -> agent.Trailer | None:
        return agent.read_trailer(self._word, bytes(self._kept))[0]

    def wait(self, timeout: float | None = None) -> int:
        client_code = self._child.wait(timeout)
        self._drain.join(5)
        if self._killed:
            return client_code or -signal.SIGTERM
        trailer = self._trailer()
        if trailer is None:
            raise self._gateway.diagnose(self._doing, client_code, self.stderr_text())
        if self._stream is not None:
            self._stream.finish()
        length, sha256 = (self._stream.length, self._stream.sha256()) if self._stream else (0, None)
        prove(trailer, self._doing, length, sha256)
        return trailer.code

    def stderr_text(self) -> str:
        return agent.read_trailer(self._word, bytes(self._kept))[1].decode("utf-8", "replace")

    def communicate(self, given: bytes, timeout: float | None) -> Completed:
        """Feed stdin, read both outputs whole, prove. Raises subprocess.TimeoutExpired after ending both sides."""
        # the drain has stderr, so only stdout is left to read here
        feeder = threading.Thread(target=self._feed, args=(given,), daemon=True)
        feeder.start()
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        watch = threading.Timer(timeout or 0, end)
        watch.daemon = True
        if timeout is not None:
            watch.start()
        try:
            output = b""
            with contextlib.suppress(ValueError, OSError):
                output = self._reader.read() if self._reader else b""
            code = self.wait()
        finally:
            watch.cancel()
        if late.is_set():
            watch.join()
            raise subprocess.TimeoutExpired(self._doing, timeout or 0)
        feeder.join(5)
        return Completed(code, output, agent.read_trailer(self._word, bytes(self._kept))[1])

    def _feed(self, given: bytes) -> None:
        stdin = self._child.stdin
        if stdin is not None:
            # a program that does not read its input is none of our business
            with contextlib.suppress(OSError, ValueError), stdin:
                stdin.write(given)

    def kill(self) -> None:
        if self._killed:
            return
        finished = self._child.poll() is not None and self._trailer() is not None
        self._killed = not finished
        end_client(self._child)
        if not finished:
            # the far side's process outlives its client
            self._end_far()


def prove(trailer: agent.Trailer, doing: str, length: int, sha256: str | None) -> None:
    """Compare what arrived (length in bytes, SHA-256; None: nothing was kept) with what left the far side."""
    if trailer.missing:
        program = doing.rpartition(" ")[2]
        raise OpsError(
            "tool_missing",
            f"The program {program} was not found on the far side.",
            "Install it there, or set connection.client_bin to the folder that has it.",
            {"program": program},
        )
    if sha256 is None:
        return
    if trailer.sha256 is None or trailer.length is None:
        raise OpsError(
            "tool_missing",
            f"The far side could not compute a SHA-256 while {doing}.",
            "It needs sh, tee, wc and sha256sum (busybox has them all).",
            {"program": "sha256sum"},
        )
    if (trailer.length, trailer.sha256) != (length, sha256):
        raise OpsError(
            "stream_cut",
            f"The stream was cut while {doing}: {trailer.length} bytes left the far side, {length} arrived.",
            "Nothing of it was used; run the verb again.",
            {"sent": trailer.length, "received": length},
        )
