# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drafted inventory: what is known as YAML, what must be filled in as comments. Written by hand, because comments
are half of it and a managed host has no YAML library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.report import printable

Value = object
_PLAIN = re.compile(r"[A-Za-z/~][A-Za-z0-9_./@+-]*")
# words that YAML 1.1 reads as something else than text
_SPECIAL = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


@dataclass(frozen=True)
class Draft:
    """One host of the inventory. variables: in this order. remarks: comments after a variable, by its name.

    open: what is not known, as comment lines.
    """

    name: str
    remark: str
    variables: Mapping[str, Value]
    remarks: Mapping[str, str] = field(default_factory=dict)
    open: tuple[str, ...] = ()


def scalar(value: Value) -> str:
    """A value in YAML's flow style: a word as it is where it is safe, otherwise in JSON's quotes."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items())
        return "{ " + inner + " }" if inner else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _SPECIAL:
            return value
        # a template in a draft would be executed: what looks like one is shut in
        quoted = json.dumps(value, ensure_ascii=True)
        return f"!unsafe {quoted}" if "{{" in value or "{%" in value else quoted
    return json.dumps(value)


def host_name(wanted: str, taken: Sequence[str]) -> str:
    """A name for an inventory host made from a database's or container's: letters, digits, - and _, not taken yet."""
    base = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted).strip("_-") or "database"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def render(heading: Sequence[str], drafts: Sequence[Draft]) -> str:
    """The inventory's text: valid YAML, also without any host."""
    lines = [f"# {printable(line)}" for line in heading]
    lines += ["all:", "  hosts:" if drafts else "  hosts: {}"]
    for draft in drafts:
        lines.append(f"    {scalar(draft.name)}:" + (f"  # {printable(draft.remark)}" if draft.remark else ""))
        for name, value in draft.variables.items():
            remark = draft.remarks.get(name, "")
            lines.append(f"      {name}: {scalar(value)}" + (f"  # {printable(remark)}" if remark else ""))
        lines += [f"      # {printable(line)}" for line in draft.open]
    return "\n".join(lines) + "\n"
