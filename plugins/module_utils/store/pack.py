# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of a backup set: dump files bundled into packs, compressed, stored, and proven readable.

Raw bytes of the members lie one after the other in an object; where one ends the manifest says. Length and
SHA-256 of each member come from the side that made it, and are compared twice: with what passed by on the
way in, and with what the store gives back afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Protocol, TypeVar

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Member, StoredObject
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.codec import Codec
from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import Crew

MIB = 1024 * 1024
BUNDLE = 16 * MIB  # raw bytes of small files in one object
ALONE = 4 * MIB  # a file from here on is an object of its own
THREADED = 64 * MIB  # below this size an object does not gain by threads of its own


class Fact(Protocol):
    """What the producing side says of a file; transport.base.FileFact and domain.manifest.Member are such."""

    @property
    def name(self) -> str:
        """Path below the folder of the dump."""

    @property
    def length(self) -> int:
        """Raw bytes."""

    @property
    def sha256(self) -> str:
        """Of the raw bytes, hex."""


FactT = TypeVar("FactT", bound=Fact)
Opener = Callable[[], AbstractContextManager[Iterable[bytes]]]
Source = tuple[Fact, Opener]
# Takes one member and its raw bytes; what it does not read is read for it, so that everything is verified.
Sink = Callable[[Member, Iterator[bytes]], None]


def plan_packs(files: Sequence[FactT], limit: int = BUNDLE, alone: int = ALONE) -> list[list[FactT]]:
    """Which files share an object: large ones alone and largest first, small ones bundled in the order of names.

    limit is the raw size of a bundle in bytes, alone the size from which a file is not bundled.
    """
    large = sorted((file for file in files if file.length >= alone), key=lambda file: (-file.length, file.name))
    packs = [[file] for file in large]
    bundle: list[FactT] = []
    size = 0
    for file in sorted((file for file in files if file.length < alone), key=lambda file: file.name):
        if bundle and size + file.length > limit:
            packs.append(bundle)
            bundle, size = [], 0
        bundle.append(file)
        size += file.length
    if bundle:
        packs.append(bundle)
    return packs


def object_key(number: int, codec: Codec) -> str:
    """The key of a set's n-th object, below the set's folder."""
    return f"objects/{number:04d}{codec.suffix}"


def write_pack(
    store: Store,
    folder: str,
    key: str,
    sources: Sequence[Source],
    codec: Codec,
    *,
    verify: bool = True,
    threads: int = 0,
    crew: Crew | None = None,
) -> StoredObject:
    """Store files as one object folder + key; folder ends in '/'. With verify it is read back and compared.

    threads: of the codec, for an object large enough to gain by them.
    Raises OpsError: stream_cut (a file ended early), member_changed (it differs from its fact), object_damaged
    (the store gives something else back), and what the store raises. Nothing is stored when a source fails.
    """
    raw_length = sum(fact.length for fact, _opener in sources)
    threads = threads if raw_length >= THREADED else 0
    with closing(_raw(sources, crew)) as raw, closing(codec.compress(raw, threads)) as packed:
        stored = store.put(folder + key, packed)
    members = tuple(Member(fact.name, fact.length, fact.sha256) for fact, _opener in sources)
    result = StoredObject(key, stored.length, stored.sha256, members)
    if verify:
        read_pack(store, folder, result, codec, _ignore, crew=crew)
    return result


def write_stream(
    store: Store,
    folder: str,
    key: str,
    codec: Codec,
    *,
    name: str,
    chunks: Iterable[bytes],
    verify: bool = True,
    threads: int = 0,
) -> StoredObject:
    """Store a stream of unknown length as one object with one member, whose length and SHA-256 are measured here.

    The caller compares them with what the producing side says at its end, and deletes the object when they
    differ: only the producing side knows whether its stream was whole.
    """
    checksum, length = hashlib.sha256(), 0

    def measured() -> Generator[bytes, None, None]:
        nonlocal length
        for chunk in chunks:
            checksum.update(chunk)
            length += len(chunk)
            yield chunk

    with closing(measured()) as raw, closing(codec.compress(raw, threads)) as packed:
        stored = store.put(folder + key, packed)
    result = StoredObject(key, stored.length, stored.sha256, (Member(name, length, checksum.hexdigest()),))
    if verify:
        read_pack(store, folder, result, codec, _ignore)
    return result


