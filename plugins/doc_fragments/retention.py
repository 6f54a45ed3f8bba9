# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The option retention, see RETENTION_OPTIONS in module_utils/domain/policy.py."""

    DOCUMENTATION = r"""
options:
  retention:
    description:
      - What prune keeps. At least one rule or O(retention.keep_all_within) must be given.
      - Ages are written like V(90m), V(24h), V(7d) or V(2w).
    type: dict
    suboptions:
      hourly:
        description: Keep one set in each of this many newest hours that have a proven set.
        type: int
      hourly_max_age:
        description:
          - Let sets go that only the hourly rule keeps when they are older than this.
          - Without O(retention.hourly) it is the rule's only limit.
        type: str
      daily:
        description: Keep one set in each of this many newest days that have a proven set.
        type: int
      daily_max_age:
        description:
          - Let sets go that only the daily rule keeps when they are older than this.
          - Without O(retention.daily) it is the rule's only limit.
        type: str
      weekly:
        description: Keep one set in each of this many newest ISO weeks that have a proven set.
        type: int
      weekly_max_age:
        description:
          - Let sets go that only the weekly rule keeps when they are older than this.
          - Without O(retention.weekly) it is the rule's only limit.
        type: str
      monthly:
        description: Keep one set in each of this many newest months that have a proven set.
        type: int
      monthly_max_age:
        description:
          - Let sets go that only the monthly rule keeps when they are older than this.
          - Without O(retention.monthly) it is the rule's only limit.
        type: str
      keep_all_within:
        description: Keep every set that is younger than this.
        type: str
      minimum_proven:
        description: Keep this many newest proven sets of each group whatever the rules say; at least V(1).
        type: int
        default: 2
      proof:
        description:
          - The least that makes a set proven.
          - V(stored) means that its bytes were read back from the store and compared.
          - V(restored) means that it was restored and the result compared.
        type: str
        choices: [stored, restored]
        default: stored
      partial_grace:
        description: Leave a partial set alone for this long after its last change, because a backup may be running.
        type: str
        default: 24h
"""
