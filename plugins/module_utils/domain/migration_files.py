# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration files as they lie in a folder: NNN_name.sql, NNN_name.undo.sql, NNN_name.verify.sql.

Metadata stands in the comments before the first statement: `-- saasops: transactional=false lock_limit=10s`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_locks import Look, classify, look_at
from ansible_collections.saasops.runbook.plugins.module_utils.domain.ddl_words import ACCESS_EXCLUSIVE, LEVELS, Touch
from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import parse_duration
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_scan import pieces
from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_statements import Statement, split

_NAME = re.compile(r"(?P<version>[0-9]{1,18})_(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)(?:\.(?P<part>undo|verify))?\.sql\Z")
_LINE = re.compile(r"--\s*saasops:(?P<pairs>.*)")
_MILLISECONDS = re.compile(r"(\d{1,7})ms\Z")
_KEYS = ("transactional", "compatible_with_previous", "lock_limit", "limit", "tenants", "locks", "repeatable")
_BOOL = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class Metadata:
    """What a file says of itself.

    transactional: one transaction (True), or statement by statement. compatible: whether the release before works
    with the schema after it; None when the file does not say. lock_limit: seconds that the transaction may last and so
    a reader may wait; limit: seconds that one statement outside a transaction may last; None for the run's own.
    tenants: patterns of schemas that it is run in, each by itself. locks: taken first beside those found in the text.
    repeatable: what commits by itself (CALL, DO) may run once more from its start.
    """

    transactional: bool = True
    compatible: bool | None = None
    lock_limit: float | None = None
    limit: float | None = None
    tenants: tuple[str, ...] = ()
    locks: tuple[Touch, ...] = ()
    repeatable: bool = False


