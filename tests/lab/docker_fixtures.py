# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker for the tests: started when the first test asks for it, ended with the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.tests.lab import docker


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[None]:
    with docker.engine():
        yield


@pytest.fixture(scope="session")
def docker_postgres(docker_engine: None) -> Iterator[docker.PostgresContainer]:
    """PostgreSQL 15 in a container; with a small disk of 8 MB mounted at /small."""
    with docker.postgres_container(options=["--tmpfs=/small:size=8m,mode=1777"]) as container:
        yield container
