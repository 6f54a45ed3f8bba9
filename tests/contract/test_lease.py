# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease keeps its promises in a folder and on a real S3 server."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.lease import End, folder
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import TIDY_FROM, Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.tests.lab import s3
from ansible_collections.saasops.runbook.tests.lab.leases import NAME, ask

ROUNDS = 100
DAY = 86400.0
_prefixes = itertools.count(1)

# One controller: for each line "<start> <run>" it asks at that moment and says who it is to be answered; then, as
# the holder, it gives the lease back when told to.
CONTROLLER = """
import json, sys, time
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.leases import Leases
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.tests.lab.leases import NAME, ask

leases = Leases(open_store(json.loads(sys.argv[1])))
leases.status()
print("ready", flush=True)
for line in sys.stdin:
    word, run = line.split()
    if word == "release":
        print(leases.release(NAME, run, time.time()), flush=True)
        continue
    while time.time() < float(word):
        pass
    try:
        print("won", leases.acquire(ask(run), time.time()).token, flush=True)
    except OpsError as error:
        print(error.code, error.details.get("run", error.cause), flush=True)
"""


@pytest.fixture(scope="session")
def bucket(s3_server: s3.Server) -> str:
    return s3_server.create_bucket()


@pytest.fixture(params=["posix", "s3"])
def params(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """How an empty store is opened."""
    if request.param == "posix":
        root = tmp_path / "store"
        root.mkdir()
        return {"type": "posix", "path": str(root)}
    server: s3.Server = request.getfixturevalue("s3_server")
    return {
        "type": "s3",
        "bucket": request.getfixturevalue("bucket"),
        "prefix": f"lease-{next(_prefixes)}",
        "endpoint_url": server.endpoint,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
    }


@pytest.fixture
def opened(params: dict[str, object]) -> Callable[..., Leases]:
    """Opens the leases of one store again and again, as several runs do."""
    return lambda tolerance=60.0: Leases(open_store(params), tolerance)


@pytest.fixture
def leases(opened: Callable[..., Leases]) -> Leases:
    return opened()


def refusal(act: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        act()
    return caught.value


@contextmanager
def controller(params: dict[str, object], home: Path) -> Iterator[Callable[[str], list[str]]]:
    """A process with a home of its own; yields a function that sends it a line, or, given "", returns its answer."""
    home.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, json.dumps(params)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "HOME": str(home)},
    )
    sending, reading = process.stdin, process.stdout
    assert sending is not None
    assert reading is not None

    def say(text: str) -> list[str]:
        if text:
            sending.write(text + "\n")
            sending.flush()
            return []
        return reading.readline().split()

    try:
        assert say("") == ["ready"]
        yield say
    finally:
        process.kill()
        process.wait()
        sending.close()
        reading.close()


def test_of_two_controllers_that_start_together_exactly_one_wins_a_hundred_times(
    params: dict[str, object], leases: Leases, tmp_path: Path
) -> None:
    tokens: list[int] = []
    winners: set[int] = set()
    with ExitStack() as stack:
        both = [stack.enter_context(controller(params, tmp_path / f"home-{number}")) for number in range(2)]
        for number in range(ROUNDS):
            start = time.time() + 0.005
            runs = [f"run-{number}-of-{which}" for which in range(2)]
            for say, run in zip(both, runs):
                say(f"{start} {run}")
            answers = [say("") for say in both]
            assert sorted(words[0] for words in answers) == ["lease_held", "won"], answers
            winner = [words[0] for words in answers].index("won")
            assert answers[1 - winner][1] == runs[winner], "the loser is told who won"
            winners.add(winner)
            tokens.append(int(answers[winner][1]))
            if number % 10 == 0:
                lease = leases.look(NAME).lease
                assert lease is not None
                assert (lease.run, lease.token) == (runs[winner], tokens[-1])
            both[winner](f"release {runs[winner]}")
            assert both[winner]("") == ["True"]
    assert len(tokens) == ROUNDS
    assert tokens == sorted(set(tokens)), "a token is never given twice and only grows"
    assert winners == {0, 1}, "it was a race"


def test_a_run_gets_its_own_lease_again_with_the_same_token(opened: Callable[..., Leases]) -> None:
    first = opened().acquire(ask("r1"), 0.0)
    again = opened().acquire(ask("r1", token=first.token), 5.0)
    assert again.token == first.token
    assert again.number > first.number
    assert opened().confirm(NAME, "r1", first.token, "db1").token == first.token


