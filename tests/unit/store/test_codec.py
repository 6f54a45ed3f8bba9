# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import random
import shutil
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import codec as codecs
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import Codec, open_codec
from ansible_collections.saasops.runbook.tests.lab import processes

PROGRAM = shutil.which("zstd")
BOTH = ["library", "program"]


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("saasops-")]


def by(kind: str) -> Codec:
    if kind == "library":
        return codecs.ZstdLibrary(1, zstandard)
    assert PROGRAM is not None, "apt install zstd: a host without the Python package compresses with it"
    return codecs.ZstdProgram(1, PROGRAM)


def text(megabytes: int) -> list[bytes]:
    return [b"".join(b"%d\tsome words, and a number\n" % (n * n) for n in range(30_000))] * megabytes


def joined(chunks: Iterator[bytes]) -> bytes:
    return b"".join(chunks)


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_any_chunks_come_back_from_the_library(chunks: list[bytes]) -> None:
    codec = by("library")
    assert joined(codec.decompress(codec.compress(chunks))) == b"".join(chunks)


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("packer", BOTH)
@pytest.mark.parametrize("unpacker", BOTH)
@pytest.mark.parametrize("megabytes", [0, 3])
def test_library_and_program_read_each_other(packer: str, unpacker: str, megabytes: int, threads: int) -> None:
    body = text(megabytes)
    packed = joined(by(packer).compress(body, threads))
    assert len(packed) < 1000 + len(b"".join(body)) / 3
    assert joined(by(unpacker).decompress([packed])) == b"".join(body)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("damage", ["cut", "cut by one byte", "flipped", "longer", "doubled", "empty"])
def test_a_damaged_stream_is_refused(kind: str, damage: str) -> None:
    whole = joined(by(kind).compress(text(2)))
    middle = len(whole) // 2
    packed = {
        "cut": whole[:middle],
        "cut by one byte": whole[:-1],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :],
        "longer": whole + b"\n",
        "doubled": whole + whole,
        "empty": b"",
    }[damage]
    with pytest.raises(OpsError) as caught:
        joined(by(kind).decompress([packed[start : start + 4096] for start in range(0, len(packed), 4096)]))
    assert caught.value.code == "object_damaged"


def test_no_flipped_bit_gives_other_bytes() -> None:
    codec, body = by("library"), b"".join(b"%d words\n" % n for n in range(200))
    packed = joined(codec.compress([body]))
    for position in range(8 * len(packed)):
        broken = bytearray(packed)
        broken[position // 8] ^= 1 << position % 8
        with suppress(OpsError):
            assert joined(codec.decompress([bytes(broken)])) == body


@pytest.mark.parametrize("kind", BOTH)
def test_an_error_of_the_source_passes_on(kind: str) -> None:
    def source() -> Iterator[bytes]:
        yield from text(2)
        raise KeyError("the source")

    with pytest.raises(KeyError, match="the source"):
        joined(by(kind).compress(source()))


@pytest.mark.parametrize("kind", BOTH)
def test_a_stream_given_up_leaves_no_thread_and_no_process(kind: str) -> None:
    closed = threading.Event()

    def source() -> Generator[bytes, None, None]:
        try:
            while True:
                yield from text(1)
        finally:
            closed.set()

    endless = source()
    stream = by(kind).compress(endless)
    assert next(stream)
    stream.close()
    endless.close()
    assert closed.is_set()
    assert not our_threads()
    assert not processes.running("zstd", below=os.getpid())


def test_the_program_that_fails_is_named() -> None:
    with pytest.raises(OpsError) as caught:
        joined(codecs.ZstdProgram(1, "false").compress(text(1)))
    assert caught.value.code == "codec_failed"


def test_without_the_package_the_program_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert isinstance(open_codec("zstd"), codecs.ZstdProgram)


def test_without_package_and_program_the_remedy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OpsError) as caught:
        open_codec("zstd")
    assert caught.value.code == "codec_missing"
    assert "python3-zstandard" in caught.value.remedy


def test_a_codec_of_a_later_release_is_refused() -> None:
    with pytest.raises(OpsError) as caught:
        open_codec("lzma9")
    assert caught.value.code == "codec_unknown"


def test_codec_none_changes_nothing() -> None:
    codec = open_codec("none")
    assert joined(codec.decompress(codec.compress([b"a", b"", b"bc"]))) == b"abc"


@pytest.mark.parametrize("kind", BOTH)
def test_rows_of_json_are_packed_smaller_than_by_the_same_level_as_it_comes(kind: str) -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _number in range(200)]
    phrases = [" ".join(chance.choices(words, k=3)) for _number in range(1024)]
    notes = [" ".join(chance.choices(phrases, k=8)) for _number in range(16_384)]
    body = "".join(
        f'{n}\tuser{chance.randint(0, 255)}\t{{"note": "{chance.choice(notes)}", "ms": {chance.randint(0, 2047)}}}\n'
        for n in range(30_000)
    ).encode()
    assert PROGRAM is not None
    level = codecs.LEVEL
    codec = codecs.ZstdLibrary(level, zstandard) if kind == "library" else codecs.ZstdProgram(level, PROGRAM)
    assert len(joined(codec.compress([body]))) < 0.92 * len(zstandard.ZstdCompressor(level=level).compress(body))
