# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server or libpq said, as an error with a code, a cause and a remedy."""

from __future__ import annotations

import re

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

# sqlstate -> (code, remedy)
BY_STATE = {
    "28P01": ("wrong_password", "Check the password source (connection.password, .pgpass, service file or peer)."),
    "28000": ("login_refused", "Check the user, and the rule in pg_hba.conf that admits it."),
    "3D000": ("unknown_database", "Check the name with psql -l; names are case-sensitive."),
    "3F000": ("unknown_schema", "Check the schema's name; names are case-sensitive."),
    "42501": ("not_permitted", "Grant the missing right to the login role, or log in as the owner."),
    "53300": (
        "no_free_connection",
        "End idle sessions (verb sessions), or log in as a role that may use the reserved slots.",
    ),
    "53100": ("server_disk_full", "Free space on the database server's volume, then run the verb again."),
    "55P03": ("lock_timeout", "Another session holds a conflicting lock; wait for it or end it, then run again."),
    "55006": ("object_in_use", "Other sessions still use the object; end them, then run again."),
    "57P01": ("session_ended", "The session was ended by an administrator or a shutdown; run the verb again."),
    "57P02": ("session_ended", "The server restarted after a crash of one of its processes; run the verb again."),
    "57P03": ("server_starting", "The server is starting up or shutting down; wait and run the verb again."),
    "25P03": ("session_ended", "The server ended it because it held locks and did not work; run the verb again."),
    "25P04": ("session_ended", "The server ended it because its transaction lasted too long; run the verb again."),
    "42P04": ("target_exists", "Choose another name, or drop the database that has it."),
}
# libpq gives no sqlstate for a failed connection, only a message
BY_TEXT = (
    (r"password authentication failed", "28P01"),
    (r"no password supplied", "28P01"),
    (r"no pg_hba\.conf entry|Peer authentication failed|role .* does not exist", "28000"),
    (r"(?s)database .* does not exist", "3D000"),
    (r"too many clients|remaining connection slots|too many connections", "53300"),
    (r"starting up|shutting down|in recovery mode|not (?:yet )?accepting connections", "57P03"),
    (r"terminating connection|server closed the connection|connection already closed", "57P01"),
    (r"No space left on device", "53100"),
)
UNREACHABLE = (
    "server_unreachable",
    "Check that the server runs, its host and port, and the firewall between.",
)


def from_server(sqlstate: str | None, text: str, doing: str) -> OpsError:
    """An OpsError for what PostgreSQL reported while we were `doing` something ("connecting to demo")."""
    first = " ".join(text.strip().split("\n")[0].split()) or "no message"
    if not sqlstate:
        sqlstate = next((state for pattern, state in BY_TEXT if re.search(pattern, text)), None)
    if sqlstate in BY_STATE:
        code, remedy = BY_STATE[sqlstate]
    elif sqlstate is None and re.search(
        r"could not (connect|translate)|[Cc]onnection (refused|timed out)|timeout expired|No such file", text
    ):
        code, remedy = UNREACHABLE
    else:
        code, remedy = "sql_failed", "Read the message of the server; nothing of this step was committed."
    return OpsError(code, f"PostgreSQL refused while {doing}: {first}.", remedy, {"sqlstate": sqlstate or ""})
