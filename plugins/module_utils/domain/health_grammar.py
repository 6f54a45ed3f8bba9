# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a threshold, parsed; never evaluated as code.

    expression := term {"or" term}
    term       := factor {"and" factor}
    factor     := primary ["for" duration]
    primary    := "(" expression ")" | comparison | trend
    comparison := operator literal | ["not"] "between" quantity "and" quantity
    trend      := ("rises" | "falls") "by" [">" | ">="] quantity "in" duration
    operator   := ">" | ">=" | "<" | "<=" | "==" | "=" | "!="
    literal    := quantity | 'text' | "text" | true | false
    quantity   := number [unit]          duration := number unit {number unit}

A quantity's unit is turned into the check's. In a trend "%" means percent of the older value.
Three answers: true, false, and None where the history or the kind of value does not tell.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import (
    Between,
    Comparison,
    Held,
    Joined,
    Literal,
    Quantity,
    Threshold,
    Trend,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import DIMENSIONS, factor

LONGEST = 500  # characters of an expression
DEEPEST = 20  # brackets inside brackets


@functools.lru_cache(maxsize=1024)
def parse_threshold(text: str, unit: str = "", hold: str = "", option: str = "threshold") -> Threshold:
    """The expression of a text for values of this unit, held for as long as hold says ("10m", "" not at all).

    Raises OpsError bad_threshold with the position; option names where the text stands.
    """
    whole = _Parser(text, unit, option).whole()
    if not hold.strip():
        return whole
    return Held(whole, _Parser(hold, unit, f"{option}, its hold").only_duration())


_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![\d.])"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign>>=|<=|==|!=|[<>=()])|(?P<word>%|[A-Za-z_][A-Za-z_]*))"
)
_KEYWORDS = ("and", "or", "for", "in", "by", "not", "between", "rises", "falls", "true", "false")


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Reads one text from left to right."""

    def __init__(self, text: str, unit: str, option: str) -> None:
        self._text, self._unit, self._option = text, unit, option
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def whole(self) -> Threshold:
        found = self._expression()
        self._end()
        return found

    def only_duration(self) -> int:
        seconds = self._duration()
        self._end()
        return seconds

    def _split(self) -> list[_Token]:
        if len(self._text) > LONGEST:
            raise self._refuse(LONGEST, f"is longer than {LONGEST} characters")
        tokens: list[_Token] = []
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if not match or match.lastgroup is None:
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._refuse(at, f"does not go on with {self._text[at]!r}")
            tokens.append(_Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
            at = match.end()
        tokens.append(_Token("end", "", len(self._text)))
        return tokens

    def _refuse(self, at: int, what: str) -> OpsError:
        return OpsError(
            "bad_threshold",
            f"{self._option}: {self._text[:LONGEST]!r} {what} at position {at + 1}.",
            'Write what means trouble, for instance "> 80 %", "> 5 min for 10m", "!= \'ok\'",'
            ' "not between 5 and 10" or "rises by > 20 % in 24h".',
            {"option": self._option, "threshold": self._text[:LONGEST], "position": at + 1},
        )

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> str:
        """The token when it is one of these signs or words, otherwise nothing."""
        token = self._token
        if token.kind in ("sign", "word") and token.text in texts:
            self._next += 1
            return token.text
        return ""

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._unexpected(f'"{text}"')

    def _unexpected(self, wanted: str) -> OpsError:
        token = self._token
        got = f"{token.text!r} stands" if token.kind != "end" else "it ends"
        return self._refuse(token.at, f"needs {wanted} where {got}")

    def _end(self) -> None:
        if self._token.kind != "end":
            raise self._unexpected('its end, "and", "or" or "for"')

    def _expression(self) -> Threshold:
        return self._joined("or", lambda: self._joined("and", self._factor))

    def _joined(self, word: str, part: Callable[[], Threshold]) -> Threshold:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        flat: list[Threshold] = []
        for item in parts:
            flat += item.parts if isinstance(item, Joined) and item.word == word else [item]
        return flat[0] if len(flat) == 1 else Joined(word, tuple(flat))

    def _factor(self) -> Threshold:
        found = self._primary()
        while self._take("for"):
            found = Held(found, self._duration())
        return found

    def _primary(self) -> Threshold:
        if self._take("("):
            self._depth += 1
            if self._depth > DEEPEST:
                raise self._refuse(self._token.at, "has too many brackets inside brackets")
            found = self._expression()
            self._need(")")
            self._depth -= 1
            return found
        trend = self._take("rises", "falls")
        if trend:
            self._need("by")
            sign = self._take(">", ">=") or ">="
            by = self._quantity(trend=True)
            self._need("in")
            return Trend(trend == "rises", sign, by, self._duration())
        outside = bool(self._take("not"))
        if outside or self._token.text == "between":
            self._need("between")
            at = self._token.at
            low = self._quantity()
            self._need("and")
            high = self._quantity()
            if low.number > high.number:
                raise self._refuse(at, "has its ends the wrong way round")
            return Between(low, high, not outside)
        sign = self._take(">", ">=", "<", "<=", "==", "=", "!=")
        if not sign:
            raise self._unexpected("a comparison (>, >=, <, <=, ==, !=, between, rises, falls)")
        sign = "==" if sign == "=" else sign
        return Comparison(sign, self._literal(sign))

    def _literal(self, sign: str) -> Literal:
        token = self._token
        if token.kind == "text" or token.text in ("true", "false"):
            if sign not in ("==", "!="):
                raise self._refuse(token.at, f"compares {token.text} by {sign}, which only numbers can be,")
            self._next += 1
            return token.text[1:-1] if token.kind == "text" else token.text == "true"
        return self._quantity()

    def _quantity(self, trend: bool = False) -> Quantity:
        token = self._token
        if token.kind != "number":
            raise self._unexpected("a number")
        self._next += 1
        number = Fraction(token.text)
        unit = self._token
        if unit.kind != "word" or unit.text in _KEYWORDS:
            return Quantity(self._float(number, token.at), text=token.text)
        self._next += 1
        text = f"{token.text} {unit.text}"
        if trend and unit.text == "%":
            return Quantity(self._float(number, token.at), percent=True, text=text)
        times = factor(unit.text, self._unit)
        if times is None:
            own = f"are in {self._unit}" if self._unit else "have no unit"
            raise self._refuse(unit.at, f"has the unit {unit.text!r}, while the check's values {own},")
        return Quantity(self._float(number * times, token.at), text=text)

    def _float(self, number: Fraction, at: int) -> float:
        try:
            return float(number)
        except OverflowError:
            raise self._refuse(at, "has a number that is too large") from None

    def _duration(self) -> int:
        at, seconds = self._token.at, Fraction(0)
        while self._token.kind == "number":
            number = Fraction(self._token.text)
            self._next += 1
            unit = DIMENSIONS["time"].get(self._token.text)
            if unit is None:
                raise self._unexpected("a unit of time (s, m, h, d, w)")
            self._next += 1
            seconds += number * unit
        if not 1 <= seconds <= 400 * 86400:
            raise self._refuse(at, "needs a length of time between 1s and 400d, for instance 10m,")
        return int(seconds)
