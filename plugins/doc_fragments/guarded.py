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
  guard_silence:
    description: Internal; the inventory's C(saasops_silence). Set by admission.
    type: dict
    suboptions:
      url:
        description: Root of the Alertmanager.
        type: str
        required: true
      url_username:
        description: User of the basic authentication.
        type: str
      url_password:
        description: Password of the basic authentication.
        type: str
      bearer_token:
        description: Token that is sent instead.
        type: str
      validate_certs:
        description: V(false) trusts any certificate.
        type: bool
        default: true
      ca_path:
        description: File with the authorities that are trusted.
        type: path
      client_cert:
        description: File with our own certificate.
        type: path
      client_key:
        description: File with its key.
        type: path
      use_proxy:
        description: V(false) ignores the proxies of the environment.
        type: bool
        default: true
      timeout:
        description: Seconds for each step of a request.
        type: int
        default: 3
      matchers:
        description: Conditions on the labels of an alert; all of them must hold.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the label.
            type: str
            required: true
          value:
            description: Its value.
            type: str
            required: true
          is_regex:
            description: Whether the value is a regular expression.
            type: bool
            default: false
          is_equal:
            description: V(false) turns the condition round.
            type: bool
            default: true
      after:
        description: How long alerts stay silent after the work.
        type: str
        default: 5m
      longest:
        description: How long a silence lasts that nobody ends.
        type: str
        default: 1h
      required:
        description: Whether nothing is changed without the silence.
        type: bool
        default: false
      verbs:
        description: Verbs that silence; all when left out.
        type: list
        elements: str
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
