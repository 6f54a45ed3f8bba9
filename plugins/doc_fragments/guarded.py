# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that passes admission."""

    DOCUMENTATION = r"""
options:
  guard:
    description:
      - Internal; set by admission, the action plugin that every changing module of this collection passes.
      - A task that gives it is refused. What the guard does is set in the inventory, see the guide on safety.
    type: dict
  progress_file:
    description: Internal; a file that receives one line every few seconds. Set by admission.
    type: path
attributes:
  action:
    description: An action plugin runs on the controller before the module.
    support: full
  async:
    description: A run that nobody sees the end of is refused.
    support: none
"""
