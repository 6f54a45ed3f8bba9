# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping

DOCUMENTATION = r"""
name: resolve_store
short_description: Turn the inventory's name of a store's host into an address
version_added: 0.1.0
description:
  - Takes what an inventory says of a store (C(saasops_store)) and gives what the option
    O(saasops.runbook.pg_backup#module:store) of the modules takes.
  - A C(host) that is a name of the inventory becomes that host's C(ansible_host), C(ansible_port) and C(ansible_user).
    A C(port) or C(user) of the store itself wins.
  - A C(host) that is the very host the module runs on makes the store a folder of it, without ssh.
  - Any other C(host) is an address, or an alias of ssh's configuration, and stays.
author:
  - saasops.runbook contributors (@saasops)
positional: hostvars, inventory_hostname
options:
  _input:
    description: The store.
    type: dict
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
    required: true
  inventory_hostname:
    description: The host that the module runs on.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show where the sets of this host go
  ansible.builtin.debug:
    msg: "{{ saasops_store | saasops.runbook.resolve_store(hostvars, inventory_hostname) }}"
  vars:
    saasops_store: { host: backup1, path: /srv/backups }
"""

RETURN = r"""
_value:
  description: The store with an address in C(host), or without C(host).
  type: dict
"""

# what a store's suboption is taken from, when it does not say itself
_PORT = ("ansible_port", "ansible_ssh_port")
_USER = ("ansible_user", "ansible_ssh_user")
_HOST = ("ansible_host", "ansible_ssh_host")
_LOGIN = ("host", "port", "user", "identity_file", "known_hosts")


def resolve_store(
    store: Mapping[str, object], hostvars: Mapping[str, Mapping[str, object]], inventory_hostname: str
) -> dict[str, object]:
    """See DOCUMENTATION."""
    name = store.get("host")
    if not name:
        return dict(store)
    if name == inventory_hostname:
        return {key: value for key, value in store.items() if key not in _LOGIN}
    if name not in hostvars:
        return dict(store)
    known = hostvars[str(name)]
    resolved = {**store, "host": _first(known, _HOST) or name}
    for option, variables in (("port", _PORT), ("user", _USER)):
        value = store.get(option) or _first(known, variables)
        if value:
            resolved[option] = value
    return resolved


def _first(known: Mapping[str, object], variables: tuple[str, ...]) -> object:
    return next((known[variable] for variable in variables if known.get(variable)), None)


class FilterModule:
    """What Ansible asks a file of filters for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """The filters by name."""
        return {"resolve_store": resolve_store}