def test_another_run_is_told_who_holds_it_since_when_until_when_and_both_ways_on(leases: Leases) -> None:
    now = time.time()
    leases.acquire(ask("r1"), now - 750)
    error = refusal(lambda: leases.acquire(ask("r2"), now))
    assert error.code == "lease_held"
    for part in ("anna on ctl-1", "restore", "run r1", "since 12 min", "a reason"):
        assert part in error.cause
    for part in ("Wait", "unlock -e lease='database:app' -e \"reason="):
        assert part in error.remedy
    # 30 minutes and the tolerance, less what the test itself took
    assert re.search(r"in (31 min|30 min 5\d s) ", error.remedy)
    assert error.details["holder"] == dict(vars(ask("r1").holder))


def test_whoever_waits_gets_it_when_the_holder_gives_it_back(opened: Callable[..., Leases]) -> None:
    leases = opened()
    leases.acquire(ask("r1"), 0.0)
    timer = threading.Timer(1.0, lambda: opened().release(NAME, "r1", 0.0))
    timer.start()
    began = time.monotonic()
    got = opened().acquire(ask("r2"), 0.0, wait_seconds=10.0)
    assert 0.5 < time.monotonic() - began < 8
    timer.join()
    assert got.run == "r2"
    assert [info.key for info in leases.store.list(folder(NAME)) if "clock" in info.key] == []


def test_the_wait_ends_after_the_time_given(leases: Leases) -> None:
    leases.acquire(ask("r1"), 0.0)
    began = time.monotonic()
    assert refusal(lambda: leases.acquire(ask("r2"), 0.0, wait_seconds=1.0)).code == "lease_held"
    assert 1.0 <= time.monotonic() - began < 5


def test_the_lease_is_free_when_every_host_has_left(leases: Leases) -> None:
    hosts = ("a", "b")
    leases.acquire(ask("r1", "a", hosts=hosts), 0.0)
    assert leases.leave(NAME, "r1", "a", 1.0)
    assert not leases.leave(NAME, "r1", "a", 1.0), "leaving twice is nothing new"
    assert not leases.leave(NAME, "r2", "b", 1.0), "another run cannot leave for it"
    assert refusal(lambda: leases.acquire(ask("r2"), 0.0)).code == "lease_held"
    assert leases.leave(NAME, "r1", "b", 1.0)
    assert leases.acquire(ask("r2"), 0.0).run == "r2"


def test_a_host_that_left_comes_in_again(leases: Leases) -> None:
    hosts = ("a", "b")
    token = leases.acquire(ask("r1", "a", hosts=hosts), 0.0).token
    leases.leave(NAME, "r1", "a", 1.0)
    assert refusal(lambda: leases.confirm(NAME, "r1", token, "a")).code == "lease_lost"
    assert leases.acquire(ask("r1", "a", hosts=hosts, token=token), 2.0).token == token
    leases.leave(NAME, "r1", "b", 3.0)
    assert leases.look(NAME).hosts == ["a"]
    assert leases.confirm(NAME, "r1", token, "a").token == token


@pytest.mark.parametrize("ahead", [-DAY, -60.0, 60.0, DAY])
def test_a_controller_whose_clock_is_wrong_takes_no_living_lease_and_is_taken_none(
    opened: Callable[..., Leases], ahead: float
) -> None:
    now = time.time()
    token = opened().acquire(ask("r1"), now).token
    assert refusal(lambda: opened().acquire(ask("r2"), now + ahead)).code == "lease_held"
    assert opened().confirm(NAME, "r1", token, "db1").run == "r1"
    opened().release(NAME, "r1", now)
    opened().acquire(ask("r2"), now + ahead)
    assert refusal(lambda: opened().acquire(ask("r3"), now)).code == "lease_held"


def test_a_lease_that_nobody_renewed_is_taken_when_it_expired_and_its_holder_finds_out(
    opened: Callable[..., Leases],
) -> None:
    token = opened().acquire(ask("r1", ttl=1), time.time()).token
    assert refusal(lambda: opened(1.0).acquire(ask("r2"), time.time())).code == "lease_held"
    time.sleep(3.2)
    assert refusal(lambda: opened(60.0).acquire(ask("r2"), time.time())).code == "lease_held", "the tolerance counts"
    taken = opened(1.0).acquire(ask("r2"), time.time())
    assert (taken.took_over, taken.took_over_why) == ("r1", "expired")
    assert taken.token > token
    error = refusal(lambda: opened().confirm(NAME, "r1", token, "db1"))
    assert error.code == "lease_lost"
    assert "run r2 of anna took it over (expired)" in error.cause
    assert refusal(lambda: opened().acquire(ask("r1", token=token), time.time())).code == "lease_lost"


