# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named parameters become literals where SQL asks for them, and nowhere else."""

from __future__ import annotations

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.bind import bind, names_in

VALUES = {"id": ("bigint", "17"), "note": ("text", "it's \\ :id"), "none": ("text", None)}

CASES = [
    ("a = :id", "a =  ('17'::bigint)"),
    ("a=:id", "a= ('17'::bigint)"),
    (":note", " (E'it''s \\\\ :id'::text)"),
    (":none", " (NULL::text)"),
    ("a::text = ':id'", "a::text = ':id'"),
    ('":id" -- :id\n/* :id */ $$ :id $$ $x$ :id $$ $x$', '":id" -- :id\n/* :id */ $$ :id $$ $x$ :id $$ $x$'),
    ("E'\\':id' || :id", "E'\\':id' ||  ('17'::bigint)"),
    ("x[1:2]", "x[1:2]"),
]


@pytest.mark.parametrize(("sql", "bound"), CASES)
def test_a_parameter_is_bound_outside_of_quotes_and_comments_alone(sql: str, bound: str) -> None:
    assert bind(sql, VALUES) == bound


def test_a_parameter_that_is_not_declared_is_refused() -> None:
    assert names_in("a = :other AND b = ':id'") == {"other"}
    with pytest.raises(OpsError) as caught:
        bind("a = :other", VALUES)
    assert caught.value.code == "parameter_unknown"
