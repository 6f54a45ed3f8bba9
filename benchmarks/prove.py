# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a database against the newest set, as pg_restore (ours) does: the proof that a baseline lacks.

Arguments as JSON on stdin: {"connection", "store", "system", "database" (of the set), "copy" (what is looked at)}.
Exits 1 and says the differences. Rows of every table, positions of sequences, large objects and the catalog's
properties are compared; what belongs to the database itself (its grants and settings, which a plain dump does not
carry) is not.
"""

from __future__ import annotations

import json
import sys

from ansible_collections.saasops.runbook.plugins.module_utils.domain.fingerprint import compare
from ansible_collections.saasops.runbook.plugins.module_utils.domain.properties import compare_properties
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.fingerprint import take_fingerprint
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.open import Target
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.properties import read_properties
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.restore import connected, default_jobs
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.snapshot import plain_view
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.tables import relations
from ansible_collections.saasops.runbook.plugins.module_utils.store import sets
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store


def main() -> int:
    given = json.load(sys.stdin)
    store = open_store(given["store"])
    set_id = sets.newest(store, given["system"], given["database"])
    _manifest, contents = sets.load(store, set_id, given["system"])
    with connected(Target.from_params(given["connection"]), given["copy"], default_jobs()) as sessions:
        for session in sessions:
            plain_view(session)
        actual = take_fingerprint(sessions, relations(sessions[0], "rpm"))
        properties = read_properties(sessions[0], given["copy"])
    differences = compare(contents.fingerprint, actual)
    properties["database"] = contents.properties["database"]
    differences += compare_properties(contents.properties, properties)
    for item in differences[:20]:
        print(item.text)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
