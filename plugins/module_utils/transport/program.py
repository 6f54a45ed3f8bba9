# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of the application, run on the host of the module as a user of its own, with a clean environment."""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport.local import LocalTransport

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "DOCKER_HOST", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
_MEMORY = os.path.join(os.sep, "dev", "shm")
_PREFIX = "saasops-migrator-"
_KEPT = 500  # lines
TICK_SECONDS = 0.2
# It is told the program's process group, and then that all is well; when we end before we say so, however that comes,
# the group is ended, which would otherwise go on unwatched.
_KEEPER = """
import os, signal, sys
group = sys.stdin.buffer.readline().strip()
if group.isdigit() and not sys.stdin.buffer.read(1):
    try:
        os.killpg(int(group), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def account(user: str) -> pwd.struct_passwd:
    """Whom it runs as; the module's own user for "". Raises OpsError unknown_user, not_permitted."""
    try:
        found = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise OpsError("unknown_user", f"This host has no user {user!r}.", "Check command.user.") from error
    if found.pw_uid != os.geteuid() and os.geteuid() != 0:
        raise OpsError(
            "not_permitted", f"Only root may run a program as {user}.", "Use become, or leave command.user out."
        )
    return found


@contextlib.contextmanager
def password_file(line: str, owner: pwd.struct_passwd) -> Iterator[str]:
    """A .pgpass that only this user reads, for as long as the context lasts.

    For the module's own user it has no name and goes with the module, however that ends. For another user it is a file
    in memory; one that a killed module left is removed by the next.
    """
    if owner.pw_uid == os.geteuid():
        with LocalTransport().secret_file(line) as path:
            yield path
        return
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else tempfile.gettempdir()
    _sweep(place)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=place) as folder:
        path = os.path.join(folder, "pgpass")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(line)
        os.chown(path, owner.pw_uid, owner.pw_gid)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        yield path


def _sweep(place: str) -> None:
    """Remove what modules left that were killed."""
    for name in os.listdir(place):
        pid = name[len(_PREFIX) :].partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(os.path.join(place, name), ignore_errors=True)


def run(
    argv: Sequence[str],
    folder: str,
    owner: pwd.struct_passwd,
    environment: Mapping[str, str],
    tick: Callable[[], None],
    longest: float,
    say: Callable[[str], None],
) -> tuple[int, list[str]]:
    """Run to the end; exit code and the last lines of its output. tick() is called every 0.2 s and may raise.

    longest: seconds, then it is ended. Raises OpsError tool_missing, command_timeout, and what tick raises; the
    program and what it started on this host are gone then. They are ended as well when this process is killed.
    """
    clean = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    clean.update({"HOME": owner.pw_dir, "USER": owner.pw_name, "LOGNAME": owner.pw_name, **environment})
    with _keeper() as keep:
        child = _begin(argv, folder, owner, clean)
        try:
            keep(child.pid)
            return _follow(child, tick, longest, say)
        except BaseException:
            _end(child)
            raise


@contextlib.contextmanager
def _keeper() -> Iterator[Callable[[int], None]]:
    """A process of its own that ends a process group when this one is killed; call what is given with the group."""
    keeper = subprocess.Popen(  # pylint: disable=ansible-bad-function
        [sys.executable, "-I", "-S", "-c", _KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def say(text: bytes) -> None:
        if keeper.stdin is not None:
            keeper.stdin.write(text)
            keeper.stdin.flush()

    try:
        yield lambda group: say(f"{group}\n".encode())
    finally:
        with contextlib.suppress(OSError):
            say(b".")
        # Popen's own end closes the pipe and waits; the keeper has nothing left to do
        keeper.communicate()


def _begin(
    argv: Sequence[str], folder: str, owner: pwd.struct_passwd, clean: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    other = owner.pw_uid != os.geteuid()
    try:
        # a session, a user and a stream of lines of its own, which run_command does not give
        return subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            cwd=folder or None,
            env=dict(clean),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=owner.pw_uid if other else None,
            group=owner.pw_gid if other else None,
            extra_groups=os.getgrouplist(owner.pw_name, owner.pw_gid) if other else None,
        )
    except OSError as error:
        raise OpsError(
            "tool_missing",
            f"{argv[0]} cannot be run in {folder or 'this folder'}: {error.strerror}.",
            "Check command.argv, command.chdir and command.user.",
        ) from error


def _follow(
    child: subprocess.Popen[bytes], tick: Callable[[], None], longest: float, say: Callable[[str], None]
) -> tuple[int, list[str]]:
    lines: list[str] = []
    rest = b""
    end = time.monotonic() + longest
    with selectors.DefaultSelector() as selector:
        if child.stdout is not None:
            selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select(TICK_SECONDS):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    lines.append(line.decode("utf-8", "replace").rstrip())
                    say(lines[-1])
                del lines[:-_KEPT]
            if child.poll() is not None and (not selector.get_map() or _quiet(selector)):
                break
            if not selector.get_map():
                time.sleep(TICK_SECONDS)
            if time.monotonic() > end:
                raise OpsError(
                    "command_timeout",
                    f"The migrator was not through after {longest:g} s and was ended.",
                    "See what it did in its ledger and its output; raise limit when it may take longer.",
                )
            tick()
    if rest:
        lines.append(rest.decode("utf-8", "replace").rstrip())
    return child.returncode, lines


def _quiet(selector: selectors.BaseSelector) -> bool:
    """Whether nothing more comes: what it left running in the background may keep the pipe open."""
    return not selector.select(0)


def _end(child: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            if number == signal.SIGTERM:
                # what it started may not have listened
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
            return
