# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""guard_report: the module gathers on the host, the page is made and written here, on the controller."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import cast

from ansible.plugins.action import ActionBase

from ansible_collections.saasops.runbook.plugins.action.admission import ActionModule as Admission
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.plugin_utils.report_page import render
from ansible_collections.saasops.runbook.plugins.plugin_utils.results import failure

DEFAULT_MODE = "0600"


class ActionModule(Admission):
    """Runs the module guard_report and writes its page."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, object] | None = None) -> dict[str, object]:
        task_vars = task_vars or {}
        result: dict[str, object] = ActionBase.run(self, tmp, task_vars)
        del tmp
        args = dict(self._task.args)
        exposed = self._exposed(args)
        if exposed is not None:
            return {**result, **failure(exposed)}
        if "dest" not in args:
            # the module's own words about its options
            return {**result, **self._execute_module(module_args=args, task_vars=task_vars)}
        try:
            mode = _mode(args.get("mode") or DEFAULT_MODE)
            path = _place(str(args.get("dest") or ""), str(args.get("system") or "system"), _hosts(task_vars))
        except OpsError as error:
            return {**result, **failure(error)}
        answer: dict[str, object] = self._execute_module(module_args=args, task_vars=task_vars)
        # never part of the result: it is long, and printed by -v
        view = answer.pop("view", None)
        if answer.get("failed") or not isinstance(view, Mapping):
            return {**result, **answer}
        page = render(view).encode()
        try:
            if not self._task.check_mode:
                write(path, page, mode)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            cause = f"The report cannot be written to {path} on the controller: {reason}."
            return {**result, **failure(OpsError("report_not_written", cause, "Name another file with dest."))}
        told = "Would write" if self._task.check_mode else "Wrote"
        said = f"{told} {path} ({len(page):,} bytes). {answer.get('msg')}"
        return {**result, **answer, "changed": True, "dest": path, "size": len(page), "msg": said}


def _hosts(task_vars: Mapping[str, object]) -> list[str]:
    return cast("list[str]", task_vars.get("ansible_play_hosts_all") or [])


def _mode(given: object) -> int:
    """Permissions from "0640". Raises OpsError bad_mode."""
    text = str(given)
    if not re.match(r"0?[0-7]{3}\Z", text):
        raise OpsError("bad_mode", f"mode is {text!r}.", 'Write it in octal and in quotes, for instance "0640".')
    return int(text, 8)


def _place(dest: str, system: str, hosts: list[str]) -> str:
    """The file's whole path. Raises OpsError not_configured, one_file_for_all."""
    if not dest:
        raise OpsError("not_configured", "It is not said where the report goes.", "Give dest=<file or folder>.")
    path = os.path.abspath(os.path.expanduser(dest))
    if dest.endswith("/") or os.path.isdir(path):
        # a name of the inventory must not lead out of the folder
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", system).lstrip(".") or "system"
        return os.path.join(path, f"report-{safe}.html")
    if len(hosts) > 1:
        raise OpsError(
            "one_file_for_all",
            f"{len(hosts)} hosts would write the one file {path}.",
            "Name a folder (dest ends in /), or one host with --limit.",
        )
    return path


def write(path: str, page: bytes, mode: int) -> None:
    """The whole page or nothing, with these permissions from its first byte on. Raises OSError."""
    draft = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(page)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
