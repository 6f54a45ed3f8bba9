# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every transport promises; each far side is also looked at without our transport."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import FileFact, Transport
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport
from ansible_collections.saasops.runbook.tests.lab import disk
from ansible_collections.saasops.runbook.tests.lab.docker import PostgresContainer

EVERY_BYTE = bytes(range(256)) * 300 + bytes(reversed(range(256)))
AWKWARD = [
    "",
    " ",
    "a b",
    "it's",
    '"q"',
    "$HOME `id` $(id)",
    "back\\slash",
    "new\nline",
    "-n",
    "--",
    "é日本🎙",
    ";|&><*?[]{}~#!%",
    "\x01\x7f",
]


@dataclass
class Far:
    """A far side: the transport, a program run there without it, a folder there, a full disk there (8 MB)."""

    transport: Transport
    shell: Callable[..., str]
    folder: str
    small: str


def _here(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, encoding="utf-8", check=False).stdout.strip()


@pytest.fixture(scope="module", params=["local", "docker"])
def far_side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    if request.param == "local":
        with disk.small(8) as small:
            yield Far(LocalTransport(), _here, str(tmp_path_factory.mktemp("far")), str(small))
        return
    container: PostgresContainer = request.getfixturevalue("docker_postgres")
    user = "root" if request.param == "docker-root" else "postgres"

    def inside(*argv: str) -> str:
        with contextlib.suppress(OpsError):
            return container.run(*argv, user=user)
        return ""

    folder = f"/tmp/far-{user}"
    container.run("mkdir", "-p", folder, user=user)
    yield Far(container.transport(user), inside, folder, "/small")
    container.run("rm", "-rf", folder, user=user)


@pytest.fixture
def far(far_side: Far) -> Iterator[Far]:
    """A folder of its own for each test."""
    folder = f"{far_side.folder}/{os.urandom(4).hex()}"
    far_side.shell("mkdir", folder)
    yield Far(far_side.transport, far_side.shell, folder, far_side.small)
    far_side.shell("rm", "-rf", folder)


def _wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_exit_code_and_both_outputs_come_back(far: Far) -> None:
    done = far.transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_an_output_without_a_newline_or_none_at_all_is_exact(far: Far) -> None:
    assert far.transport.run(["printf", "x"]).stdout == b"x"
    assert far.transport.run(["true"]).stdout == b""


@pytest.mark.parametrize("code", [0, 1, 2, 125, 126, 127, 137, 255])
def test_a_programs_own_exit_code_is_returned_not_raised(far: Far, code: int) -> None:
    assert far.transport.run(["sh", "-c", 'exit "$0"', str(code)]).code == code


def test_arguments_arrive_one_by_one_and_unchanged(far: Far) -> None:
    done = far.transport.run(["sh", "-c", 'for a; do printf "%s\\0" "$a"; done', "sh", *AWKWARD])
    assert done.stdout.decode().split("\0")[:-1] == AWKWARD


def test_the_environment_arrives_unchanged(far: Far) -> None:
    env = {f"SAASOPS_TEST_{number}": value for number, value in enumerate(AWKWARD)}
    for name, value in env.items():
        assert far.transport.run(["sh", "-c", f'printf "%s" "${name}"'], env=env).stdout.decode() == value


def test_every_byte_goes_there_and_back(far: Far) -> None:
    done = far.transport.run(["cat"], stdin=EVERY_BYTE)
    assert done.stdout == EVERY_BYTE
    far_sum = far.transport.run(["sha256sum"], stdin=EVERY_BYTE).stdout.split()[0].decode()
    assert far_sum == hashlib.sha256(EVERY_BYTE).hexdigest()


def test_every_byte_comes_on_stderr(far: Far) -> None:
    assert far.transport.run(["sh", "-c", "cat >&2"], stdin=bytes(range(256))).stderr == bytes(range(256))


