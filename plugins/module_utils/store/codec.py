# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How objects are compressed: zstd by the Python package, else by the program, or not at all.

Both kinds of zstd write one frame with a checksum and read each other's frames.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType
from typing import Protocol

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.frame import damaged, one_frame

CHUNK = 1024 * 1024
# With two hash tables instead of the one of levels 1 and 2 (DOUBLE_FAST), 2 compresses text and JSON about as well as 3
# in three quarters of its time, since its tables fit into a core's cache; with one table it leaves a tenth more.
LEVEL = 2
DOUBLE_FAST = 2  # zstd's number of that strategy; levels from 3 on have it, or a stronger one
Bytes = Generator[bytes, None, None]


class Codec(Protocol):
    """A stream in, a stream out; both are generators, so that closing one frees what it holds.

    name goes into the manifest, suffix ends the keys of objects.
    """

    @property
    def name(self) -> str:
        """What the manifest calls it."""

    @property
    def suffix(self) -> str:
        """What the keys of its objects end in."""

    def compress(self, chunks: Iterable[bytes], threads: int = 0) -> Bytes:
        """Compress; threads > 0 uses that many beside the caller's own. An error of chunks passes on."""

    def decompress(self, chunks: Iterable[bytes]) -> Bytes:
        """Decompress one whole stream. Raises OpsError object_damaged when it is cut, changed or goes on behind it."""


class PlainCodec:
    """No compression."""

    name = "none"
    suffix = ".raw"

    def compress(self, chunks: Iterable[bytes], threads: int = 0) -> Bytes:
        yield from chunks

    def decompress(self, chunks: Iterable[bytes]) -> Bytes:
        yield from chunks


class ZstdLibrary:
    """zstd by the Python package zstandard, in this process."""

    name = "zstd"
    suffix = ".zst"

    def __init__(self, level: int, module: ModuleType) -> None:
        self.level = level
        self._zstandard = module

    def compress(self, chunks: Iterable[bytes], threads: int = 0) -> Bytes:
        strategy = {"strategy": DOUBLE_FAST} if 0 < self.level < 3 else {}
        parameters = self._zstandard.ZstdCompressionParameters.from_level(
            self.level, write_checksum=True, threads=threads, **strategy
        )
        stream = self._zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        for chunk in chunks:
            made = stream.compress(chunk)
            if made:
                yield made
        yield stream.flush()

    def decompress(self, chunks: Iterable[bytes]) -> Bytes:
        stream = self._zstandard.ZstdDecompressor().decompressobj()
        for piece in one_frame(chunks):
            try:
                made = stream.decompress(piece)
            except self._zstandard.ZstdError as error:
                raise damaged("does not decompress") from error
            if made:
                yield made


class ZstdProgram:
    """zstd by the program of that name, fed and read through pipes."""

    name = "zstd"
    suffix = ".zst"

    def __init__(self, level: int, program: str) -> None:
        self.level = level
        self.program = program

    def compress(self, chunks: Iterable[bytes], threads: int = 0) -> Bytes:
        argv = [self.program, "-q", "-c", "--check", f"-{self.level}", f"-T{max(1, threads)}"]
        if 0 < self.level < 3:
            argv.append(f"--zstd=strategy={DOUBLE_FAST}")
        yield from self._filter(argv, chunks, self._compressing_failed)

    def decompress(self, chunks: Iterable[bytes]) -> Bytes:
        yield from self._filter([self.program, "-q", "-d", "-c"], one_frame(chunks), _decompressing_failed)

    def _compressing_failed(self, said: str) -> OpsError:
        return OpsError(
            "codec_failed",
            f"The program {self.program} failed: {said}.",
            "Run it by hand on a small file to see why; or install the Python package zstandard.",
        )

    def _filter(
        self, argv: list[str], chunks: Iterable[bytes | memoryview], failed: Callable[[str], OpsError]
    ) -> Bytes:
        """Bytes that the program makes of chunks; it is gone when this generator ends, however it ends."""
        try:
            # a pipe is needed on both sides, which run_command does not give
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise _missing() from error
        if process.stdout is None or process.stderr is None:
            raise _missing()
        stopping = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="saasops-codec") as pool:
            feeding = pool.submit(_feed, process, chunks, stopping)
            try:
                while True:
                    made = process.stdout.read(CHUNK)
                    if not made:
                        break
                    yield made
                feeding.result()
                said = process.stderr.read(4096).decode("utf-8", "replace").strip()
                if process.wait() != 0:
                    raise failed(said or f"exit code {process.returncode}")
            finally:
                stopping.set()
                process.kill()
                process.wait()
                process.stdout.close()
                process.stderr.close()


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes | memoryview], stopping: threading.Event) -> None:
    """Write chunks to the program; an error of chunks ends the program, so that its reader stops too."""
    if process.stdin is None:
        return
    whole = False
    try:
        with suppress(BrokenPipeError), process.stdin as pipe:  # a program that ended says why by its exit code
            for chunk in chunks:
                if stopping.is_set():
                    break
                view = memoryview(chunk)
                while view:
                    view = view[pipe.write(view) or 0 :]
        whole = True
    finally:
        if not whole:
            process.kill()
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _decompressing_failed(said: str) -> OpsError:
    return damaged(f"does not decompress ({said})")


def _missing() -> OpsError:
    return OpsError(
        "codec_missing",
        "Neither the Python package zstandard nor the program zstd is there to compress with.",
        "Install one of them on this host (Debian: apt install python3-zstandard), or choose codec none.",
    )


def _zstd(level: int) -> Codec:
    try:
        import zstandard  # only when a set is compressed: the package is not needed otherwise
    except ImportError:
        program = shutil.which("zstd")
        if program is None:
            raise _missing() from None
        return ZstdProgram(level, program)
    return ZstdLibrary(level, zstandard)


CODECS: Mapping[str, Callable[[int], Codec]] = {"zstd": _zstd, "none": lambda _level: PlainCodec()}


def open_codec(name: str, level: int = LEVEL) -> Codec:
    """The codec of that name (in a manifest, or of an option). Raises OpsError codec_missing, codec_unknown."""
    if name not in CODECS:
        raise OpsError(
            "codec_unknown",
            f"The codec {name!r} is not known to this release.",
            f"Update the collection, or use one of {', '.join(sorted(CODECS))}.",
        )
    return CODECS[name](level)
