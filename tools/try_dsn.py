# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's own way to name a database, turned into what the collection takes. No password stays in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import passfile_line
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.failures import from_server

# what the option connection knows; the rest of libpq's keywords have a variable of the environment each
_OWN = {"host", "port", "user", "dbname", "service", "password", "passfile", "options"}
_VARIABLES = {
    "hostaddr": "PGHOSTADDR",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "require_auth": "PGREQUIREAUTH",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslnegotiation": "PGSSLNEGOTIATION",
}
_CONNECTION = {"sslmode": "ssl_mode", "sslrootcert": "ca_cert", "connect_timeout": "connect_timeout"}
READ_ONLY = "-c default_transaction_read_only=on"


@dataclass(frozen=True)
class Place:
    """Where the database is. connection: the option of our modules; environment: what children are given beside it.

    had_password: one was in the DSN or in PGPASSWORD; it lies in a passfile that environment names.
    """

    database: str
    user: str
    version: int
    connection: Mapping[str, object]
    environment: Mapping[str, str]
    had_password: bool

    @property
    def address(self) -> str:
        where = self.connection.get("unix_socket") or self.connection.get("host") or "the default socket"
        return f"{where}:{self.connection['port']}" if "port" in self.connection else str(where)


def resolve(dsn: str, folder: Path) -> Place:
    """Connect once, read only, and tell what libpq made of the DSN (a URI, key=value, or service=name).

    folder: a private one for the passfile. Takes PGPASSWORD out of this process's environment.
    Raises OpsError dsn_invalid, or what the server said.
    """
    import psycopg2
    from psycopg2.extensions import parse_dsn

    try:
        given = {name: str(value) for name, value in parse_dsn(dsn).items()}
    except psycopg2.ProgrammingError:
        # libpq's own message quotes the DSN, and with it perhaps the password
        raise OpsError(
            "dsn_invalid",
            "The DSN is no connection string of libpq.",
            "Write postgresql://user@host:5432/database, or 'host=... dbname=...', or service=name.",
        ) from None
    unknown = set(given) - _OWN - set(_VARIABLES) - set(_CONNECTION)
    if unknown:
        raise OpsError(
            "dsn_unsupported",
            f"The DSN sets {', '.join(sorted(unknown))}, which is not known here.",
            "Leave it out, or set libpq's environment variable for it.",
        )
    password = given.pop("password", None) or os.environ.pop("PGPASSWORD", None)
    environment = {_VARIABLES[name]: given[name] for name in given if name in _VARIABLES}
    if "passfile" in given:
        environment["PGPASSFILE"] = given["passfile"]
    if password is not None:
        environment["PGPASSFILE"] = str(_passfile(folder, password))
    environment["PGOPTIONS"] = " ".join(
        text for text in (os.environ.get("PGOPTIONS", ""), given.pop("options", ""), READ_ONLY) if text
    )
    saved = dict(os.environ)
    os.environ.update(environment)
    try:
        return _connect({"connect_timeout": "10", **given}, environment, password is not None)
    finally:
        os.environ.clear()
        os.environ.update(saved)


def _passfile(folder: Path, password: str) -> Path:
    path = folder / "pgpass"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(passfile_line(password))
    return path


def _connect(given: dict[str, str], environment: dict[str, str], had_password: bool) -> Place:
    import psycopg2
    from psycopg2.extensions import make_dsn

    keywords = {name: value for name, value in given.items() if name not in _VARIABLES and name != "passfile"}
    try:
        opened = psycopg2.connect(make_dsn(**keywords, application_name="saasops-try"))
    except psycopg2.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            raise OpsError(
                "pooled_connection",
                "A connection pooler answers here: it does not take the setting that makes the look read only.",
                "Connect to PostgreSQL itself (for PgBouncer and Supabase: the direct port, not 6432 or 6543).",
            ) from None
        raise from_server(error.pgcode, str(error), "connecting") from None
    try:
        info = opened.info
        connection: dict[str, object] = {ours: given[theirs] for theirs, ours in _CONNECTION.items() if theirs in given}
        connection.pop("connect_timeout", None)
        if "service" in given:
            connection = {"service": given["service"]}
        else:
            socket = not info.host or info.host.startswith("/")
            connection["unix_socket" if socket else "host"] = info.host
            if info.port != 5432:
                connection["port"] = info.port
            connection["user"] = info.user
            if "sslmode" not in given and os.environ.get("PGSSLMODE"):
                connection["ssl_mode"] = os.environ["PGSSLMODE"]
            if "sslrootcert" not in given and os.environ.get("PGSSLROOTCERT"):
                connection["ca_cert"] = os.environ["PGSSLROOTCERT"]
        return Place(info.dbname, info.user, info.server_version, connection, environment, had_password)
    finally:
        opened.close()


def store_of(text: str, database: str) -> dict[str, object]:
    """The option store from s3://bucket/prefix or a folder; without any, a folder of this user's home.

    Raises OpsError store_invalid.
    """
    if text.startswith("s3://"):
        bucket, _slash, prefix = text[5:].partition("/")
        if not bucket:
            raise OpsError("store_invalid", "The store's address names no bucket.", "Write s3://bucket/prefix.")
        return {"type": "s3", "bucket": bucket, **({"prefix": prefix.strip("/")} if prefix.strip("/") else {})}
    if "://" in text:
        raise OpsError(
            "store_invalid", "The store's address is of no known kind.", "Write s3://bucket/prefix or /path."
        )
    if text:
        return {"path": str(Path(text).expanduser().absolute())}
    return {"path": str(Path.home() / "backups" / (database.replace("/", "_") or "database")), "create": True}
