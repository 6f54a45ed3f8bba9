# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store on another host promises beside the common contract, over a real sshd."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store
from ansible_collections.saasops.runbook.tests.lab import processes, sshd

MIB = 1024 * 1024
TOOLS = ("link", "mv", "sync")


@pytest.fixture
def root(ssh_server: sshd.Server) -> Path:
    return ssh_server.store_folder()


@pytest.fixture
def store(ssh_server: sshd.Server, root: Path) -> Store:
    return open_store(ssh_server.options(root))


def refusal(act: Callable[[], object]) -> OpsError:
    with pytest.raises(OpsError) as caught:
        act()
    assert caught.value.cause
    assert caught.value.remedy
    return caught.value


def content(store: Store, key: str) -> bytes:
    with store.get(key) as chunks:
        return b"".join(chunks)


def test_its_address_names_the_host(ssh_server: sshd.Server, store: Store, root: Path) -> None:
    assert store.url == f"ssh://{ssh_server.user.pw_name}@127.0.0.1:{ssh_server.port}{root}"


def test_folders_are_closed_to_others_and_so_are_files(store: Store, root: Path) -> None:
    store.put("backups/a/manifest.json", [b"{}"])
    modes = {str(path.relative_to(root)): stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert modes == {".tmp": 0o700, "backups": 0o700, "backups/a": 0o700, "backups/a/manifest.json": 0o600}


def test_a_root_that_does_not_exist_is_refused_with_a_remedy_and_not_made(ssh_server: sshd.Server, root: Path) -> None:
    store = open_store(ssh_server.options(root / "not-mounted"))
    for act in (
        lambda: store.check(write=False),
        lambda: store.check(write=True),
        lambda: store.put("a", [b"x"]),
        lambda: store.put("a", [b"x"], if_absent=True),
        lambda: store.put("a", [bytes(MIB)]),
        lambda: store.list(""),
        lambda: store.sweep("", 0),
        lambda: store.delete(["a"]),
        store.free_bytes,
        lambda: store.get("a").__enter__(),
    ):
        error = refusal(act)
        assert error.code == "store_missing"
        assert "Mount" in error.remedy
    assert list(root.iterdir()) == []


def test_a_root_that_is_a_file_is_refused(ssh_server: sshd.Server, root: Path) -> None:
    (root / "file").write_text("x")
    assert refusal(lambda: open_store(ssh_server.options(root / "file")).check(write=True)).code == "store_missing"
    below = open_store(ssh_server.options(root / "file" / "below"))
    assert refusal(lambda: below.check(write=True)).code == "store_missing"


def test_create_makes_the_root_at_the_first_put_and_not_before(ssh_server: sshd.Server, root: Path) -> None:
    store = open_store(ssh_server.options(root / "srv" / "backups", create=True))
    store.check(write=True)
    assert store.list("") == []
    assert list(store.sweep("", 0)) == []
    store.delete(["a"])
    assert refusal(lambda: content(store, "a")).code == "object_missing"
    assert store.free_bytes()
    assert list(root.iterdir()) == []
    store.put("a", [b"x"], if_absent=True)
    assert (root / "srv" / "backups" / "a").read_bytes() == b"x"


def test_what_is_no_object_is_not_listed(store: Store, root: Path) -> None:
    store.put("a", [b"x"])
    for name in ("lost+found", ".snapshot", "with space"):
        (root / name).mkdir()
        (root / name / "below").write_text("x")
        (root / name).chmod(0o755)
    (root / "name with space").write_text("x")
    (root / "two\nlines").write_text("x")
    assert [info.key for info in store.list("")] == ["a"]


def test_a_delete_removes_the_folders_it_empties_and_no_others(store: Store, root: Path) -> None:
    store.put("backups/a/objects/1", [b"x"])
    store.put("backups/b/objects/1", [b"x"])
    store.delete(["backups/a/objects/1"])
    assert sorted(path.name for path in (root / "backups").iterdir()) == ["b"]
    store.delete(["backups/b/objects/1"])
    assert not (root / "backups").exists()
    assert root.exists()


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(store: Store) -> None:
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _time in range(15):
                store.put(f"deep/er/{name}", [b"x"], if_absent=True)
                store.delete([f"deep/er/{name}"])
        except OpsError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert store.list("") == []


def test_a_reader_sees_one_version_whole_while_another_is_put(store: Store) -> None:
    store.put("a", [b"0" * 600_000])
    done = threading.Event()

    def write() -> None:
        for number in range(15):
            store.put("a", [(b"%d" % (number % 10)) * (300_000 + number)])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        body = content(store, "a")
        assert body == body[:1] * len(body)
    writer.join()


def test_sweep_takes_what_is_old_and_below_its_prefix_only(store: Store, root: Path, ssh_server: sshd.Server) -> None:
    (root / ".tmp").mkdir()
    ssh_server.give(root / ".tmp")
    for name, age in (("backups+a+1+aaaa", 100), ("backups+b+1+bbbb", 100), ("backups+a+2+cccc", 0)):
        path = root / ".tmp" / name
        path.write_text("x")
        ssh_server.give(path)
        os.utime(path, (time.time() - age, time.time() - age))
    assert list(store.sweep("backups/a/", time.time() - 50)) == [".tmp/backups+a+1+aaaa"]
    assert list(store.sweep("", time.time() - 50)) == [".tmp/backups+b+1+bbbb"]
    assert sorted(path.name for path in (root / ".tmp").iterdir()) == ["backups+a+2+cccc"]


def test_sweep_leaves_what_a_living_writer_holds_however_old_it_is(
    store: Store, root: Path, ssh_server: sshd.Server
) -> None:
    swept: list[str] = []

    def chunks() -> Iterator[bytes]:
        yield bytes(MIB)
        deadline = time.monotonic() + 10
        while not (found := list(root.glob(".tmp/*"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.utime(found[0], (0, 0))
        swept.extend(open_store(ssh_server.options(root)).sweep("", time.time() + 60))
        yield b"y"

    store.put("a", chunks())
    assert not swept
    assert content(store, "a") == bytes(MIB) + b"y"


def test_a_folder_in_the_place_of_an_object_is_no_object(store: Store) -> None:
    store.put("a/b", [b"x"])
    assert refusal(lambda: store.get("a").__enter__()).code == "object_damaged"
    assert refusal(lambda: store.put("a", [b"x"])).code == "store_unreachable"
    assert refusal(lambda: store.put("a", [bytes(MIB)])).code == "store_unreachable"
    assert refusal(lambda: store.delete(["a"])).code == "store_unreachable"
    assert content(store, "a/b") == b"x"


@pytest.mark.parametrize("length", [1, MIB])
@pytest.mark.parametrize("if_absent", [False, True])
def test_bytes_are_on_the_device_before_the_name_is_and_the_name_before_the_put_returns(
    if_absent: bool, length: int
) -> None:
    with sshd.running(f"SetEnv PATH={{folder}}/bin:{os.environ['PATH']}") as server:
        calls = _recorders(server)
        open_store(server.options(server.store_folder())).put("backups/a", [bytes(length)], if_absent=if_absent)
        said = [line.split(" ") for line in calls.read_text().splitlines()]
    shown = [f"{program} {'temporary' if '/.tmp/' in path else path}" for program, path in said]
    publish = "link temporary" if if_absent else "mv temporary"
    assert shown == ["sync .", "sync temporary", "sync .", publish, "sync ./backups"]


def _recorders(server: sshd.Server) -> Path:
    """Programs that add their name and first file to the file returned, and then do what they are for."""
    calls, tools = server.folder / "calls", server.folder / "bin"
    calls.touch()
    server.give(calls)
    tools.mkdir()
    for name in TOOLS:
        path = tools / name
        path.write_text(
            "#!/bin/sh\nfor first; do case $first in -*) ;; *) break ;; esac; done\n"
            f'echo "{name} $first" >>{calls}\nexec {shutil.which(name)} "$@"\n'
        )
        path.chmod(0o755)
    return calls


def test_a_store_that_is_let_go_leaves_no_process_and_no_folder(
    ssh_server: sshd.Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(short := Path(f"/tmp/st-{os.getpid()}")))
    short.mkdir()
    try:
        before = set(processes.children(os.getpid()))
        store = open_store(ssh_server.options(root))
        store.put("a", [b"x"])
        masters = set(processes.children(os.getpid())) - before
        assert len(masters) == 1
        assert stat.S_IMODE(next(short.iterdir()).stat().st_mode) == 0o700
        del store
        assert not masters & set(processes.children(os.getpid()))
        assert list(short.iterdir()) == []
    finally:
        shutil.rmtree(short)


def test_many_operations_share_one_connection(ssh_server: sshd.Server, root: Path) -> None:
    before = ssh_server.log.read_text().count("Accepted publickey")
    store = open_store(ssh_server.options(root))
    for number in range(5):
        store.put(f"a/{number}", [b"x"])
    store.list("")
    assert ssh_server.log.read_text().count("Accepted publickey") == before + 1


def test_more_sessions_than_the_server_allows_on_a_connection_only_cost_time(tmp_path: Path) -> None:
    with sshd.running("MaxSessions 2") as server:
        store = open_store(server.options(server.store_folder()))
        errors: list[OpsError] = []

        def read() -> None:
            try:
                for number in range(3):
                    store.put(f"{threading.get_ident()}/{number}", [bytes(MIB)])
            except OpsError as error:
                errors.append(error)

        threads = [threading.Thread(target=read) for _number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(store.list("")) == 15


def test_a_connection_that_is_gone_is_opened_again_for_the_next_operation(
    ssh_server: sshd.Server, store: Store
) -> None:
    store.put("a", [b"x"])
    assert ssh_server.cut()
    codes, deadline = set(), time.monotonic() + 10
    while time.monotonic() < deadline:
        # the client needs a moment to notice
        try:
            assert content(store, "a") == b"x"
            break
        except OpsError as error:
            codes.add(error.code)
    assert codes <= {"stream_cut"}
    assert content(store, "a") == b"x"


def test_a_host_that_nothing_listens_on_is_unreachable(ssh_server: sshd.Server, root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        store = open_store(ssh_server.options(root, port=taken.getsockname()[1]))
        error = refusal(lambda: store.check(write=False))
    assert error.code == "host_unreachable"
    assert "127.0.0.1" in error.cause


def test_a_host_that_takes_the_connection_and_says_nothing_is_given_up(ssh_server: sshd.Server, root: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = open_store(ssh_server.options(root, port=silent.getsockname()[1], connect_timeout=1))
        begun = time.monotonic()
        assert refusal(lambda: store.check(write=False)).code == "host_unreachable"
    assert time.monotonic() - begun < 20


def test_a_name_without_an_address_is_unreachable(ssh_server: sshd.Server, root: Path) -> None:
    store = open_store(ssh_server.options(root, host="no-such-host.invalid"))
    assert refusal(lambda: store.list("")).code == "host_unreachable"


def test_an_unknown_host_key_is_refused(ssh_server: sshd.Server, root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store = open_store(ssh_server.options(root, known_hosts=str(tmp_path / "empty")))
    assert refusal(lambda: store.put("a", [b"x"])).code == "host_key_unknown"
    assert (tmp_path / "empty").read_text() == ""
    assert list(root.iterdir()) == []


def test_a_changed_host_key_is_refused(ssh_server: sshd.Server, root: Path, tmp_path: Path) -> None:
    other = sshd.new_key(tmp_path / "other").with_suffix(".pub").read_text()
    known = tmp_path / "known hosts"
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {other}")
    store = open_store(ssh_server.options(root, known_hosts=str(known)))
    assert refusal(lambda: store.put("a", [b"x"])).code == "host_key_changed"
    assert list(root.iterdir()) == []


def test_a_key_that_is_not_let_in_is_refused(ssh_server: sshd.Server, root: Path) -> None:
    store = open_store(ssh_server.options(root, identity_file=str(ssh_server.stranger)))
    assert refusal(lambda: store.put("a", [b"x"])).code == "login_refused"


def test_a_private_key_that_is_open_to_others_is_named_as_the_reason(
    ssh_server: sshd.Server, root: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "open"
    shutil.copy(ssh_server.identity, copy)
    copy.chmod(0o644)
    error = refusal(lambda: open_store(ssh_server.options(root, identity_file=str(copy))).list(""))
    assert error.code == "login_refused"
    assert "open to others" in error.cause


@pytest.mark.parametrize(
    ("option", "code"), [("identity_file", "identity_missing"), ("known_hosts", "known_hosts_missing")]
)
def test_a_file_that_is_not_there_is_refused_before_anything_is_asked(
    ssh_server: sshd.Server, root: Path, option: str, code: str
) -> None:
    assert refusal(lambda: open_store(ssh_server.options(root, **{option: "/no/such"}))).code == code


@pytest.mark.parametrize(
    ("option", "value"),
    [("host", "-oProxyCommand=touch x"), ("host", "a b"), ("user", "-l"), ("port", 70000), ("known_hosts", '/a"b')],
)
def test_a_value_that_could_be_an_option_of_ssh_is_refused(
    ssh_server: sshd.Server, root: Path, option: str, value: object
) -> None:
    assert refusal(lambda: open_store(ssh_server.options(root, **{option: value}))).code == "ssh_option"


def test_a_missing_client_is_named(ssh_server: sshd.Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = refusal(lambda: open_store(ssh_server.options(root)).list(""))
    assert error.code == "tool_missing"
    assert "openssh-client" in error.remedy


def test_a_login_that_prints_something_or_runs_something_else_is_refused() -> None:
    for command in ("echo Welcome", "true", "exit 3"):
        with sshd.running(f"ForceCommand {command}") as server:
            store = open_store(server.options(server.store_folder()))
            assert refusal(lambda store=store: store.list("")).code == "shell_unusable"  # type: ignore[misc]


def test_a_program_that_the_host_does_not_have_is_named(tmp_path: Path) -> None:
    with sshd.running("SetEnv PATH=/nowhere-0123456789") as server:
        store = open_store(server.options(server.store_folder()))
        assert refusal(lambda: store.check(write=True)).code in ("tool_missing", "shell_unusable")
