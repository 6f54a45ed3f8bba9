# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source command: an argument list that is run on the host, without a shell."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass
from typing import IO

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group
from ansible_collections.saasops.runbook.plugins.module_utils.measure.one import alone
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options, check_path, look_up

LARGEST = 256 * 1024  # bytes of output; what is beyond is read and dropped
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"


@dataclass(frozen=True)
class Done:
    """How a program ended. code None: it had to be killed."""

    code: int | None
    output: bytes
    error: bytes
    cut: bool


def open_command(check: Check, options: Options) -> Group:
    """The check as a group of its own. Raises OpsError bad_check."""
    argv, expression, pattern = options.texts("argv"), options.text("json"), options.text("pattern")
    if not argv or not argv[0]:
        raise options.refuse("argv is empty.", "Write the program and its arguments as a list.")
    what = "json" if expression else "number" if pattern else options.text("value") or "exit"
    if expression:
        check_path(options, expression)
    try:
        compiled = re.compile(pattern or f"({_NUMBER})")
    except re.error as error:
        raise options.refuse(f"{pattern!r} is no regular expression: {error}.", "Correct pattern.") from error
    if compiled.groups < 1:
        raise options.refuse("pattern has no group.", "Put brackets around the number in it.")

    def measure() -> list[Measurement]:
        try:
            done = run_bounded(argv, options.timeout, options.text("chdir") or None)
        except OSError as error:
            return [Measurement(missing=f"{argv[0]} cannot be started: {error.strerror or error}")]
        return [_judge(done, argv[0], what, expression, compiled, options.timeout)]

    return alone(check, options.timeout, measure)


def _judge(
    done: Done, program: str, what: str, expression: str, pattern: re.Pattern[str], timeout: float
) -> Measurement:
    said = tuple(
        line[:300]
        for text in (done.error, done.output)
        for line in text.decode("utf-8", "replace").strip().splitlines()[:3]
    )
    if done.code is None:
        return Measurement(missing=f"{program} did not end within {timeout:g} s and was killed", detail=said)
    if done.code < 0:
        return Measurement(missing=f"{program} was ended by signal {-done.code}", detail=said)
    if what == "exit":
        return Measurement(done.code, detail=said if done.code else ())
    if done.code != 0:
        return Measurement(missing=f"{program} failed with exit code {done.code}", detail=said)
    if done.cut:
        return Measurement(missing=f"{program} wrote more than {LARGEST} bytes", detail=said)
    text = done.output.decode("utf-8", "replace")
    if what == "json":
        try:
            return look_up(json.loads(text), expression)
        except (ValueError, RecursionError):
            return Measurement(missing=f"what {program} wrote is no JSON", detail=said)
    if what == "text":
        return Measurement(text.strip()[:1000])
    found = pattern.search(text)
    if not found:
        return Measurement(missing=f"{program} wrote no number", detail=said)
    try:
        return Measurement(float(found.group(1)) if not found.group(1).isdigit() else int(found.group(1)))
    except (ValueError, TypeError):
        return Measurement(missing=f"{str(found.group(1))[:40]!r} is no number", detail=said)


def run_bounded(argv: list[str], timeout: float, folder: str | None = None) -> Done:
    """Run to the end, or kill it and all that it started; at most LARGEST bytes of each output are kept.

    Raises OSError when it cannot be started.
    """
    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        # a group of its own, so that what it started ends with it
        start_new_session=True,
    )
    kept: dict[str, tuple[bytes, bool]] = {}
    readers = [
        threading.Thread(target=_drain, args=(name, stream, kept), daemon=True)
        for name, stream in (("out", process.stdout), ("err", process.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        code: int | None = process.wait(timeout)
    except subprocess.TimeoutExpired:
        code = None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for reader in readers:
        reader.join(1)
    output, cut = kept.get("out", (b"", False))
    return Done(code, output, kept.get("err", (b"", False))[0], cut)


def _drain(name: str, stream: IO[bytes] | None, kept: dict[str, tuple[bytes, bool]]) -> None:
    whole, cut = b"", False
    while stream:
        chunk = os.read(stream.fileno(), 65536)
        if not chunk:
            stream.close()
            break
        cut = cut or len(whole) + len(chunk) > LARGEST
        whole = (whole + chunk)[:LARGEST]
        kept[name] = (whole, cut)
