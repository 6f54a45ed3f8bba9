# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute.migrate_place import Place
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result


def migrate(place: Place) -> Result:
    raise OpsError("todo", "x", "y")
