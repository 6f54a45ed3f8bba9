# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source redis: whether a server answers, a field of its INFO, the length of a list or of a sorted set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Value
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group
from ansible_collections.saasops.runbook.plugins.module_utils.measure.one import alone
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options

_ASKED = ("info", "llen", "zcard")


class _Client(Protocol):
    """What is used of redis.Redis."""

    def ping(self) -> object:
        """Whether it answers."""

    def info(self) -> Mapping[str, object]:
        """The fields of INFO by name."""

    def llen(self, name: str) -> int:
        """How many elements a list has."""

    def zcard(self, name: str) -> int:
        """How many members a sorted set has."""

    def close(self) -> None:
        """End the connection."""


def open_redis(check: Check, options: Options) -> Group:
    """The check as a group of its own. Raises OpsError bad_check."""
    asked = [name for name in _ASKED if options.text(name)]
    if len(asked) > 1:
        raise options.refuse(f"it asks for {' and '.join(asked)}.", "Make a check of each.")
    times = 1.0 if asked else options.turned("s", check.unit)
    return alone(check, options.timeout, lambda: [_measure(options, asked[0] if asked else "ping", times)])


def _measure(options: Options, asked: str, times: float) -> Measurement:
    try:
        import redis
    except ImportError:
        return Measurement(missing="the Python library redis is not installed where the checks run (python3-redis)")
    errors = redis.exceptions
    try:
        client = _open(options)
        try:
            return _ask(client, asked, options.text(asked), times)
        finally:
            client.close()
    except (errors.AuthenticationError, errors.NoPermissionError) as error:
        return Measurement(missing=f"Redis does not let us in: {str(error)[:200]}")
    except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
        return Measurement(missing=f"Redis at {_where(options)} does not answer: {str(error)[:200]}", down=True)
    except errors.RedisError as error:
        return Measurement(missing=f"Redis refuses {asked}: {str(error)[:200]}")


def _where(options: Options) -> str:
    return options.text("unix_socket") or f"{options.text('host') or '127.0.0.1'}:{options.number('port', 6379)}"


def _open(options: Options) -> _Client:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    given: dict[str, object] = {
        # a server that hangs would take the timeout several times
        "retry": Retry(NoBackoff(), 0),
        "db": options.number("db", 0),
        "username": options.text("username") or None,
        "password": options.text("password") or None,
        "socket_timeout": options.timeout,
        "socket_connect_timeout": options.timeout,
        "decode_responses": True,
    }
    if options.text("unix_socket"):
        given["unix_socket_path"] = options.text("unix_socket")
    else:
        given.update(host=options.text("host") or "127.0.0.1", port=options.number("port", 6379))
    if options.flag("tls"):
        given.update(ssl=True, ssl_ca_certs=options.text("ca_path") or None)
        given.update(ssl_cert_reqs="required" if options.flag("validate_certs", True) else "none")
    return cast("_Client", redis.Redis(**given))


def _ask(client: _Client, asked: str, name: str, times: float) -> Measurement:
    if asked == "llen":
        return Measurement(int(client.llen(name)))
    if asked == "zcard":
        return Measurement(int(client.zcard(name)))
    if asked == "info":
        found = client.info().get(name)
        if found is None or isinstance(found, (dict, list)):
            return Measurement(missing=f"INFO has no field {name!r}")
        return Measurement(cast(Value, found))
    began = time.monotonic()
    client.ping()
    return Measurement((time.monotonic() - began) * times)
