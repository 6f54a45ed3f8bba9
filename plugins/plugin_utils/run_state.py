# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run this is: one id for every ansible-playbook process, shared by all its workers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import new_set_id
from ansible_collections.saasops.runbook.plugins.module_utils.process import identify
from ansible_collections.saasops.runbook.plugins.plugin_utils import witness


def operator(task_vars: Mapping[str, object]) -> str:
    """Who runs this: AWX says it in a variable, else the login."""
    for name in ("awx_user_name", "tower_user_name"):
        if task_vars.get(name):
            return str(task_vars[name])
    return witness.operator()


def current(task_vars: Mapping[str, object]) -> dict[str, object]:
    """The run of this process, as the option guard carries it; whichever worker asks first makes its id.

    The process named is the one that the operator started: a worker's parent.
    """
    identifier = witness.handover().run_id(lambda: new_set_id(time.time(), os.urandom(4)))
    return {"run": identifier, "operator": operator(task_vars), **vars(identify(os.getppid()))}
