# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of an object store. posix.py, posix_remote.py and s3.py keep it; one test suite holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """One object: its key, its length in bytes, its last change as POSIX seconds."""

    key: str
    length: int
    modified: float


@dataclass(frozen=True)
class Stored:
    """What now lies in the store: length in bytes and SHA-256 (hex) of the bytes that were sent and acknowledged."""

    key: str
    length: int
    sha256: str


class Store(Protocol):
    """Objects appear whole or not at all. Keys are '/'-separated, made by us: [A-Za-z0-9._=-] and '/'.

    Errors are OpsError: store_unreachable, store_not_writable, store_full, bucket_missing, store_denied,
    object_missing, object_exists, object_damaged; on another host also those of transport/ssh.py and stream_cut.
    """

    @property
    def url(self) -> str:
        """The address as an operator wrote it, without credentials."""

    def check(self, write: bool) -> None:
        """Raise when the store cannot be reached, or (write) not be written to; leaves nothing behind."""

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        """Write an object; durable on return. if_absent raises object_exists when another writer was first.

        When chunks raises, nothing appears and parts are aborted; the error passes on.
        """

    def get(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        """Read an object as chunks (about 1 MiB); a connection that ends early raises, never ends quietly."""

    def list(self, prefix: str) -> list[ObjectInfo]:
        """All objects whose key starts with prefix, sorted by key; [] when there is none."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""

    def sweep(self, prefix: str, older_than: float) -> Sequence[str]:
        """Remove what an interrupted put left (temporary files, unfinished multipart uploads) and name it.

        older_than is a POSIX time: what is younger may belong to a running writer and stays.
        """

    def free_bytes(self) -> int | None:
        """Bytes that can still be written; None when the store does not tell."""
