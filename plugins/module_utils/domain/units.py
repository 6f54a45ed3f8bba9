# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of measured values, and numbers with them as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from ansible_collections.saasops.runbook.plugins.module_utils.domain.durations import human_duration, human_size

# dimension -> unit -> how many of the dimension's base (s, B, 1) it is
DIMENSIONS: Mapping[str, Mapping[str, Fraction]] = {
    "time": {
        "us": Fraction(1, 1_000_000),
        "ms": Fraction(1, 1000),
        "s": Fraction(1),
        "m": Fraction(60),
        "min": Fraction(60),
        "h": Fraction(3600),
        "d": Fraction(86400),
        "w": Fraction(604800),
    },
    "size": {
        "B": Fraction(1),
        "kB": Fraction(10**3),
        "MB": Fraction(10**6),
        "GB": Fraction(10**9),
        "TB": Fraction(10**12),
        "KiB": Fraction(2**10),
        "MiB": Fraction(2**20),
        "GiB": Fraction(2**30),
        "TiB": Fraction(2**40),
    },
    "share": {"%": Fraction(1, 100), "ratio": Fraction(1)},
}
# significant digits: a threshold has fewer
ROUND = 4
_DIMENSION = {unit: name for name, units in DIMENSIONS.items() for unit in units}


def factor(unit: str, into: str) -> Fraction | None:
    """How many `into` one `unit` is: factor("min", "s") is 60; None when they are no units of one kind."""
    if unit == into:
        return Fraction(1)
    kind = _DIMENSION.get(unit)
    if kind is None or kind != _DIMENSION.get(into):
        return None
    return DIMENSIONS[kind][unit] / DIMENSIONS[kind][into]


def shown(value: bool | int | float | str | None, unit: str) -> str:
    """A value for a sentence: "82.5 %", "7200 s (2 h)", "'stopped'"; exact enough to be held against a threshold."""
    if value is None:
        return "no value"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = repr(value)
        return text if len(text) <= 120 else text[:117] + "..."
    number = plain(value)
    text = f"{number} {unit}" if unit else number
    seconds, size = factor(unit, "s"), factor(unit, "B")
    if seconds is not None and abs(value) * seconds >= 120 and abs(value) < 1e12:
        return f"{text} ({human_duration(float(value * float(seconds)))})"
    if size is not None and size == 1 and abs(value) >= 10_000 and abs(value) < 1e24:
        return f"{text} ({human_size(value)})"
    return text


def plain(value: int | float) -> str:
    """Digits without an exponent where they fit: 33.33, 3, 1234567.

    Four digits are enough to read, but not for 80.0001: who sees 80 beside a threshold of > 80 does not believe it.
    """
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else f"{float(value):.6g}"
    if abs(value) >= 1e15 or math.isnan(value):
        return f"{value:.6g}"
    short = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    round_number = len(short.partition("e")[0].replace(".", "").strip("-0")) < ROUND and float(short) != value
    return f"{value:.6g}" if round_number and abs(value) < 1e5 else short
