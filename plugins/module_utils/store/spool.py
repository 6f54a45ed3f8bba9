# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Journal events that wait on the controller, in a folder of the operator, until a run can write them to the store.

<folder>/waiting.jsonl takes new lines. A merge first renames it to taken-<hex>.jsonl, which is the durable mark of an
attempt: such a file that is found later may be in the chain already, wholly or in part, and is merged with care. What
a module tried to write and did not report as written lies in such a file from the beginning.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.journal import Event, parse_event
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import safe
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import canonical

WAITING = "waiting.jsonl"
_TAKEN = re.compile(r"taken-[0-9a-f]{16}\.jsonl\Z")


def folder_of(home: str, system: str) -> str:
    """The spool of a system below home (~/.ansible); what is no plain character of a name is written =XX."""
    return os.path.join(home, "saasops", "spool", safe(system) or "=")


@dataclass
class Batch:
    """What a merge has to write.

    again_since: POSIX time of the oldest earlier attempt, None when there was none; hand it to journal.append.
    torn: lines that cannot be read, for instance a last one that a crash cut.
    """

    events: list[Event]
    again_since: float | None
    torn: int
    _files: list[str] = field(default_factory=list)

    def done(self) -> None:
        """Everything is in the chain: forget it here."""
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._files.clear()


class Spool:
    """One folder of mode 0700 with files of mode 0600. Raises OpsError spool_failed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Spool({self.folder!r})"

    def add(self, events: Sequence[Event], *, tried: bool = False) -> None:
        """Keep events; on the device when it returns.

        tried: somebody began to write them to the chain, and how far that came is not known.
        """
        if not events:
            return
        name = f"taken-{os.urandom(8).hex()}.jsonl" if tried else WAITING
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            with locked(os.path.join(self.folder, "lock")):
                append_lines(os.path.join(self.folder, name), [event.as_json() for event in events], durable=True)
        except OSError as error:
            raise self._failed(error) from error

    def is_empty(self) -> bool:
        """Whether nothing waits; asks for two names, takes no lock."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._failed(error) from error
        return not any(name == WAITING or _TAKEN.match(name) for name in names)

    @contextlib.contextmanager
    def merging(self) -> Iterator[Batch | None]:
        """What waits, for the only process that merges now; None when nothing waits or another process merges.

        Without Batch.done() everything stays for the next attempt.
        """
        if self.is_empty():
            yield None
            return
        with contextlib.ExitStack() as stack:
            try:
                alone = stack.enter_context(locked(os.path.join(self.folder, "merge"), wait=False))
                batch = self._take() if alone else None
            except OSError as error:
                raise self._failed(error) from error
            yield batch

    def _take(self) -> Batch | None:
        earlier = [os.path.join(self.folder, name) for name in sorted(os.listdir(self.folder)) if _TAKEN.match(name)]
        since = min((os.stat(path).st_ctime for path in earlier), default=None)
        files = list(earlier)
        with locked(os.path.join(self.folder, "lock")):
            waiting = os.path.join(self.folder, WAITING)
            if os.path.exists(waiting):
                taken = os.path.join(self.folder, f"taken-{os.urandom(8).hex()}.jsonl")
                os.rename(waiting, taken)
                _sync_folder(self.folder)
                files.append(taken)
        events: dict[str, Event] = {}
        torn = 0
        for path in files:
            for line in read_lines(path):
                try:
                    event = parse_event(line)
                except (ValueError, TypeError):
                    torn += 1
                else:
                    events.setdefault(event.id, event)
        return Batch(sorted(events.values(), key=lambda event: event.at), since, torn, files) if files else None

    def _failed(self, error: OSError) -> OpsError:
        return OpsError(
            "spool_failed",
            f"The journal's spool {self.folder} on the controller cannot be used ({error.strerror or error}).",
            "Give the operator's home folder room and write access; saasops spools there what the store cannot take.",
            {"path": self.folder},
        )


@contextlib.contextmanager
def locked(path: str, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file; False, without wait, when another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def append_lines(path: str, bodies: Iterable[object], durable: bool = False) -> None:
    """Append JSON lines to a file of mode 0600; a last line that a crash has cut is ended first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        text = b"".join(canonical(body) + b"\n" for body in bodies)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = b"\n" + text
        written = 0
        while written < len(text):
            written += os.write(descriptor, text[written:])
        if durable:
            os.fsync(descriptor)
            if not size:
                _sync_folder(os.path.dirname(path))
    finally:
        os.close(descriptor)


def read_lines(path: str) -> Iterator[object]:
    """The values of a file of JSON lines; None for a line that cannot be read."""
    with open(path, "rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError:
                yield None


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