def test_a_lease_that_expired_and_that_nobody_took_is_still_its_holders(opened: Callable[..., Leases]) -> None:
    token = opened(0.0).acquire(ask("r1", ttl=4), time.time()).token
    time.sleep(5.2)
    assert opened(0.0).confirm(NAME, "r1", token, "db1").token == token
    assert refusal(lambda: opened(0.0).acquire(ask("r2"), time.time())).code == "lease_held"


def test_the_lease_of_a_run_that_is_proven_dead_is_taken_at_once(leases: Leases) -> None:
    leases.acquire(ask("r1"), 0.0)
    assert refusal(lambda: leases.acquire(ask("r2", dead=frozenset({"r0"})), 0.0)).code == "lease_held"
    taken = leases.acquire(ask("r2", dead=frozenset({"r1"})), 0.0)
    assert (taken.took_over, taken.took_over_why) == ("r1", "dead")


def test_unlock_ends_it_and_its_holder_is_told_who_and_why(leases: Leases) -> None:
    token = leases.acquire(ask("r1"), 0.0).token
    leases.unlock(NAME, token, End("unlocked", "bert", "the controller burned", 5.0))
    leases.unlock(NAME, token, End("unlocked", "carl", "too late", 6.0))
    error = refusal(lambda: leases.confirm(NAME, "r1", token, "db1"))
    assert error.code == "lease_lost"
    assert "unlocked by bert: the controller burned" in error.cause
    assert refusal(lambda: leases.acquire(ask("r1"), 0.0)).code == "lease_lost", "it does not get it again"
    assert leases.acquire(ask("r2"), 0.0).took_over == ""


def test_old_records_are_tidied_and_the_token_still_grows(leases: Leases) -> None:
    tokens = []
    for number in range(TIDY_FROM):
        tokens.append(leases.acquire(ask(f"r{number}"), 0.0).token)
        leases.acquire(ask(f"r{number}"), 0.0)
        leases.leave(NAME, f"r{number}", "db1", 0.0)
    assert tokens == sorted(set(tokens))
    assert len(leases.store.list(folder(NAME))) < 2 * TIDY_FROM
    assert refusal(lambda: leases.confirm(NAME, "r0", tokens[0], "db1")).code == "lease_lost"


def test_many_hosts_of_one_run_come_in_at_the_same_time(opened: Callable[..., Leases]) -> None:
    hosts = [f"host {number}/ä" for number in range(5)]
    with ThreadPoolExecutor(len(hosts)) as pool:
        got = list(pool.map(lambda host: opened().acquire(ask("r1", host), 0.0), hosts))
    assert len({lease.token for lease in got}) == 1
    view = opened().look(NAME)
    assert sorted(view.hosts) == sorted(hosts)
    for host in hosts:
        assert opened().leave(NAME, "r1", host, 0.0)
    assert opened().look(NAME).state() == "left"


def test_status_shows_every_lease_and_does_not_write(leases: Leases) -> None:
    assert leases.status() == ([], [])
    names = ("system", "database:app", "database:größe/1", "." + "x" * 300)
    for name in names:
        leases.acquire(ask("r1", name=name), 0.0)
    leases.store.put(folder("broken") + "0000000001.json", [b"{"])
    before = leases.store.list("")
    views, bad = leases.status()
    assert [view.name for view in views] == sorted(names)
    assert {view.state() for view in views} == {"held"}
    assert [error.details["lease"] for error in bad] == ["broken"]
    assert leases.store.list("") == before


def test_a_record_that_cannot_be_read_holds_until_it_is_unlocked(leases: Leases) -> None:
    leases.acquire(ask("r1"), 0.0)
    leases.store.put(folder(NAME) + "0000000002.json", [b'{"format": 1}'])
    assert refusal(lambda: leases.acquire(ask("r2"), 0.0)).code == "lease_unreadable"
    leases.unlock(NAME, leases.newest(NAME), End("unlocked", "bert", "somebody edited it", 0.0))
    assert leases.acquire(ask("r2"), 0.0).token == 3
