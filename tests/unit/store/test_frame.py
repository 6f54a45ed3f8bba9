# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.frame import one_frame

BLOCK = 128 * 1024


def frame(body: bytes, *, level: int = 1, checksum: bool = True, size: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=size)
    return compressor.compress(body)


def streamed(body: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj()
    return stream.compress(body) + stream.flush()


@given(
    body=st.one_of(st.binary(max_size=2000), st.integers(0, 3 * BLOCK).map(bytes)),
    checksum=st.booleans(),
    size=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
)
def test_a_whole_frame_passes_unchanged_however_it_is_cut_into_chunks(
    body: bytes, checksum: bool, size: bool, cuts: list[int]
) -> None:
    packed = frame(body, checksum=checksum, size=size)
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    chunks = [packed[start:end] for start, end in zip(edges, edges[1:])]
    assert b"".join(bytes(piece) for piece in one_frame(chunks)) == packed


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 2000, bytes(5 * BLOCK)])
def test_every_cut_of_a_frame_is_noticed(body: bytes) -> None:
    packed = streamed(body)
    for length in range(0, len(packed), 1 + len(packed) // 300):
        with pytest.raises(OpsError) as caught:
            list(one_frame([packed[:length]]))
        assert caught.value.code == "object_damaged"


@pytest.mark.parametrize("behind", [b"x", b"\x00", streamed(b"another frame")])
def test_whatever_lies_behind_a_frame_is_noticed(behind: bytes) -> None:
    packed = streamed(b"body")
    for chunks in ([packed + behind], [packed, behind]):
        with pytest.raises(OpsError, match="behind its end"):
            list(one_frame(chunks))


def test_what_is_no_frame_is_noticed() -> None:
    with pytest.raises(OpsError, match="is not zstd"):
        list(one_frame([b"PGDMP, a custom dump"]))


def test_a_piece_decompresses_to_one_block_at_most() -> None:
    packed = streamed(bytes(400 * BLOCK))
    stream = zstandard.ZstdDecompressor().decompressobj()
    made = [len(stream.decompress(piece)) for piece in one_frame([packed])]
    assert max(made) <= BLOCK
    assert sum(made) == 400 * BLOCK
