# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a zstd frame ends: its blocks are counted, so that a cut or anything behind it is noticed.

Decompressors differ in what they say about a stream that stops early or goes on behind its frame; the walk
over the block headers (RFC 8878, section 3.1.1) is the same for all. It also cuts the stream into pieces of
at most one block, so that each piece decompresses to at most 128 KiB and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

_MAGIC = b"\x28\xb5\x2f\xfd"
_RLE = 1
_RESERVED = 3
_DICTIONARY_ID = (0, 1, 2, 4)
_CONTENT_SIZE = (0, 2, 4, 8)


def damaged(how: str) -> OpsError:
    """What is raised for a compressed stream that cannot be what we wrote; the caller names the object."""
    return OpsError(
        "object_damaged",
        f"The compressed data {how}.",
        "Check the device of the store; use another set or a second copy of this one.",
    )


def one_frame(chunks: Iterable[bytes]) -> Iterator[memoryview]:
    """The same bytes in pieces of at most one block.

    Raises OpsError object_damaged unless the chunks are exactly one whole zstd frame.
    """
    steps = _steps()
    need = next(steps)  # pylint: disable=stop-iteration-return  # the first step always comes
    header = bytearray()
    for chunk in chunks:
        view, position = memoryview(chunk), 0
        while position < len(view):
            if need == 0:
                raise damaged("goes on behind its end")
            piece = view[position : position + abs(need)]
            position += len(piece)
            yield piece
            if need < 0:
                need += len(piece)
            else:
                header += piece
                need -= len(piece)
            if need == 0:
                need = steps.send(bytes(header))
                header.clear()
    if need != 0:
        raise damaged("ends too early")


def _steps() -> Generator[int, bytes, None]:
    """How many bytes come next: n > 0 to be looked at and sent here, n < 0 to be passed on, 0 at the end."""
    start = yield 5
    if start[:4] != _MAGIC:
        raise damaged("is not zstd")
    descriptor = start[4]
    single = bool(descriptor & 0x20)
    size = _CONTENT_SIZE[descriptor >> 6] or int(single)
    rest = (0 if single else 1) + _DICTIONARY_ID[descriptor & 3] + size
    if rest:
        yield -rest
    last = False
    while not last:
        header = int.from_bytes((yield 3), "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise damaged("has a block of no known kind")
        if kind == _RLE:
            length = 1
        if length:
            yield -length
    if descriptor & 4:
        yield -4
    yield 0
