# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source file: age or size of a file, or of the newest one that a pattern finds."""

from __future__ import annotations

import glob
import os
import stat
import time

from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Check, Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.measure.gather import Group
from ansible_collections.saasops.runbook.plugins.module_utils.measure.one import alone
from ansible_collections.saasops.runbook.plugins.module_utils.measure.options import Options


def open_file(check: Check, options: Options) -> Group:
    """The check as a group of its own. Raises OpsError bad_check."""
    path, what = options.text("path"), options.text("measure") or "age"
    if not path.startswith("/"):
        raise options.refuse(f"{path!r} is not an absolute path.", "Write it from the root on.")
    times = options.turned("s" if what == "age" else "B", check.unit)
    return alone(check, options.timeout, lambda: [_measure(path, what, times)])


def _measure(path: str, what: str, times: float) -> Measurement:
    try:
        found = _newest(path)
    except OSError as error:
        return Measurement(missing=f"{path} cannot be looked at: {error.strerror}")
    if found is None:
        return Measurement(missing=f"{path} is not there", down=True)
    name, facts = found
    if not stat.S_ISREG(facts.st_mode):
        return Measurement(missing=f"{name} is no file")
    number = time.time() - facts.st_mtime if what == "age" else facts.st_size
    # a size in bytes stays a whole number
    value = number if times == 1 else number * times
    return Measurement(value, detail=(name,) if name != path else ())


def _newest(path: str) -> tuple[str, os.stat_result] | None:
    """The file that was changed last; None when there is none. Raises OSError when a folder may not be read."""
    if not glob.has_magic(path):
        try:
            return path, os.stat(path)
        except FileNotFoundError:
            return None
    first = min(path.index(sign) for sign in "*?[" if sign in path)
    base = path[: path.rindex("/", 0, first)] or "/"
    if not os.path.isdir(base):
        return None
    if not os.access(base, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(13, "Permission denied")
    files = [(name, os.stat(name)) for name in glob.iglob(path) if os.path.isfile(name)]
    return max(files, key=lambda item: item[1].st_mtime, default=None)
