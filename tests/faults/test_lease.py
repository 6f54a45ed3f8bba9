# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease when the store goes away in the middle, when its holder is killed, and when somebody unlocks it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import End
from ansible_collections.saasops.runbook.plugins.module_utils.process import is_dead
from ansible_collections.saasops.runbook.plugins.module_utils.store.lease_keeper import keeping
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.http_proxy import HttpProxy, Rule
from ansible_collections.saasops.runbook.tests.lab.leases import NAME, ask

HOLDER = """
import sys, time
from dataclasses import replace
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import Holder
from ansible_collections.saasops.runbook.plugins.module_utils.process import identify
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.tests.lab.leases import ask

me = Holder(operator="anna", **vars(identify()))
Leases(PosixStore(sys.argv[1])).acquire(replace(ask("r1"), holder=me), time.time())
print("holding", flush=True)
time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def proxy(s3_server: s3.Server) -> Iterator[HttpProxy]:
    with HttpProxy(s3_server.port) as running:
        yield running


@pytest.fixture
def through(s3_server: s3.Server, proxy: HttpProxy) -> Leases:
    """Leases in an empty bucket behind the proxy; nothing is sent twice by the client itself."""
    leases = Leases(
        open_store(
            {
                "type": "s3",
                "bucket": s3_server.create_bucket(),
                "endpoint_url": proxy.endpoint,
                "access_key": s3_server.access_key,
                "secret_key": s3_server.secret_key,
                "retries": 1,
            }
        )
    )
    leases.store.check(write=True)
    return leases


def code(act: Callable[[], object]) -> str:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value.code


def test_a_lease_whose_answer_was_lost_is_found_to_be_taken(through: Leases, proxy: HttpProxy) -> None:
    rule = Rule("lose", method="PUT", contains="0000000001.json", times=1)
    proxy.rules.append(rule)
    lease = through.acquire(ask("r1"), time.time())
    assert rule.hits == 1
    assert (lease.number, lease.token) == (1, 1)
    assert through.look(NAME).number == 1


def test_a_lease_that_the_store_never_heard_of_is_written_again(through: Leases, proxy: HttpProxy) -> None:
    rule = Rule("status", method="PUT", contains="0000000001.json", times=1)
    proxy.rules.append(rule)
    assert through.acquire(ask("r1"), time.time()).token == 1
    assert rule.hits == 1


def test_a_store_that_takes_no_record_gives_no_lease(through: Leases, proxy: HttpProxy) -> None:
    proxy.rules.append(Rule("status", method="PUT", contains="0000000001.json"))
    assert code(lambda: through.acquire(ask("r1"), time.time())) == "store_unreachable"
    proxy.rules.clear()
    assert through.look(NAME).state() == "free"


def test_a_store_that_went_away_with_the_answer_leaves_a_lease_that_its_own_run_finds_again(
    through: Leases, proxy: HttpProxy
) -> None:
    proxy.rules.append(Rule("lose", method="PUT", contains="0000000001.json"))
    first_look = Rule("before", method="GET", times=1)
    proxy.rules += [first_look, Rule("status", method="GET")]
    assert code(lambda: through.acquire(ask("r1"), time.time())) == "store_unreachable"
    assert first_look.hits == 1
    proxy.rules.clear()
    assert code(lambda: through.acquire(ask("r2"), time.time())) == "lease_held"
    assert through.acquire(ask("r1"), time.time()).token == 1


@pytest.mark.parametrize("kind", ["lose", "status"])
def test_a_renewal_whose_outcome_is_unknown_is_decided_by_reading_again(
    through: Leases, proxy: HttpProxy, kind: str
) -> None:
    token = through.acquire(ask("r1"), time.time()).token
    rule = Rule(kind, method="PUT", contains="0000000002.json", times=1)
    proxy.rules.append(rule)
    assert through.confirm(NAME, "r1", token, "db1").number == 2
    assert rule.hits == 1
    assert through.look(NAME).number == 2


def test_a_renewal_that_cannot_be_written_proves_nothing(through: Leases, proxy: HttpProxy) -> None:
    token = through.acquire(ask("r1"), time.time()).token
    proxy.rules.append(Rule("status", method="PUT"))
    assert code(lambda: through.confirm(NAME, "r1", token, "db1")) == "store_unreachable"


def test_a_folder_that_is_not_mounted_any_more_proves_nothing(root: Path) -> None:
    leases = Leases(PosixStore(str(root)))
    token = leases.acquire(ask("r1"), time.time()).token
    root.rename(root.parent / "elsewhere")
    assert code(lambda: leases.confirm(NAME, "r1", token, "db1")) == "store_missing"
    assert code(lambda: leases.acquire(ask("r2"), time.time())) == "store_missing"


def test_the_lease_of_a_killed_holder_is_taken_at_once_on_the_same_machine_and_not_before(root: Path) -> None:
    leases = Leases(PosixStore(str(root)))

    def holder_is_dead() -> bool:
        with pytest.raises(OpsError) as caught:
            leases.acquire(ask("r2"), time.time())
        holder = caught.value.details["holder"]
        assert isinstance(holder, dict)
        return is_dead(holder)

    with subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, encoding="utf-8") as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "holding\n"
        assert not holder_is_dead()
        held.kill()
        held.wait()
    assert holder_is_dead()
    assert code(lambda: leases.acquire(ask("r2"), time.time())) == "lease_held", "by itself it proves nothing"
    assert leases.acquire(ask("r2", dead=frozenset({"r1"})), time.time()).took_over == "r1"


def test_long_work_keeps_its_lease_far_longer_than_the_ttl(root: Path) -> None:
    leases = Leases(PosixStore(str(root)), tolerance=0.5)
    token = leases.acquire(ask("r1", ttl=2), time.time()).token
    with keeping(leases, NAME, "r1", token, "db1") as keeper:
        for _second in range(5):
            time.sleep(1)
            assert code(lambda: leases.acquire(ask("r2"), time.time())) == "lease_held"
        keeper.confirm()
    time.sleep(3)
    assert leases.acquire(ask("r2"), time.time()).took_over_why == "expired"


def test_unlock_while_the_holder_works_stops_it_before_its_next_point_of_no_return(root: Path) -> None:
    leases = Leases(PosixStore(str(root)))
    token = leases.acquire(ask("r1", ttl=3), time.time()).token
    with keeping(Leases(PosixStore(str(root))), NAME, "r1", token, "db1") as keeper:
        keeper.check()
        leases.unlock(NAME, token, End("unlocked", "bert", "it hangs", time.time()))
        assert code(keeper.confirm) == "lease_lost"

        def go_on() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                keeper.check()
                time.sleep(0.05)

        assert code(go_on) == "lease_lost"
    assert leases.acquire(ask("r2"), time.time()).run == "r2"
