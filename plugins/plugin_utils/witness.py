# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What plugins on the controller know of their run: whether the callback witnesses it, who runs it, with what."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from pathlib import Path

from ansible import constants
from ansible.release import __version__ as core_version

from ansible_collections.saasops.runbook.plugins.module_utils.store.handover import Handover
from ansible_collections.saasops.runbook.plugins.module_utils.store.spool import Spool, folder_of

_COLLECTION = Path(__file__).resolve().parents[2]


def handover() -> Handover:
    """The run's own folder: one for an ansible-playbook process, known to its forked workers, gone with it."""
    return Handover(os.path.join(constants.DEFAULT_LOCAL_TMP, "saasops-witness"))


def witness_active() -> bool:
    """Whether the callback saasops.runbook.witness is on in this run and can write.

    With `journal: required` a run without it is refused before anything changes.
    """
    return handover().active()


def spool(system: str) -> Spool:
    """Where this operator's events of a system wait on the controller."""
    return Spool(folder_of(constants.config.get_config_value("ANSIBLE_HOME"), system))


def operator() -> str:
    """Who runs this, as the controller knows it: the user behind sudo, or the login's name."""
    behind = os.environ.get("SUDO_USER", "")
    try:
        own = getpass.getuser()
    except (KeyError, OSError, ImportError):
        own = str(os.getuid())
    return f"{behind} (as {own})" if behind and behind != own else own


def controller() -> str:
    """The name of this machine."""
    return socket.gethostname()


def versions() -> dict[str, str]:
    """The versions of the collection and of ansible-core."""
    return {"collection": _collection_version(), "core": core_version}


def _collection_version() -> str:
    try:
        manifest = json.loads((_COLLECTION / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(manifest["collection_info"]["version"])
    except (OSError, ValueError, KeyError):
        pass
    try:
        found = re.search(r"^version:\s*(\S+)", (_COLLECTION / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip("'\"") if found else "unknown"
