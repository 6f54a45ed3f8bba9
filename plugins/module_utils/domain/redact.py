# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep secrets and long texts out of what is written down for good.

A name tells whether a value is secret; a text is searched for such names, for keys in PEM and for passwords in
addresses. What nothing marks as a secret cannot be known as one: texts of unknown origin are read with strict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import Json

REDACTED = "<redacted>"
LONGEST_TEXT = 2000  # characters of one value
LONGEST_LIST = 100  # elements of one list or mapping
DEEPEST = 6

_SECRET_WORDS = {
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "dsn",
    "pass",
    "passphrase",
    "pgpass",
    "pwd",
    "tokens",
    "secrets",
    "passwords",
}
_SECRET_ENDS = ("password", "passwd", "passphrase", "secret", "token", "apikey", "privatekey")
_KEYS = {"access", "api", "encryption", "private", "secret", "service", "session", "signing", "ssh"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# a word is tried from its beginning only, which keeps the time linear in the length of a text
_NAMED = re.compile(r"(?<![\w.])(?:--)?([A-Za-z_][\w.-]*)[\"']?\s*[:=]\s*(?=\S)|(?<!\S)--([A-Za-z][\w-]*)\s+(?=\S)")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL)
_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@")
_SPOKEN = re.compile(r"(?i)\b(password|identified\s+by|bearer|basic)\s+(?:'[^']*'|\"[^\"]*\"|[A-Za-z0-9+/=._~-]{16,})")
_TOKEN = re.compile(r"[A-Za-z0-9+/=_~-]{20,}")
_LEAST_ENTROPY = 3.5  # bits a character; words and paths of lower case lie below, random keys above


def looks_secret(name: str) -> bool:
    """Whether a value of this name is one to keep: password, db_passwd, PGPASSWORD, apiKey, access_key, authToken."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words):
        return True
    if any(second in ("key", "keys") and first in _KEYS for first, second in zip(words, words[1:])):
        return True
    return "connectionstring" in "".join(words)


def secret_values(value: object, depth: int = 0) -> set[str]:
    """The texts of at least four characters that stand under a secret name anywhere in a mapping."""
    found: set[str] = set()
    if depth > DEEPEST:
        return found
    if isinstance(value, Mapping):
        for name, inner in value.items():
            found |= _texts(inner) if looks_secret(str(name)) else secret_values(inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value[:LONGEST_LIST]:
            found |= secret_values(inner, depth + 1)
    return found


def _texts(value: object, depth: int = 0) -> set[str]:
    if depth > DEEPEST:
        return set()
    if isinstance(value, Mapping):
        return set().union(*(_texts(inner, depth + 1) for inner in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(_texts(inner, depth + 1) for inner in value))
    text = str(value)
    return {text} if len(text) >= 4 and not isinstance(value, bool) and value is not None else set()


def _entropy(text: str) -> float:
    counts = [text.count(char) / len(text) for char in set(text)]
    return -sum(share * math.log2(share) for share in counts)


def _random(text: str) -> bool:
    """Whether a long word without a space looks like a key: letters and digits mixed without order."""
    return any(char.isdigit() for char in text) and _entropy(text) >= _LEAST_ENTROPY


def clean_text(text: str, known: Iterable[str] = (), strict: bool = False, limit: int = LONGEST_TEXT) -> str:
    """text without secrets, cut after limit characters.

    known are secret values themselves; strict also takes out long random words.
    """
    whole = text
    for value in sorted(known, key=len, reverse=True):
        whole = whole.replace(value, REDACTED)
    cut = whole[: limit * 2]
    if len(whole) > len(cut) and not cut[-1].isspace():
        cut = " ".join(cut.rsplit(None, 1)[:-1]) or cut  # a password of an address must not lose the @ that tells it
    cut = _PEM.sub(REDACTED, cut)
    cut = _ADDRESS.sub(rf"\1:{REDACTED}@", cut)
    cut = _SPOKEN.sub(rf"\1 {REDACTED}", cut)
    cut = "\n".join(_line(line) for line in cut.split("\n"))
    if strict:
        cut = _TOKEN.sub(lambda found: REDACTED if _random(found.group()) else found.group(), cut)
    return cut if len(cut) <= limit and len(whole) <= limit * 2 else cut[: limit - 1] + "…"


def _line(line: str) -> str:
    """One line whose rest after a secret name is taken out: nobody knows where an unquoted value ends."""
    for found in _NAMED.finditer(line):
        if looks_secret(found.group(1) or found.group(2)):
            return line[: found.end()] + REDACTED
    return line


def clean(value: object, known: Iterable[str] = (), depth: int = 0) -> Json:
    """value as JSON without secrets: those under secret names, and those that a text carries; cut where long."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        pairs = [(str(name)[:200], inner) for name, inner in value.items()][:LONGEST_LIST]
        return {
            name: REDACTED
            if looks_secret(name) and inner not in (None, "", False, True)
            else clean(inner, known, depth + 1)
            for name, inner in pairs
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        return [clean(inner, known, depth + 1) for inner in items[:LONGEST_LIST]]
    return clean_text(str(value), known)
