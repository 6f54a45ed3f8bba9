# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    """The option alertmanager, see ALERTMANAGER_SPEC in module_utils/providers/alertmanager.py."""

    DOCUMENTATION = r"""
options:
  alertmanager:
    description: Where Alertmanager is, as the host of the module reaches it; named as in M(ansible.builtin.uri).
    type: dict
    required: true
    suboptions:
      url:
        description: Its root, with the route prefix if it has one; without V(/api/v2) and without a login.
        type: str
        required: true
      url_username:
        description: User of the basic authentication.
        type: str
      url_password:
        description: Password of the basic authentication.
        type: str
      bearer_token:
        description: Token that is sent as C(Authorization).
        type: str
      validate_certs:
        description: V(false) trusts any certificate.
        type: bool
        default: true
      ca_path:
        description: File with the authorities that are trusted.
        type: path
      client_cert:
        description: File with our own certificate, where Alertmanager asks for one.
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
        default: 10
"""
