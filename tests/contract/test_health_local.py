# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources command, file and redis against the real thing, and what hangs."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.file import open_file
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group, Measured, gather
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options
from ansible_collections.saasops.runbook.tests.lab import redis_server
from ansible_collections.saasops.runbook.tests.lab.health import checks_of, measure, one, silent
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("command", "critical", "level", "value"),
    [
        ({"argv": ["/bin/true"]}, "", "ok", 0),
        ({"argv": ["/bin/false"]}, "", "critical", 1),
        ({"argv": python("raise SystemExit(3)")}, "== 3", "critical", 3),
        ({"argv": ["echo", "load 0.5 of 8"], "value": "number"}, "> 1", "ok", 0.5),
        ({"argv": ["echo", "used 93% of 100"], "pattern": r"of (\d+)"}, "> 90", "critical", 100),
        ({"argv": ["echo", "online"], "value": "text"}, "!= 'online'", "ok", "online"),
        (
            {"argv": ["echo", '[{"pm2_env": {"status": "errored"}}]'], "json": "[0].pm2_env.status"},
            "!= 'online'",
            "critical",
            "errored",
        ),
        ({"argv": ["pwd"], "value": "text", "chdir": "/"}, "!= '/'", "ok", "/"),
        # no shell: what a shell would do stays text
        ({"argv": ["echo", "$(id)", ";", "|"], "value": "text"}, "!= '$(id) ; |'", "ok", "$(id) ; |"),
    ],
)
def test_a_program_gives_its_exit_code_a_number_a_text_or_a_field(
    command: dict[str, object], critical: str, level: str, value: object
) -> None:
    found = one({"command": command, "critical": critical})
    assert (found["level"], found["value"]) == (level, value)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ({"argv": ["/no/such/program"]}, "cannot be started: No such file"),
        ({"argv": ["/etc/passwd"]}, "cannot be started: Permission denied"),
        ({"argv": ["echo", "nothing"], "value": "number"}, "wrote no number"),
        ({"argv": python("print(5); raise SystemExit(2)"), "value": "number"}, "failed with exit code 2"),
        ({"argv": ["echo", "x"], "pattern": "(x)"}, "'x' is no number"),
        ({"argv": ["echo", "<xml>"], "json": "a"}, "no JSON"),
        ({"argv": python("import os; os.kill(os.getpid(), 9)")}, "ended by signal 9"),
        ({"argv": python("print('9' * 9_000_000)"), "value": "number"}, "more than 262144 bytes"),
        ({"argv": ["sleep", "60"]}, "did not end within 1 s"),
        ({"argv": ["sh", "-c", "sleep 61 & sleep 61"]}, "did not end within 1 s"),
    ],
)
def test_a_program_that_tells_nothing_is_inconclusive_in_time(command: dict[str, object], why: str) -> None:
    began = time.monotonic()
    found = one({"command": command, "timeout": 1, "critical": "> 100"})
    assert time.monotonic() - began < 4
    assert found["level"] == "inconclusive"
    assert why in str(found["why"])


