# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.saasops.runbook.plugins.module_utils.store import s3_upload
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_upload import in_parts, part_size

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


def test_the_largest_object_of_s3_fits_into_its_ten_thousand_parts() -> None:
    assert sum(part_size(number) for number in range(10_000)) > 5 * TIB


def test_no_part_is_smaller_or_larger_than_s3_takes() -> None:
    assert {5 * MIB <= part_size(number) <= 5 * GIB for number in range(10_000)} == {True}


def test_parts_of_a_hundred_gibibytes_stay_small() -> None:
    total = number = 0
    while total < 100 * GIB:
        total += part_size(number)
        number += 1
    assert part_size(number) <= 64 * MIB


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_parts_are_the_same_bytes_and_all_but_the_last_are_full(chunks: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3_upload, "PART", 64)
        patch.setattr(s3_upload, "DOUBLE_EVERY", 3)
        parts = list(in_parts(chunks))
        full = [part_size(number) for number in range(len(parts))]
    assert b"".join(parts) == b"".join(chunks)
    assert [len(part) for part in parts[:-1]] == full[:-1]
    assert 0 < len(parts[-1]) <= full[-1] or parts == [b""]