def test_a_stream_of_thirty_megabytes_goes_there_and_back(far: Far) -> None:
    data = os.urandom(1 << 20) * 30
    done = far.transport.run(["cat"], stdin=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_there_is_no_terminal_and_no_input_unless_given(far: Far) -> None:
    assert far.transport.run(["sh", "-c", "test -t 0 || test -t 1 || test -t 2"]).code == 1
    assert far.transport.run(["cat"], timeout=20).stdout == b""


def test_a_program_that_does_not_read_its_input_is_no_error(far: Far) -> None:
    assert far.transport.run(["true"], stdin=b"x" * 3_000_000, timeout=30).code == 0


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/etc/passwd", "/etc"])
def test_a_missing_program_is_named(far: Far, program: str) -> None:
    with pytest.raises(OpsError) as caught:
        far.transport.run([program, "--version"])
    assert caught.value.code == "tool_missing"
    assert Path(program).name in caught.value.cause


def test_a_program_that_hangs_is_ended_on_both_sides(far: Far) -> None:
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        far.transport.run(["sleep", "987"], timeout=1.0)
    assert time.monotonic() - started < 15
    assert _wait_until(lambda: "sleep 987" not in far.shell("ps", "-o", "args"))


def test_a_started_program_converses(far: Far) -> None:
    process = far.transport.start(["cat"], stdin=True)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in (b"one\n", b"two\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline() == line
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait(10) == 0


def test_waiting_has_a_limit_and_then_goes_on(far: Far) -> None:
    process = far.transport.start(["sh", "-c", "sleep 1; echo late >&2; exit 4"], stdout=False)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert process.wait(20) == 4
    assert process.stderr_text() == "late\n"
    process.kill()


def test_a_long_stderr_keeps_its_end(far: Far) -> None:
    process = far.transport.start(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x >&2; echo end >&2"], stdout=False)
    assert process.wait(20) == 0
    assert process.stderr_text().endswith("xxxend\n")
    assert len(process.stderr_text()) <= 64 * 1024


def test_a_killed_program_ends_on_the_far_side_with_its_children(far: Far) -> None:
    process = far.transport.start(["sh", "-c", "sleep 986 & sleep 985"])
    assert _wait_until(lambda: "sleep 985" in far.shell("ps", "-o", "args"))
    process.kill()
    process.kill()
    assert _wait_until(lambda: "sleep 98" not in far.shell("ps", "-o", "args"))


def test_output_that_was_not_read_before_the_wait_is_not_lost(far: Far) -> None:
    process = far.transport.start(["echo", "hello"])
    assert process.wait(10) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b"hello\n"


def test_a_secret_is_a_private_file_for_as_long_as_it_is_needed(far: Far) -> None:
    secret = "*:*:*:*:pass\\:word ü '\"\n"
    with far.transport.secret_file(secret) as path:
        assert far.shell("stat", "-L", "-c", "%a", path) == "600"
        assert far.transport.run(["cat", path]).stdout.decode() == secret
        with far.transport.secret_file("second\n") as other:
            assert other != path
        assert far.shell("ls", path) == path
    # a number of a descriptor may be another one's by now
    left = far.shell("ls", "-l", path)
    assert left == "" or (path.startswith("/proc/") and "saasops-pass" not in left)


def test_a_secret_stands_in_no_command_line_and_no_environment(far: Far) -> None:
    # the brackets keep the search from finding itself
    search = (
        "for file in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do"
        " { tr '\\0' '\\n' <$file; } 2>/dev/null | grep -q 'planted-secret-5c1[f]' && echo $file; done"
    )
    with far.transport.secret_file("planted-secret-5c1f\n"):
        assert far.shell("sh", "-c", search) == ""
        assert _here("sh", "-c", search) == ""


def test_a_folder_is_private_and_made_once(far: Far) -> None:
    path = f"{far.folder}/new é\nfolder"
    far.transport.make_folder(path)
    assert far.shell("stat", "-c", "%a %F", path) == "700 directory"
    with pytest.raises(OpsError) as caught:
        far.transport.make_folder(path)
    assert caught.value.code == "staging_exists"
    with pytest.raises(OpsError) as caught:
        far.transport.make_folder(f"{far.folder}/no/parent")
    assert caught.value.code == "staging_unusable"
    far.transport.remove_tree(path)
    far.transport.remove_tree(path)
    assert far.shell("ls", far.folder) == ""


def test_a_file_is_written_and_read_whole(far: Far) -> None:
    path = f"{far.folder}/-data file\n'é"
    fact = far.transport.write_file(path, [EVERY_BYTE, b"", EVERY_BYTE])
    expected = FileFact(os.path.basename(path), 2 * len(EVERY_BYTE), hashlib.sha256(EVERY_BYTE * 2).hexdigest())
    assert fact == expected
    assert far.shell("stat", "-c", "%a %s", path) == f"600 {2 * len(EVERY_BYTE)}"
    with far.transport.read_file(path) as chunks:
        assert b"".join(chunks) == EVERY_BYTE * 2
    assert far.transport.write_file(path, []).length == 0
    with far.transport.read_file(path) as chunks:
        assert b"".join(chunks) == b""


def test_a_large_file_is_read_in_chunks(far: Far) -> None:
    data = os.urandom(1 << 20) * 20
    far.transport.write_file(f"{far.folder}/large", iter([data[: 7 << 20], data[7 << 20 :]]))
    with far.transport.read_file(f"{far.folder}/large") as chunks:
        sizes, checksum = [], hashlib.sha256()
        for chunk in chunks:
            sizes.append(len(chunk))
            checksum.update(chunk)
    assert checksum.digest() == hashlib.sha256(data).digest()
    assert max(sizes) <= 1 << 20


def test_reading_may_stop_early(far: Far) -> None:
    far.transport.write_file(f"{far.folder}/large", [bytes(5_000_000)])
    with far.transport.read_file(f"{far.folder}/large") as chunks:
        assert len(next(iter(chunks))) > 0


def test_a_file_that_is_not_there_cannot_be_read(far: Far) -> None:
    with pytest.raises(OpsError) as caught, far.transport.read_file(f"{far.folder}/none") as chunks:
        b"".join(chunks)
    assert caught.value.code == "staging_unusable"


def test_a_source_that_fails_leaves_no_file_behind_that_looks_whole(far: Far) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        far.transport.write_file(f"{far.folder}/half", broken())
    assert far.shell("ls", "-A", far.folder) == ""


def test_a_file_whose_bytes_are_known_is_written_as_it_is(far: Far) -> None:
    path = f"{far.folder}/known"
    known = FileFact("known", len(EVERY_BYTE), hashlib.sha256(EVERY_BYTE).hexdigest())
    far.transport.write_known(path, iter([EVERY_BYTE]), known)
    with far.transport.read_file(path) as chunks:
        assert b"".join(chunks) == EVERY_BYTE
    with pytest.raises(OpsError) as caught:
        far.transport.write_known(path, iter([EVERY_BYTE[:-1]]), known)
    assert caught.value.code == "staging_damaged"


def test_files_are_removed_and_one_that_is_gone_is_no_error(far: Far) -> None:
    paths = [f"{far.folder}/{name}" for name in ("one", "-two\n'é", "never was")]
    for path in paths[:2]:
        far.transport.write_file(path, [b"x"])
    far.transport.remove_files(paths)
    assert far.shell("ls", "-A", far.folder) == ""


def test_a_full_disk_says_so_and_keeps_nothing(far: Far) -> None:
    with pytest.raises(OpsError) as caught:
        far.transport.write_file(f"{far.small}/big", (bytes(1 << 20) for _number in range(20)))
    assert caught.value.code == "staging_full"
    assert far.shell("ls", "-A", far.small) == ""


def test_facts_are_those_of_the_files(far: Far) -> None:
    names = [
        "a",
        "sub/b c",
        "sub/new\nline",
        "sub/back\\slash",
        "é日本",
        "-dash",
        "'q'\"",
        "sub/deep/er/x",
        " lead",
        "two\n\nlines\n",
    ]
    for folder in ("sub", "sub/deep", "sub/deep/er", "empty"):
        far.transport.make_folder(f"{far.folder}/{folder}")
    for number, name in enumerate(names):
        far.transport.write_file(f"{far.folder}/{name}", [bytes([number]) * number * 1000])
    expected = [
        FileFact(name, number * 1000, hashlib.sha256(bytes([number]) * number * 1000).hexdigest())
        for number, name in enumerate(names)
    ]
    assert far.transport.file_facts(far.folder) == sorted(expected, key=lambda fact: fact.name)


def test_an_empty_folder_has_no_facts_and_a_missing_one_is_an_error(far: Far) -> None:
    assert far.transport.file_facts(far.folder) == []
    with pytest.raises(OpsError) as caught:
        far.transport.file_facts(f"{far.folder}/none")
    assert caught.value.code == "staging_unusable"


def test_facts_of_two_thousand_files_take_seconds(far: Far) -> None:
    far.transport.run(
        ["sh", "-c", 'cd "$0" && i=0; while [ $i -lt 2000 ]; do echo $i >f$i; i=$((i+1)); done', far.folder]
    )
    started = time.monotonic()
    facts = far.transport.file_facts(far.folder)
    assert time.monotonic() - started < 60
    assert len(facts) == 2000
    assert {fact.name: fact.sha256 for fact in facts}["f1234"] == hashlib.sha256(b"1234\n").hexdigest()


def test_free_space_is_that_of_the_volume(far: Far) -> None:
    assert 7_000_000 < far.transport.free_bytes(far.small) <= 8 << 20
    assert far.transport.free_bytes(f"{far.small}/not/yet there") == far.transport.free_bytes(far.small)
    assert far.transport.free_bytes("/") > 100 << 20


def test_volumes_are_told_apart(far: Far) -> None:
    assert far.transport.same_volume(far.folder, "/tmp") == (
        far.shell("stat", "-c", "%d", far.folder) == far.shell("stat", "-c", "%d", "/tmp")
    )
    assert far.transport.same_volume(far.folder, far.folder) is True
    assert far.transport.same_volume(far.folder, far.small) is False


def _leave_behind(far: Far, mark: str, number: str) -> None:
    """A marked process that no transport of ours started."""
    threading.Thread(target=far.shell, args=("env", f"PGAPPNAME={mark}", "sleep", number), daemon=True).start()
    assert _wait_until(lambda: f"sleep {number}" in far.shell("ps", "-o", "args"))


def test_marked_processes_are_found_and_ended(far: Far) -> None:
    mark = "saasops-backup-[a.c]*"
    for name, number in (
        (f"{mark}-1", "981"),
        (f"{mark}-2", "982"),
        ("saasops-backup-abc", "983"),
        (f"x{mark}", "984"),
    ):
        _leave_behind(far, name, number)
    found = far.transport.find_marked(mark)
    assert len(found) >= 2
    far.transport.end(found)
    assert _wait_until(lambda: not {"981", "982"} & set(far.shell("ps", "-o", "args").split()))
    left = far.shell("ps", "-o", "args")
    assert "sleep 983" in left
    assert "sleep 984" in left
    assert far.transport.find_marked(mark) == []
    far.transport.end([*far.transport.find_marked("saasops-backup-abc"), *far.transport.find_marked(f"x{mark}")])
    far.transport.end([])


def test_a_process_that_ignores_sigterm_is_killed(far: Far) -> None:
    threading.Thread(
        target=far.shell,
        args=("env", "PGAPPNAME=saasops-stubborn", "sh", "-c", "trap '' TERM; while :; do sleep 0.3; done"),
        daemon=True,
    ).start()
    assert _wait_until(lambda: far.transport.find_marked("saasops-stubborn") != [])
    far.transport.end(far.transport.find_marked("saasops-stubborn"))
    assert _wait_until(lambda: far.transport.find_marked("saasops-stubborn") == [])


def test_what_this_run_started_is_no_leftover(far: Far) -> None:
    process = far.transport.start(["sleep", "979"], env={"PGAPPNAME": "saasops-mine"})
    try:
        assert _wait_until(lambda: "sleep 979" in far.shell("ps", "-o", "args"))
        assert far.transport.find_marked("saasops-mine") == []
    finally:
        process.kill()


as_root = pytest.mark.parametrize("far_side", ["docker-root"], indirect=True)


@as_root
def test_root_in_a_container_finds_and_ends_its_own(far: Far) -> None:
    _leave_behind(far, "saasops-of-root", "978")
    assert far.transport.find_marked("saasops-of-root") != []
    far.transport.end(far.transport.find_marked("saasops-of-root"))
    assert "sleep 978" not in far.shell("ps", "-o", "args")


@as_root
def test_root_in_a_container_has_secrets_files_and_streams(far: Far) -> None:
    with far.transport.secret_file("of root\n") as path:
        assert far.transport.run(["stat", "-c", "%U %a", path]).stdout == b"root 600\n"
    far.transport.write_file(f"{far.folder}/file", [EVERY_BYTE])
    with far.transport.read_file(f"{far.folder}/file") as chunks:
        assert b"".join(chunks) == EVERY_BYTE
