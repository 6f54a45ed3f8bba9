# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of rows: what cleanup deleted and repair changed, in a form that puts exactly that back.

    archives/<id>/begun.json           written first: what for, by which rule, with which cut-off
    archives/<id>/rows/<nnnnnn>.zst    one batch: a header of one JSON line, then the rows as COPY text
    archives/<id>/manifest.json        written last, sealed: the batches whose transaction was committed

A batch is stored before its transaction deletes or changes the first row, and carries that transaction's id.
It is one act: when the transaction was committed, all of its rows are gone (or changed), otherwise none. So the
server's own commit log tells what a batch without a manifest stands for, wherever the run was killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.copy_text import END, decode, encode
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json, canonical

FORMAT = 1
COMMITTED, ABORTED, RUNNING, FORGOTTEN = "committed", "aborted", "in progress", "forgotten"


@dataclass(frozen=True)
class Column:
    """One archived column: its name and its type as format_type writes it."""

    name: str
    type: str


@dataclass(frozen=True)
class Part:
    """Rows of one table, in order. values: one tuple a row, one text (or None for NULL) a column.

    kind: "deleted", "changed" (the rows as they were before) or "made" (the rows that were inserted).
    partition: schema, name and bounds of a partition that was dropped with these rows, as SQL; () for none.
    """

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    kind: str = "deleted"
    partition: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.table}"

    def keys(self) -> list[tuple[str | None, ...]]:
        """The key of each row."""
        places = [[column.name for column in self.columns].index(name) for name in self.key]
        return [tuple(row[place] for place in places) for row in self.rows]


@dataclass(frozen=True)
class Batch:
    """One object of an archive. xid: the transaction that acted on these rows. Parents stand before their children."""

    archive: str
    number: int
    xid: str
    server: str
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(len(part.rows) for part in self.parts)


