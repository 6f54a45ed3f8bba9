# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """What every module states about itself; a module overrides support and adds details where it differs."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Takes the same road up to the act, and returns the same plan and the same refusals.
    support: full
  diff_mode:
    description: Returns one line for each planned action.
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
  action:
    description: An action plugin looks at the parameters before; secrets are refused without pipelining.
    support: full
  async:
    description: The module would lie in a file with its parameters, and nobody would see its end.
    support: none
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Only reads, so check mode makes no difference.
    support: full
  diff_mode:
    description: Only reads, so there is never a difference to show.
    support: none
  idempotent:
    description: Only reads.
    support: full
  action:
    description: An action plugin looks at the parameters before; secrets are refused without pipelining.
    support: full
  async:
    description: The module would lie in a file with its parameters, and nobody would see its end.
    support: none
"""
