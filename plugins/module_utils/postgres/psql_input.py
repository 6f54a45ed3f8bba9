# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL as psql must be given it, so that psql sends exactly these bytes to the server and acts on none of them.

psql looks for three things outside quotes and comments: a semicolon (send), a colon (a variable) and a
backslash (a command). `\\;` and `\\:` put the plain character into the statement, so these two are escaped;
a backslash there is no SQL at all and is refused. What is outside, domain/sql_scan.py tells; where versions of psql
differ, the text is refused or rewritten.
"""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.sql_scan import pieces, refused


def encode(sql: str) -> bytes:
    """The statement for psql's standard input, without what sends it (a line `\\g`).

    Several statements with semicolons between go to the server as one message, as libpq would send them.
    standard_conforming_strings must be on. Raises OpsError sql_failed, sqlstate 42601, for text that ends
    inside a quote or comment, holds no statement, or that psql would not send unchanged; 22021 for
    characters PostgreSQL cannot store; 0A000 for COPY with STDIN or STDOUT.
    """
    if "\0" in sql:
        raise refused("22021", "the statement holds a NUL character")
    parts: list[str] = []
    # the first word of the current statement, None before it
    command: str | None = None
    something = False
    for kind, text, _start in pieces(sql):
        parts.append("\\" + text if kind in ("colon", "semi") else text)
        if kind == "semi":
            command = None
        elif kind not in ("blank", "comment"):
            something = True
            word = text.upper() if kind == "word" else ""
            if command == "COPY" and word in ("STDIN", "STDOUT"):
                # psql would take our next lines for rows
                raise refused("0A000", f"COPY with {word} is not for sessions")
            command = word if command is None else command
    if not something:
        raise refused("42601", "it holds no statement")
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise refused("22021", "the statement holds a character that is no Unicode text") from error
