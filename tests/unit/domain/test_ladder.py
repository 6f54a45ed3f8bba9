# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ways into a server are tried, and what it means when none leads in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.ladder import (
    CLOSED,
    CONTAINER,
    DOWN,
    FULL,
    GIVEN,
    HANGS,
    OPEN,
    REFUSED,
    RESCUE,
    SILENT,
    SOCKET,
    STARTING,
    UNASKED,
    UNREACHABLE,
    Attempt,
    Ground,
    Rung,
    Socket,
    ladder,
    state,
    worth_trying,
)

POSTGRES = Socket("/run/postgresql", "postgres", 109, 117)
LOCAL = Ground("local", "127.0.0.1", 5432, False, 0, (POSTGRES,), "/usr/bin/setpriv")
GIVEN_RUNG = Rung(GIVEN, "given")


@pytest.mark.parametrize(
    ("ground", "found"),
    [
        (LOCAL, ("/usr/bin/setpriv", "--reuid=109", "--regid=117", "--init-groups")),
        (replace(LOCAL, host=""), ("/usr/bin/setpriv", "--reuid=109", "--regid=117", "--init-groups")),
        (replace(LOCAL, host="/run/postgresql", switcher="/sbin/runuser"), ("/sbin/runuser", "-u", "postgres", "--")),
        (replace(LOCAL, uid=109, switcher=""), ()),
        (replace(LOCAL, uid=1000), "only root or postgres itself"),
        (replace(LOCAL, switcher=""), "neither setpriv nor runuser"),
        (replace(LOCAL, host="db.example.com"), "not on this host"),
        (replace(LOCAL, sockets=()), "no Unix socket of port 5432"),
    ],
)
def test_the_socket_is_a_way_for_root_and_for_the_servers_own_user(
    ground: Ground, found: tuple[str, ...] | str
) -> None:
    rung = ladder(ground)[-1]
    assert rung.kind == SOCKET
    if isinstance(found, str):
        assert found in rung.closed
    else:
        assert (rung.closed, rung.prefix, rung.folder, rung.user) == ("", found, "/run/postgresql", "postgres")


def test_the_ways_come_in_one_order_and_what_is_not_set_is_said() -> None:
    assert [(rung.kind, rung.closed) for rung in ladder(LOCAL)] == [(GIVEN, ""), (RESCUE, "not set"), (SOCKET, "")]
    docker = ladder(Ground("docker", "127.0.0.1", 5432, True, 0))
    assert [(rung.kind, rung.closed) for rung in docker] == [(GIVEN, ""), (RESCUE, ""), (CONTAINER, "")]


@pytest.mark.parametrize(
    ("kind", "codes", "tried"),
    [
        (SOCKET, ["no_free_connection"], True),
        (SOCKET, ["no_free_connection", "wrong_password"], True),
        (SOCKET, ["server_starting"], False),
        (RESCUE, ["session_timeout"], True),
        (CONTAINER, ["container_stopped"], False),
        (CONTAINER, ["no_free_connection"], True),
    ],
)
def test_a_way_is_tried_unless_what_was_met_closes_it_too(kind: str, codes: list[str], tried: bool) -> None:
    assert worth_trying(Rung(kind, ""), [Attempt(GIVEN_RUNG, code, "x") for code in codes]) is tried


def test_a_closed_way_is_not_tried() -> None:
    assert not worth_trying(Rung(SOCKET, "", closed="why"), [])


@pytest.mark.parametrize(
    ("codes", "port", "process", "found"),
    [
        (["server_starting"], OPEN, "S", STARTING),
        (["server_starting", "no_free_connection"], OPEN, "S", STARTING),
        (["no_free_connection", "no_free_connection"], OPEN, "S", FULL),
        (["no_free_connection", "login_refused"], OPEN, "S", FULL),
        (["wrong_password"], OPEN, "S", REFUSED),
        (["session_timeout"], OPEN, "T", HANGS),
        (["session_timeout"], OPEN, "", HANGS),
        (["session_timeout"], CLOSED, "T", HANGS),
        (["server_unreachable"], CLOSED, "", DOWN),
        (["server_unreachable"], SILENT, "", UNREACHABLE),
        (["container_stopped"], UNASKED, "", DOWN),
        (["docker_unreachable"], UNASKED, "", UNREACHABLE),
    ],
)
def test_what_a_server_is_that_lets_nobody_in(codes: list[str], port: str, process: str, found: str) -> None:
    assert state([Attempt(GIVEN_RUNG, code, "x") for code in codes], port, process) == found
