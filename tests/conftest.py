# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers for the tests, started when the first test asks for one and ended with the session."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from ansible_collections.saasops.runbook.tests.lab import (
    alertmanager,
    demo,
    postgres,
    prometheus,
    redis_server,
    s3,
    sshd,
)
from ansible_collections.saasops.runbook.tests.lab.binaries import VERSIONS

pytest_plugins = ["ansible_collections.saasops.runbook.tests.lab.docker_fixtures"]

# how long an example takes says how busy the machine is; what hangs is ended by pytest-timeout
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_names = itertools.count(1)

# data of the copies that tests get, in megabytes
DEMO_MEGABYTES = 5


@pytest.fixture(scope="session")
def server15() -> Iterator[postgres.Server]:
    with postgres.running(15) as server:
        yield server


@pytest.fixture(scope="session")
def server17() -> Iterator[postgres.Server]:
    with postgres.running(17) as server:
        yield server


@pytest.fixture(scope="session")
def server18() -> Iterator[postgres.Server]:
    with postgres.running(18) as server:
        yield server


@pytest.fixture(scope="session", params=VERSIONS, ids=[f"pg{version}" for version in VERSIONS])
def server(request: pytest.FixtureRequest) -> postgres.Server:
    """Each supported server in turn; `parametrize("server", [18], indirect=True)` asks for one alone."""
    found: postgres.Server = request.getfixturevalue(f"server{request.param}")
    return found


@pytest.fixture
def database(server: postgres.Server) -> Iterator[str]:
    """The name of a new empty database on `server`, dropped afterwards."""
    name = f"test_{next(_names)}"
    server.createdb(name)
    yield name
    server.dropdb(name)


@pytest.fixture(scope="session")
def demo_template(server: postgres.Server) -> Iterator[str]:
    """The name of a small `demo` system on `server`, for tests that only read and leave no session behind."""
    demo.create(server, "demo_template", parameters=demo.Parameters(DEMO_MEGABYTES))
    yield "demo_template"
    server.dropdb("demo_template")


@pytest.fixture
def demo_database(server: postgres.Server, demo_template: str) -> Iterator[str]:
    """The name of a small `demo` system of the test's own, settings and ACL included, dropped afterwards."""
    name = f"demo_{next(_names)}"
    server.createdb(name, template=demo_template)
    # CREATE DATABASE ... TEMPLATE copies neither ACL nor settings
    demo.apply_database_settings(server, name)
    yield name
    server.dropdb(name)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.Server]:
    """A real S3 server with one bucket-creating key pair."""
    with s3.running() as server:
        yield server


@pytest.fixture(scope="session")
def ssh_server() -> Iterator[sshd.Server]:
    """A real OpenSSH server that lets one key in."""
    with sshd.running() as server:
        yield server


@pytest.fixture(scope="session")
def _alertmanager() -> Iterator[alertmanager.Server]:
    with alertmanager.running() as server:
        yield server


@pytest.fixture
def alerts(_alertmanager: alertmanager.Server) -> Iterator[alertmanager.Server]:
    """A real Alertmanager without any silence."""
    yield _alertmanager
    _alertmanager.clear()


@pytest.fixture(scope="session")
def prometheus_server() -> Iterator[prometheus.Server]:
    """A real Prometheus that scrapes one exporter of ours every second."""
    with prometheus.running() as server:
        yield server


@pytest.fixture(scope="session")
def redis_lab() -> Iterator[redis_server.Server]:
    """A real Redis server with a password."""
    with redis_server.running() as server:
        yield server
