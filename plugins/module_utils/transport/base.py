# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of a transport: run argv and handle files where the database's client tools live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Protocol

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError


@dataclass(frozen=True)
class Completed:
    """A finished process: exit code, and its output in full."""

    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class FileFact:
    """A file as the far side sees it: path relative to the folder asked for, bytes, SHA-256 (hex)."""

    name: str
    length: int
    sha256: str


def staging_damaged(path: str, known: FileFact, length: int) -> OpsError:
    """A file on the far side is not what was given to it."""
    return OpsError(
        "staging_damaged",
        f"{known.name} has other bytes in the staging folder than in the set.",
        "Check the staging path's device, or name another path; then run the verb again.",
        {"member": known.name, "path": path, "length": length, "expected": known.length},
    )


class Process(Protocol):
    """A running process with pipes; stderr is drained in the background."""

    @property
    def stdin(self) -> IO[bytes] | None:
        """The far side's standard input, when asked for."""

    @property
    def stdout(self) -> IO[bytes] | None:
        """The far side's standard output, when asked for."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""

    def stderr_text(self) -> str:
        """What the process wrote to stderr so far (the last 64 KiB)."""

    def kill(self) -> None:
        """End the process and what it started, here and on the far side; safe when it is gone."""


class Transport(Protocol):
    """Everything is argv, never a shell string built from values. env adds to the far side's environment.

    Nothing secret may be put into argv or env: passwords go through secret_file.
    Errors are OpsError: tool_missing, transport_failed, staging_full.
    """

    name: str

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Completed:
        """Run to the end. A non-zero exit is returned, not raised."""

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bool = False, stdout: bool = True
    ) -> Process:
        """Start with pipes; never with a terminal."""

    def secret_file(self, content: str) -> AbstractContextManager[str]:
        """A file of mode 0600 on the far side for as long as the context lasts; gives its path."""

    def make_folder(self, path: str) -> None:
        """Create a folder of mode 0700 (parents must exist); raises staging_exists when it is there."""

    def remove_tree(self, path: str) -> None:
        """Remove a folder and all in it; no error when it is gone."""

    def file_facts(self, folder: str) -> list[FileFact]:
        """Length and SHA-256 of every file below folder, computed on the far side, sorted by name."""

    def read_file(self, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """A file's bytes as chunks; raises transport_failed when the stream ends early or the far side fails."""

    def write_file(self, path: str, chunks: Iterable[bytes]) -> FileFact:
        """Write a file whole; the fact is computed on the far side as it is written.

        Not synced to the device: such a file serves the run that writes it, and no run survives a crash of the host.
        """

    def write_known(self, path: str, chunks: Iterable[bytes], known: FileFact) -> None:
        """Write a file whole; chunks raise at their end when they are not what `known` says.

        So nothing is left to prove where the bytes are written by this process; where they travel, length and SHA-256
        of what arrived are compared with `known`. Raises staging_damaged.
        """

    def remove_files(self, paths: Sequence[str]) -> None:
        """Remove files; no error for one that is gone."""

    def free_bytes(self, path: str) -> int:
        """Bytes free for this user on the volume of path (or of its nearest existing parent)."""

    def same_volume(self, one: str, other: str) -> bool:
        """True when both paths lie on one file system."""

    def find_marked(self, mark: str) -> list[int]:
        """Process ids on the far side whose environment holds PGAPPNAME=mark (all marks that start with it).

        Those that this run started itself are left out.
        """

    def end(self, pids: Sequence[int]) -> None:
        """SIGTERM, and after 2 seconds SIGKILL."""
