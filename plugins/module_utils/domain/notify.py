# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told what of a run: the inventory's saasops_notify, and the words for Slack and PagerDuty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

EVENTS = ("start", "end", "refusal", "failure")
# by type: the Python library that sends, its package, and the keys
LIBRARIES = {"slack": ("slack_sdk", "slack-sdk"), "pagerduty": ("pagerduty", "pagerduty")}
_KEYS = {
    "slack": frozenset(("webhook_url", "token", "channel", "api_url")),
    "pagerduty": frozenset(("routing_key", "api_url")),
}
_DEFAULT_ON = {"slack": EVENTS, "pagerduty": ("failure",)}
LONGEST_SUMMARY = 1024  # characters, PagerDuty's limit
LONGEST_KEY = 255


@dataclass(frozen=True)
class Notifier:
    """One entry. settings hold secrets and are never shown."""

    type: str
    on: frozenset[str]
    settings: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Notice:
    """What happened. result: succeeded or failed, of an end; code and cause: of a refusal or a failure."""

    event: str
    system: str
    verb: str
    host: str
    operator: str
    run: str
    result: str = ""
    code: str = ""
    cause: str = ""

    @property
    def sentence(self) -> str:
        """One line, without markup."""
        what = {
            "start": "begins",
            "end": f"has {self.result}",
            "refusal": "was refused",
            "failure": "failed",
        }[self.event]
        where = f" on {self.host}" if self.host else ""
        text = f"{self.system}: {self.verb} {what}{where}"
        if self.code or self.cause:
            text += ": " + " ".join(part for part in (f"[{self.code}]" if self.code else "", self.cause) if part)
        return text

    @property
    def details(self) -> dict[str, str]:
        named = {"system": self.system, "verb": self.verb, "host": self.host, "operator": self.operator}
        return {name: text for name, text in {**named, "run": self.run, "code": self.code}.items() if text}


def _bad(number: int, cause: str) -> OpsError:
    return OpsError(
        "guard_misconfigured",
        f"saasops_notify, entry {number}: {cause}.",
        "Give type slack with webhook_url (or token and channel), or type pagerduty with routing_key; and on.",
        {"variable": "saasops_notify"},
    )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def parse_notifiers(given: object) -> tuple[Notifier, ...]:
    """From saasops_notify. Raises OpsError guard_misconfigured; values are never quoted, they may be secret."""
    if not given:
        return ()
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise _bad(1, "it is no list")
    found = []
    for number, entry in enumerate(given, 1):
        if not isinstance(entry, Mapping):
            raise _bad(number, "it is no dictionary")
        kind = str(entry.get("type"))
        if kind not in _KEYS:
            raise _bad(number, f"type is none of {', '.join(_KEYS)}")
        unknown = sorted(str(name) for name in set(entry) - _KEYS[kind] - {"type", "on"})
        if unknown:
            raise _bad(number, f"{kind} knows no {', '.join(unknown)}")
        settings = {str(name): str(entry[name]) for name in _KEYS[kind] if entry.get(name)}
        if kind == "slack" and ("webhook_url" in settings) == ("token" in settings and "channel" in settings):
            raise _bad(number, "slack needs either webhook_url, or token and channel")
        if kind == "pagerduty" and "routing_key" not in settings:
            raise _bad(number, "pagerduty needs routing_key")
        for name in ("webhook_url", "api_url"):
            if name in settings and not _is_address(settings[name]):
                raise _bad(number, f"{name} is no address")
        on = entry.get("on", _DEFAULT_ON[kind])
        if isinstance(on, str) or not isinstance(on, Sequence) or not set(on) <= set(EVENTS):
            raise _bad(number, f"on is no list of {', '.join(EVENTS)}")
        found.append(Notifier(kind, frozenset(str(event) for event in on), settings))
    return tuple(found)


def wants(notifier: Notifier, notice: Notice, told: bool) -> bool:
    """Whether this entry hears of it. told: it was told of a refusal or failure of this run already."""
    if notice.event == "end":
        good = notice.result == "succeeded"
        # what PagerDuty was told once has to be resolved once it is good again
        resolves = notifier.type == "pagerduty" and good and bool(notifier.on & {"failure", "refusal"})
        return resolves or ("end" in notifier.on and (good or not told))
    return notice.event in notifier.on


def request(notifier: Notifier, notice: Notice) -> dict[str, object]:
    """What the sender is told: type, settings, and text (Slack) or calls (PagerDuty)."""
    base: dict[str, object] = {"type": notifier.type, "settings": dict(notifier.settings)}
    if notifier.type == "slack":
        return {**base, "text": _slack(notice)}
    calls: list[dict[str, object]] = []
    key = f"saasops/{notice.system}/{notice.verb}"[:LONGEST_KEY]
    payload: dict[str, object] = {
        "summary": notice.sentence[:LONGEST_SUMMARY],
        "source": notice.host or notice.system,
        "custom_details": notice.details,
    }
    if notice.event in ("failure", "refusal"):
        severity = "error" if notice.event == "failure" else "warning"
        grouped = {"severity": severity, "component": notice.system, "group": notice.verb, "class": notice.event}
        calls.append({"kind": "trigger", "dedup_key": key, "payload": {**payload, **grouped}})
    else:
        if notice.event in notifier.on:
            calls.append({"kind": "change", "payload": payload})
        if notice.event == "end" and notice.result == "succeeded" and notifier.on & {"failure", "refusal"}:
            calls.append({"kind": "resolve", "dedup_key": key})
    return {**base, "calls": calls}


def _slack(notice: Notice) -> str:
    signs = {"start": ":arrow_forward:", "end": ":white_check_mark:", "refusal": ":no_entry:", "failure": ":x:"}
    sign = signs["failure" if notice.event == "end" and notice.result != "succeeded" else notice.event]
    said = notice.sentence.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    about = f"by {notice.operator}, run {notice.run}".replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{sign} {said}\n_{about}_"