def test_what_a_program_started_ends_with_it() -> None:
    marker = f"6{os.getpid()}"
    one({"command": {"argv": ["sh", "-c", f"sleep {marker} & sleep {marker}"]}, "timeout": 0.5})
    # what is killed in a group ends a moment after its leader
    deadline = time.monotonic() + 10
    look = ["ps", "-eo", "args"]
    while f"sleep {marker}" in subprocess.run(look, capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < deadline, "it runs on"
        time.sleep(0.05)


def test_a_daemon_that_keeps_the_output_open_does_not_hold_us() -> None:
    began = time.monotonic()
    found = one({"command": {"argv": python("import os, time\nif os.fork() == 0:\n os.setsid(); time.sleep(9)")}})
    assert time.monotonic() - began < 5
    assert found["level"] == "ok"


@pytest.mark.parametrize(
    "command",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": ["x"], "pattern": "("},
        {"argv": ["x"], "pattern": "x"},
        {"argv": ["x"], "json": "["},
    ],
)
def test_a_command_that_cannot_be_read_is_refused(command: dict[str, object]) -> None:
    with pytest.raises(OpsError) as refused:
        one({"command": command})
    assert refused.value.code == "bad_check"


def test_the_age_and_size_of_a_file_in_the_unit_of_the_check(tmp_path: Path) -> None:
    old, new = tmp_path / "a-1.dump", tmp_path / "a-2.dump"
    for file, age in ((old, 90_000), (new, 7_200)):
        file.write_bytes(b"x" * 3000)
        os.utime(file, (time.time() - age,) * 2)
    found = checks_of(
        measure(
            {"name": "age", "file": {"path": str(old)}, "unit": "h", "warning": "> 24 h", "critical": "> 48 h"},
            {"name": "newest", "file": {"path": f"{tmp_path}/*.dump"}, "warning": "> 24 h"},
            {"name": "size", "file": {"path": str(old), "measure": "size"}, "critical": "< 3000"},
            {"name": "small", "file": {"path": str(old), "measure": "size"}, "critical": "< 3 KiB"},
            {"name": "kilo", "file": {"path": str(old), "measure": "size"}, "unit": "kB", "critical": "< 3"},
        )
    )
    assert {name: item["level"] for name, item in found.items()} == {
        "age": "warning",
        "newest": "ok",
        "size": "ok",
        "small": "critical",
        "kilo": "ok",
    }
    assert found["age"]["value"] == pytest.approx(25, abs=0.1)
    assert found["size"]["value"] == 3000


def test_a_missing_file_is_critical_unless_the_check_says_otherwise(tmp_path: Path) -> None:
    found = checks_of(
        measure(
            {"name": "gone", "file": {"path": f"{tmp_path}/gone"}, "warning": "> 1 h"},
            {"name": "nomatch", "file": {"path": f"{tmp_path}/*.dump"}, "warning": "> 1 h"},
            {"name": "nofolder", "file": {"path": f"{tmp_path}/no/*.dump"}, "warning": "> 1 h", "when_down": "warning"},
            {"name": "folder", "file": {"path": str(tmp_path)}, "warning": "> 1 h"},
        )
    )
    assert {name: item["level"] for name, item in found.items()} == {
        "gone": "critical",
        "nomatch": "critical",
        "nofolder": "warning",
        "folder": "inconclusive",
    }


def test_a_folder_that_may_not_be_read_is_inconclusive_not_empty(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    check = Check("x", "file")
    group = open_file(check, Options("x", {"path": f"{tmp_path}/closed/*.dump"}, 5))
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        seen = [measurement for _name, measurements in group.run() for measurement in measurements]
    finally:
        os.seteuid(0)
    assert "Permission denied" in seen[0].missing
    assert not seen[0].down


@pytest.fixture
def redis(redis_lab: redis_server.Server) -> Iterator[dict[str, object]]:
    """The options of a check of the lab's Redis."""
    yield {"host": "127.0.0.1", "port": redis_lab.port, "password": redis_lab.password}
    redis_lab.cli("FLUSHALL")


def test_redis_answers_and_its_queues_are_counted(redis_lab: redis_server.Server, redis: dict[str, object]) -> None:
    redis_lab.cli("RPUSH", "bull:mail:wait", *map(str, range(12)))
    redis_lab.cli("ZADD", "bull:mail:failed", "1", "a", "2", "b")
    redis_lab.cli("SET", "word", "x")
    found = checks_of(
        measure(
            {"name": "ping", "redis": redis, "warning": "> 1 s"},
            {"name": "waiting", "redis": {**redis, "llen": "bull:mail:wait"}, "warning": "> 10", "critical": "> 12"},
            {"name": "failed", "redis": {**redis, "zcard": "bull:mail:failed"}, "critical": "> 1"},
            {"name": "none", "redis": {**redis, "llen": "no:such:key"}, "critical": "> 1"},
            {"name": "memory", "redis": {**redis, "info": "used_memory"}, "unit": "B", "critical": "< 1 kB"},
            {"name": "role", "redis": {**redis, "info": "role"}, "critical": "!= 'master'"},
            {"name": "nofield", "redis": {**redis, "info": "no_such_field"}, "critical": "> 1"},
            {"name": "wrongtype", "redis": {**redis, "llen": "word"}, "critical": "> 1"},
            {"name": "socket", "redis": {**redis, "unix_socket": f"{redis_lab.folder}/s"}, "critical": "> 5 s"},
        )
    )
    assert {name: item["level"] for name, item in found.items()} == {
        "ping": "ok",
        "waiting": "warning",
        "failed": "critical",
        "none": "ok",
        "memory": "ok",
        "role": "ok",
        "nofield": "inconclusive",
        "wrongtype": "inconclusive",
        "socket": "ok",
    }
    assert found["waiting"]["value"] == int(redis_lab.cli("LLEN", "bull:mail:wait")) == 12


def test_a_redis_that_refuses_or_is_not_there_is_no_ok(redis: dict[str, object]) -> None:
    with silent() as port:
        result = measure(
            {"name": "password", "redis": {**redis, "password": "wrong secret"}, "when_down": "critical"},
            {"name": "nobody", "redis": {**redis, "password": None}, "when_down": "critical"},
            {"name": "refused", "redis": {**redis, "port": free_port()}, "when_down": "critical"},
            {"name": "hangs", "redis": {**redis, "port": port}, "timeout": 1, "when_down": "critical"},
        )
    assert {name: item["level"] for name, item in checks_of(result).items()} == {
        "password": "inconclusive",
        "nobody": "inconclusive",
        "refused": "critical",
        "hangs": "critical",
    }
    assert "secret" not in str(result.evidence)


def slow(name: str, seconds: float) -> Iterator[Measured]:
    time.sleep(seconds)
    yield name, [Measurement(1)]


def test_what_hangs_in_a_thread_is_left_behind_and_the_rest_is_measured() -> None:
    def half() -> Iterator[Measured]:
        yield "first", [Measurement(1)]
        time.sleep(30)
        yield "second", [Measurement(1)]

    def broken() -> Iterator[Measured]:
        yield "broken", [Measurement(1 // 0)]

    began = time.monotonic()
    found = gather(
        [
            Group({"first": 2, "second": 2, "third": 2}, half),
            Group({"fast": 1}, lambda: slow("fast", 0)),
            Group({"broken": 1}, broken),
        ],
        20,
    )
    assert time.monotonic() - began < 20
    why = {name: measurements[0].missing for name, measurements in found.items()}
    assert why["first"] == why["fast"] == ""
    assert why["second"] == "no answer within 2 s"
    assert why["third"] == "not measured, because second did not answer before it"
    assert "ZeroDivisionError" in why["broken"]


def test_all_together_are_bounded_and_hanging_ones_do_not_keep_others_from_their_turn() -> None:
    hanging = [Group({f"h{n}": 0.1}, lambda n=n: slow(f"h{n}", 60)) for n in range(8)]  # type: ignore[misc]
    found = gather([*hanging, Group({"late": 10}, lambda: slow("late", 0))], 20)
    assert found["late"][0].value == 1
    began = time.monotonic()
    found = gather([Group({"x": 50}, lambda: slow("x", 60))], 0.5)
    assert time.monotonic() - began < 20
    assert "limit of all checks" in found["x"][0].missing