def render_batch(batch: Batch) -> bytes:
    """The object's bytes before compression."""
    texts = ["".join(encode(row) + "\n" for row in part.rows) for part in batch.parts]
    header = {
        "format": FORMAT,
        "archive": batch.archive,
        "number": batch.number,
        "xid": batch.xid,
        "server": batch.server,
        "parts": [
            {
                "schema": part.schema,
                "table": part.table,
                "columns": [[column.name, column.type] for column in part.columns],
                "key": list(part.key),
                "kind": part.kind,
                "partition": list(part.partition),
                "rows": len(part.rows),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
            for part, text in zip(batch.parts, texts)
        ],
    }
    return (canonical(header).decode() + "\n" + "".join(text + END + "\n" for text in texts)).encode()


def parse_batch(data: bytes, name: str) -> Batch:
    """The reverse of render_batch. Raises OpsError archive_damaged, archive_newer."""
    try:
        first, _newline, rest = data.decode("utf-8").partition("\n")
        header = json.loads(first)
        if int(header["format"]) > FORMAT:
            raise _newer(name)
        parts = []
        for body in header["parts"]:
            text, found, rest = _split(rest)
            if not found or hashlib.sha256(text.encode()).hexdigest() != body["sha256"]:
                raise _damaged(name, f"the rows of {body['schema']}.{body['table']} have another checksum")
            rows = tuple(tuple(decode(line)) for line in text.split("\n")[:-1])
            columns = tuple(Column(str(column), str(kind)) for column, kind in body["columns"])
            if len(rows) != int(body["rows"]) or any(len(row) != len(columns) for row in rows):
                raise _damaged(name, "it holds another number of rows or columns than it says")
            parts.append(
                Part(
                    schema=str(body["schema"]),
                    table=str(body["table"]),
                    columns=columns,
                    key=tuple(str(column) for column in body["key"]),
                    rows=rows,
                    kind=str(body["kind"]),
                    partition=tuple(str(item) for item in body.get("partition") or []),
                )
            )
        return Batch(
            str(header["archive"]), int(header["number"]), str(header["xid"]), str(header["server"]), tuple(parts)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(name, "it cannot be read") from error


def _split(text: str) -> tuple[str, bool, str]:
    """What stands before the line that ends a part, whether there is one, and what stands behind it."""
    mark = END + "\n"
    if text.startswith(mark):
        return "", True, text[len(mark) :]
    before, found, after = text.partition("\n" + mark)
    return before + "\n", bool(found), after


def _damaged(name: str, why: str) -> OpsError:
    return OpsError(
        "archive_damaged",
        f"{name} is damaged: {why}.",
        "Take the object from a second copy of the store; nothing was put back out of it.",
        {"object": name},
    )


def _newer(name: str) -> OpsError:
    return OpsError("archive_newer", f"{name} was written by a newer release.", "Update the collection.")


@dataclass(frozen=True)
class Entry:
    """One batch in a manifest: key below the archive's folder, length and SHA-256 (hex) as stored, rows by table."""

    number: int
    key: str
    length: int
    sha256: str
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Begun:
    """What an archive is for. Times are POSIX seconds; keep: seconds it is kept, None for ever.

    verb: cleanup or repair; name: of the rule or fix; key: idempotency key of the act, "" without one.
    """

    archive: str
    verb: str
    system: str
    database: str
    server: str
    name: str
    started: float
    cutoff: float | None = None
    key: str = ""
    reason: str = ""
    keep: int | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """manifest.json: state is complete, stopped (by its own end) or recovered (by a later run)."""

    begun: Begun
    state: str
    finished: float
    batches: tuple[Entry, ...]

    @property
    def rows(self) -> int:
        return sum(sum(entry.rows.values()) for entry in self.batches)

    @property
    def expires(self) -> float | None:
        """When the rows need not be kept any more."""
        return None if self.begun.keep is None else self.finished + self.begun.keep


def render_begun(begun: Begun) -> dict[str, Json]:
    return {
        "format": FORMAT,
        "archive": begun.archive,
        "verb": begun.verb,
        "system": begun.system,
        "database": begun.database,
        "server": begun.server,
        "name": begun.name,
        "started": begun.started,
        "cutoff": begun.cutoff,
        "key": begun.key,
        "reason": begun.reason,
        "keep": begun.keep,
        "facts": dict(begun.facts),
    }


def parse_begun(body: Mapping[str, Json], name: str) -> Begun:
    """The reverse of render_begun. Raises OpsError archive_damaged, archive_newer."""
    try:
        if int(str(body["format"])) > FORMAT:
            raise _newer(name)
        cutoff, keep = body["cutoff"], body["keep"]
        return Begun(
            archive=str(body["archive"]),
            verb=str(body["verb"]),
            system=str(body["system"]),
            database=str(body["database"]),
            server=str(body["server"]),
            name=str(body["name"]),
            started=float(str(body["started"])),
            cutoff=None if cutoff is None else float(str(cutoff)),
            key=str(body["key"]),
            reason=str(body["reason"]),
            keep=None if keep is None else int(str(keep)),
            facts=cast("Mapping[str, Json]", body["facts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(name, "it cannot be read") from error


def _seal(body: Mapping[str, Json]) -> str:
    return hashlib.sha256(canonical({name: value for name, value in body.items() if name != "seal"})).hexdigest()


def render_outcome(outcome: Outcome) -> dict[str, Json]:
    body: dict[str, Json] = {
        **render_begun(outcome.begun),
        "state": outcome.state,
        "finished": outcome.finished,
        "rows": outcome.rows,
        "batches": [
            {
                "number": entry.number,
                "key": entry.key,
                "length": entry.length,
                "sha256": entry.sha256,
                "rows": cast("dict[str, Json]", dict(entry.rows)),
            }
            for entry in outcome.batches
        ],
    }
    body["seal"] = _seal(body)
    return body


def parse_outcome(body: Mapping[str, Json], name: str) -> Outcome:
    """The reverse of render_outcome. Raises OpsError archive_damaged, archive_newer."""
    begun = parse_begun(body, name)
    if body.get("seal") != _seal(body):
        raise _damaged(name, "it was changed after it was sealed")
    try:
        return Outcome(
            begun=begun,
            state=str(body["state"]),
            finished=float(str(body["finished"])),
            batches=tuple(
                Entry(
                    number=int(str(entry["number"])),
                    key=str(entry["key"]),
                    length=int(str(entry["length"])),
                    sha256=str(entry["sha256"]),
                    rows={str(table): int(str(rows)) for table, rows in cast("dict[str, Json]", entry["rows"]).items()},
                )
                for entry in cast("Sequence[Mapping[str, Json]]", body["batches"])
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(name, "it cannot be read") from error


def rows_by_table(parts: Sequence[Part]) -> dict[str, int]:
    """Rows of each table in a batch."""
    found: dict[str, int] = {}
    for part in parts:
        found[part.title] = found.get(part.title, 0) + len(part.rows)
    return found