@dataclass(frozen=True)
class Script:
    """One file: its text with plain line ends, what it says of itself, and its statements."""

    file: str
    text: str = field(repr=False)
    metadata: Metadata
    statements: tuple[Statement, ...] = field(repr=False)
    look: Look = field(repr=False)

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of the normalised text."""
        return checksum(self.text)


@dataclass(frozen=True)
class Migration:
    """A version with what belongs to it."""

    version: str
    name: str
    script: Script
    undo: Script | None = None
    verify: Script | None = None

    @property
    def number(self) -> int:
        return int(self.version)

    @property
    def title(self) -> str:
        return f"{self.version}_{self.name}"


def normalised(text: str) -> str:
    """Without a byte order mark, with \\n as line end and one of it at the end: what an editor or git may change."""
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").rstrip() + "\n"


def checksum(text: str) -> str:
    """SHA-256 (hex) of a text as the ledger keeps it; comments count."""
    return hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).hexdigest()


def seconds(text: str, name: str) -> float:
    """Seconds of "500ms", "5s", "2m". Raises OpsError bad_duration."""
    short = _MILLISECONDS.match(text.strip())
    return int(short.group(1)) / 1000 if short else float(parse_duration(text, name))


def _error(file: str, code: str, cause: str, remedy: str) -> OpsError:
    return OpsError(code, f"{file}: {cause}", remedy, {"file": file})


def _touches(text: str) -> tuple[Touch, ...]:
    """ "public.a,public.b:SHARE_ROW_EXCLUSIVE". Raises ValueError."""
    found = []
    for part in text.split(","):
        name, _colon, mode = part.partition(":")
        level = mode.replace("_", " ").upper() or ACCESS_EXCLUSIVE
        if level not in LEVELS or not name:
            raise ValueError(part)
        found.append(Touch(tuple(name.split(".")), level))
    return tuple(found)


def _pairs(file: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind, piece, _start in pieces(text):
        if kind not in ("blank", "comment"):
            break
        match = _LINE.match(piece)
        for pair in match.group("pairs").split() if match else []:
            key, equals, value = pair.partition("=")
            if key not in _KEYS or not equals or key in found:
                raise _error(
                    file,
                    "bad_metadata",
                    f"{pair!r} is not known, or said twice.",
                    f"Use each of {', '.join(_KEYS)} at most once, as key=value.",
                )
            found[key] = value
    return found


def _metadata(file: str, text: str) -> Metadata:
    pairs = _pairs(file, text)
    try:
        return Metadata(
            transactional=_BOOL[pairs.get("transactional", "true").lower()],
            compatible=_BOOL[pairs["compatible_with_previous"].lower()]
            if "compatible_with_previous" in pairs
            else None,
            lock_limit=seconds(pairs["lock_limit"], "lock_limit") if "lock_limit" in pairs else None,
            limit=seconds(pairs["limit"], "limit") if "limit" in pairs else None,
            tenants=tuple(part for part in pairs.get("tenants", "").split(",") if part),
            locks=_touches(pairs["locks"]) if "locks" in pairs else (),
            repeatable=_BOOL[pairs.get("repeatable", "false").lower()],
        )
    except (KeyError, ValueError) as error:
        remedy = "transactional and repeatable are true or false, locks is schema.table:LEVEL with commas between."
        raise _error(file, "bad_metadata", f"{error} cannot be understood.", remedy) from error
    except OpsError as error:
        raise _error(file, "bad_metadata", error.cause, error.remedy) from error


def read_script(file: str, text: str) -> Script:
    """A file's text as statements. Raises OpsError bad_metadata, file_unreadable, file_empty, transaction_control,
    needs_no_transaction, index_unnamed."""
    text = normalised(text)
    try:
        statements = tuple(split(text))
    except OpsError as error:
        remedy = "Write SQL alone: commands of psql (\\i, \\copy, COPY ... FROM stdin) are not known here."
        raise _error(file, "file_unreadable", error.cause, remedy) from error
    metadata = _metadata(file, text)
    if not statements:
        raise _error(file, "file_empty", "it holds no statement.", "Write one, or remove the file.")
    look = look_at(statements)
    control = [item for item in statements if item.controls_transaction]
    if control:
        raise _error(
            file,
            "transaction_control",
            f"line {control[0].line} says {' '.join(control[0].words[:2])}.",
            "Take it out: each file is one transaction, made here together with its row in the ledger.",
        )
    copies = [one for one in statements if one.words[:1] == ("COPY",) and _by_client(one)]
    if copies:
        raise _error(
            file,
            "file_unreadable",
            f"line {copies[0].line} copies from or to the client.",
            "Write INSERT, or COPY from a file or program of the server.",
        )
    if metadata.transactional and look.never:
        line, kind = look.never[0]
        raise _error(
            file,
            "needs_no_transaction",
            f"line {line}: {kind} is not allowed in a transaction.",
            "Give it a file of its own that begins with -- saasops: transactional=false",
        )
    for item in statements:
        verdict = classify(item)
        if verdict.kind == "CREATE INDEX CONCURRENTLY" and not verdict.index:
            raise _error(
                file,
                "index_unnamed",
                f"line {item.line} builds an index without a name: what a broken build left could not be told apart.",
                "Give the index a name.",
            )
    return Script(file, text, metadata, statements, look)


def _by_client(statement: Statement) -> bool:
    return bool({token.upper for token in statement.tokens} & {"STDIN", "STDOUT"})


def read_folder(files: Mapping[str, str]) -> tuple[list[Migration], list[OpsError]]:
    """Migrations by number, and everything that is wrong with the files; names that do not end in .sql are left out."""
    errors: list[OpsError] = []
    by_number: dict[int, dict[str, list[tuple[str, str, str]]]] = {}
    for file in sorted(files):
        if not file.endswith(".sql"):
            continue
        match = _NAME.match(file)
        if match is None:
            remedy = "Name it NNN_name.sql, NNN_name.undo.sql or NNN_name.verify.sql."
            errors.append(_error(file, "file_name", "its name is not understood.", remedy))
            continue
        parts = by_number.setdefault(int(match["version"]), {})
        parts.setdefault(match["part"] or "script", []).append((file, match["version"], match["name"]))
    found = []
    for _number, parts in sorted(by_number.items()):
        migration = _one(parts, files, errors)
        if migration is not None:
            found.append(migration)
    return found, errors


def _one(
    parts: Mapping[str, Sequence[tuple[str, str, str]]], files: Mapping[str, str], errors: list[OpsError]
) -> Migration | None:
    twice = [names for names in parts.values() if len(names) > 1]
    if twice:
        names = ", ".join(name for name, _version, _name in twice[0])
        errors.append(
            _error(twice[0][0][0], "number_twice", f"several files have one number: {names}.", "Give each its own.")
        )
        return None
    main = parts.get("script", [("", "", "")])[0]
    strays = [one[0] for kind, (one,) in sorted(parts.items()) if one[1:] != main[1:]]
    for stray in strays:
        remedy = "An undo or verify script has the number and the name of its migration."
        errors.append(_error(stray, "orphan_script", "the migration that it belongs to is not there.", remedy))
    scripts: dict[str, Script] = {}
    for kind, (one,) in sorted(parts.items()):
        try:
            scripts[kind] = read_script(one[0], files[one[0]])
        except OpsError as error:
            errors.append(error)
    if strays or "script" not in scripts:
        return None
    return Migration(main[1], main[2], scripts["script"], scripts.get("undo"), scripts.get("verify"))
