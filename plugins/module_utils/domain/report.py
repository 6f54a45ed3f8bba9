# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables as a person reads them on a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """text on one line: what would move the cursor or hide is shown as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Aligned lines, the heads first; columns that are empty in every row are left out.

    right names the heads of the columns that are aligned to the right (numbers).
    """
    clean = [[printable(cell) for cell in row] for row in rows]
    used = [index for index in range(len(heads)) if any(row[index] for row in clean)]
    widths = {index: max(len(heads[index]), *(len(row[index]) for row in clean)) for index in used}

    def line(cells: Sequence[str]) -> str:
        padded = [
            cells[index].rjust(widths[index]) if heads[index] in right else cells[index].ljust(widths[index])
            for index in used
        ]
        return "  ".join(padded).rstrip()

    return [line(heads), *(line(row) for row in clean)] if clean else []