def read_pack(
    store: Store,
    folder: str,
    stored: StoredObject,
    codec: Codec,
    sink: Sink,
    *,
    crew: Crew | None = None,
    proven: bool = False,
) -> None:
    """Give each member to sink and prove the object: stored bytes, end of the stream, every member's raw bytes.

    proven: these stored bytes were read back once and gave the members' SHA-256, which a backup does before it is
    one. Then the SHA-256 of the stored bytes, the frame's own checksum and every length are proof enough, and the raw
    bytes, ten times as many, are not hashed again.
    A member that sink has received counts only when this returns. Raises OpsError object_damaged, with the
    object and the member, and what the store and sink raise.
    """
    checksum, length = hashlib.sha256(), 0

    def watched(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal length
        for chunk in chunks:
            if crew is not None:
                crew.look()
            checksum.update(chunk)
            length += len(chunk)
            yield chunk

    with store.get(folder + stored.key) as chunks, closing(codec.decompress(watched(chunks))) as raw:
        splitter = _Splitter(raw, stored.key, hashed=not proven)
        for member in stored.members:
            with closing(splitter.member(member)) as piece:
                sink(member, piece)
                for _rest in piece:
                    pass
        splitter.end()
    if (length, checksum.hexdigest()) != (stored.length, stored.sha256):
        raise _damaged(stored.key, "", "has other bytes than the ones that were stored")


def write_packs(
    store: Store,
    folder: str,
    packs: Sequence[Sequence[Source]],
    codec: Codec,
    *,
    workers: int = 2,
    verify: bool = True,
    finished: Callable[[StoredObject], None] | None = None,
) -> tuple[StoredObject, ...]:
    """write_pack for each pack, `workers` at a time, in the order given; the first error ends all.

    finished is called in the caller's thread for each object that is stored (and proven).
    """
    crew = Crew(workers)
    sizes = [sum(fact.length for fact, _opener in pack) for pack in packs]

    def job(number: int) -> StoredObject:
        # the other workers run dry before a pack of more than its share is done
        threads = workers if sizes[number] * workers > sum(sizes) else 0
        key = object_key(number, codec)
        return write_pack(store, folder, key, packs[number], codec, verify=verify, threads=threads, crew=crew)

    return crew.run(job, len(packs), finished)


def read_packs(
    store: Store,
    folder: str,
    objects: Sequence[StoredObject],
    codec: Codec,
    sink: Sink,
    *,
    workers: int = 2,
    finished: Callable[[StoredObject], None] | None = None,
) -> None:
    """read_pack for each object, `workers` at a time, largest first; sink is called from several threads."""
    crew = Crew(workers)
    ordered = sorted(objects, key=lambda item: -item.length)

    def job(number: int) -> StoredObject:
        read_pack(store, folder, ordered[number], codec, sink, crew=crew)
        return ordered[number]

    crew.run(job, len(ordered), finished)


def verify_packs(
    store: Store,
    folder: str,
    objects: Sequence[StoredObject],
    codec: Codec,
    *,
    workers: int = 2,
    finished: Callable[[StoredObject], None] | None = None,
) -> None:
    """Read everything and write it nowhere: proof that the objects can be restored from."""
    read_packs(store, folder, objects, codec, _ignore, workers=workers, finished=finished)


def _raw(sources: Sequence[Source], crew: Crew | None) -> Generator[bytes, None, None]:
    """The members' raw bytes, each compared with its fact when it ends."""
    for fact, opener in sources:
        checksum, length = hashlib.sha256(), 0
        with opener() as chunks:
            for chunk in chunks:
                if crew is not None:
                    crew.look()
                checksum.update(chunk)
                length += len(chunk)
                yield chunk
        if length < fact.length:
            raise OpsError(
                "stream_cut",
                f"The file {fact.name} ended after {length} of {fact.length} bytes.",
                "The stream from the database host was cut; check the connection to it and run the verb again.",
                {"member": fact.name, "expected": fact.length, "received": length},
            )
        if length != fact.length or checksum.hexdigest() != fact.sha256:
            raise OpsError(
                "member_changed",
                f"The file {fact.name} is not the one whose length and SHA-256 were made on the database host.",
                "Let nothing write to the staging folder; check memory and network of both hosts; run the verb again.",
                {"member": fact.name, "expected": fact.length, "received": length},
            )


class _Splitter:
    """Cuts the raw stream of an object into its members and holds each against the manifest."""

    def __init__(self, raw: Iterator[bytes], key: str, hashed: bool = True) -> None:
        self._raw = raw
        self._key = key
        self._hashed = hashed
        self._chunk = b""
        self._position = 0  # in chunk; what lies before it has been given out

    def member(self, member: Member) -> Generator[bytes, None, None]:
        checksum, missing = hashlib.sha256(), member.length
        while missing:
            if self._position == len(self._chunk) and not self._next(member.name):
                raise _damaged(self._key, member.name, f"lacks {missing} of {member.length} bytes")
            piece = self._chunk
            if self._position or len(piece) > missing:
                piece = piece[self._position : self._position + missing]
            self._position += len(piece)
            missing -= len(piece)
            if self._hashed:
                checksum.update(piece)
            yield piece
        if self._hashed and checksum.hexdigest() != member.sha256:
            raise _damaged(self._key, member.name, "has other bytes than the ones that were dumped")

    def end(self) -> None:
        if self._position < len(self._chunk) or self._next(""):
            raise _damaged(self._key, "", "holds more than its members")

    def _next(self, name: str) -> bool:
        """Fetch the next chunk that is not empty; False at the end."""
        try:
            self._chunk, self._position = next(filter(None, self._raw), b""), 0
        except OpsError as error:
            if error.code == "object_damaged" and "key" not in error.details:
                raise _damaged(self._key, name, f"cannot be read: {error.cause}") from error
            raise
        return bool(self._chunk)


def _ignore(_member: Member, _chunks: Iterator[bytes]) -> None:
    """A sink that leaves everything to the check."""


def _damaged(key: str, member: str, how: str) -> OpsError:
    what = f"The file {member} in the object {key}" if member else f"The object {key}"
    return OpsError(
        "object_damaged",
        f"{what} {how}.",
        "Choose another set (verb backups), or a second copy of this one; check the device of the store.",
        {"key": key, "member": member},
    )
