# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the options of a check's source, with refusals that name the check."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health import Measurement
from ansible_collections.saasops.runbook.plugins.module_utils.domain.health_threshold import Value
from ansible_collections.saasops.runbook.plugins.module_utils.domain.units import factor

if TYPE_CHECKING:
    from collections.abc import Callable


def bad_check(name: str, cause: str, remedy: str) -> OpsError:
    """The refusal of a check that cannot be measured as it is written."""
    return OpsError("bad_check", f"Check {name}: {cause}", remedy, {"check": name})


@dataclass(frozen=True)
class Options:
    """The options of one source of one check; timeout in seconds."""

    check: str
    given: Mapping[str, object]
    timeout: float

    def text(self, name: str) -> str:
        """ "" when it is left out."""
        value = self.given.get(name)
        return "" if value is None else str(value)

    def number(self, name: str, default: int) -> int:
        value = self.given.get(name)
        return default if value is None else int(str(value))

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.given.get(name)
        return default if value is None else bool(value)

    def texts(self, name: str) -> list[str]:
        return [str(item) for item in cast(Sequence[object], self.given.get(name) or [])]

    def mapping(self, name: str) -> dict[str, str]:
        given = cast("Mapping[object, object]", self.given.get(name) or {})
        return {str(key): str(value) for key, value in given.items()}

    def refuse(self, cause: str, remedy: str) -> OpsError:
        return bad_check(self.check, cause, remedy)

    def turned(self, natural: str, unit: str) -> float:
        """What a value in its natural unit is multiplied by to be in the check's. Raises OpsError bad_check."""
        times = factor(natural, unit or natural)
        if times is None:
            raise self.refuse(f"its value is in {natural}, which cannot be told in {unit!r}.", "Correct its unit.")
        return float(times)


@functools.lru_cache(maxsize=256)
def _compiled(expression: str) -> Callable[[object], object]:
    try:
        import jmespath
    except ImportError as error:
        raise OpsError(
            "jmespath_missing",
            "The Python library jmespath is not installed where the checks run.",
            "Install it there (python3-jmespath on Debian), or measure something that needs no JMESPath.",
        ) from error
    try:
        return cast("Callable[[object], object]", jmespath.compile(expression).search)
    except jmespath.exceptions.JMESPathError as error:
        first = str(error).partition("\n")[0]
        raise OpsError("bad_jmespath", f"{expression!r} is no JMESPath: {first[:200]}.", "See jmespath.org.") from error


def check_path(options: Options, expression: str) -> None:
    """Raises OpsError bad_check for what is no JMESPath; a missing library shows when the check is measured."""
    try:
        _compiled(expression)
    except OpsError as error:
        if error.code != "jmespath_missing":
            raise options.refuse(error.cause, error.remedy) from error


def look_up(document: object, expression: str, detail: tuple[str, ...] = ()) -> Measurement:
    """The one value that a JMESPath finds in a document. Raises OpsError jmespath_missing, bad_jmespath."""
    search = _compiled(expression)
    try:
        found = search(document)
    except Exception as error:  # noqa: BLE001 - a function of JMESPath got what it does not take
        return Measurement(missing=f"{expression} does not fit the answer: {str(error)[:200]}", detail=detail)
    if isinstance(found, (dict, list)):
        return Measurement(missing=f"{expression} finds {type(found).__name__}, not one value", detail=detail)
    if found is None:
        return Measurement(missing=f"{expression} finds nothing in the answer", detail=detail)
    return Measurement(cast(Value, found), detail=detail)
