# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cures a finding, as data; and the one line that an operator pastes to have it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.maintenance import REWRITE
from ansible_collections.saasops.runbook.plugins.module_utils.domain.verbs import ROUTINE, VERBS

_VERB = re.compile(r"[a-z][a-z0-9_]*\Z")
# what ansible's own splitting of "-e name=value" takes as it stands
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+\Z")
_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


@dataclass(frozen=True)
class Remedy:
    """verb: a playbook of this collection, "" when there is only advice; variables: its -e; why: one sentence.

    Values may hold {scope}, {value} and names of facts in braces: what was measured takes their place (see filled).
    """

    verb: str
    variables: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    why: str = ""

    def filled(self, facts: Mapping[str, str]) -> Remedy:
        """The same with {name} replaced by the fact of that name, once: what comes in is not searched again."""

        def fill(text: str) -> str:
            return _PLACE.sub(lambda found: facts.get(found.group(1), found.group()), text)

        variables = {name: fill(item) if isinstance(item, str) else item for name, item in self.variables.items()}
        return Remedy(self.verb, variables, fill(self.why))

    def as_dict(self) -> dict[str, object]:
        """For a result."""
        return {"verb": self.verb, "variables": dict(self.variables), "why": self.why}


def check_remedy(remedy: Remedy) -> None:
    """Raises OpsError bad_remedy for a verb or a variable that is no name."""
    for name in (remedy.verb, *remedy.variables):
        if (name or remedy.variables) and not _VERB.match(name):
            raise OpsError(
                "bad_remedy",
                f"{name!r} in a remedy is no name of a verb or a variable.",
                "Write a verb of this collection and its variables, for instance"
                " {verb: sessions, variables: {policy: idle}}.",
            )


def told(remedy: Remedy) -> str:
    """Why, and what a window or freeze of the system asks for besides: who measures does not know the calendar."""
    verb = VERBS.get(remedy.verb)
    # a rewrite by VACUUM FULL is for windows only, whatever reason is given
    if verb is None or verb.verb_class != ROUTINE or remedy.variables.get("measures") == REWRITE:
        return remedy.why
    hint = "outside of the verb's windows, or in a freeze, add -e break_glass='<why>'"
    return f"{remedy.why.rstrip('.')}; {hint}" if remedy.why else hint


def command(remedy: Remedy, inventory: str | Sequence[str] = "", limit: str = "") -> str:
    """One line that is safe to paste into a shell, whatever the values hold; "" for a remedy without a verb.

    inventory: the sources of the run, in their order; limit: the host, when the inventory has several.
    A value that ansible would split goes as JSON; one that it would take for a template goes marked as text.
    Raises OpsError bad_remedy.
    """
    check_remedy(remedy)
    if not remedy.verb:
        return ""
    words = ["ansible-playbook", f"saasops.runbook.{remedy.verb}"]
    for source in [inventory] if isinstance(inventory, str) else inventory:
        words += ["-i", source] if source else []
    words += ["-l", limit] if limit else []
    for name, value in remedy.variables.items():
        words += ["-e", _extra(name, value)]
    # a terminal obeys control characters in what is pasted, quoted or not
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(shlex.quote(word) for word in words))


def _extra(name: str, value: str | int | float | bool) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if _PLAIN.match(text):
        return f"{name}={text}"
    if isinstance(value, str) and _TEMPLATE.search(value):
        return f"{{{json.dumps(name)}: !unsafe {json.dumps(value)}}}"
    return json.dumps({name: value})
