# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two scripts are the same when every entry is, whatever the order of entries and rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.script import compare_scripts, digest_script

TABLE = """-- Name: t; Type: TABLE; Schema: s; Owner: o
--

SET default_tablespace = '';

CREATE TABLE "s"."t" (
    "a" integer,
    "b" text
);

"""
DATA = """-- Data for Name: t; Type: TABLE DATA; Schema: s; Owner: o
--

COPY "s"."t" ("a", "b") FROM stdin;
1\tx
2\ty
\\.


"""
GRANT = '-- Name: TABLE "t"; Type: ACL; Schema: s; Owner: o\n--\n\nGRANT SELECT ON TABLE "s"."t" TO "r";\n\n'
SEQUENCE = """-- Name: q; Type: SEQUENCE SET; Schema: s; Owner: o
--

SELECT pg_catalog.setval('"s"."q"', 7, true);

"""
HEAD = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET statement_timeout = 0;\n"


def lines(*entries: str) -> Iterator[bytes]:
    return iter((HEAD + "".join("--\n" + entry for entry in entries)).encode().splitlines(keepends=True))


TURNED = TABLE.replace('"a" integer,\n    "b" text', '"b" text,\n    "a" integer')
WHOLE = (TABLE, DATA, GRANT, SEQUENCE)


@pytest.mark.parametrize(
    "same",
    [
        WHOLE,
        (SEQUENCE, TABLE, GRANT, DATA),
        (TABLE.replace("SET default_tablespace = '';\n\n", ""), DATA, GRANT, SEQUENCE),
        (TABLE, DATA.replace("1\tx\n2\ty\n", "2\ty\n1\tx\n"), GRANT, SEQUENCE),
    ],
    ids=["identical", "entries-in-another-order", "floating-set", "rows-in-another-order"],
)
def test_what_does_not_matter_is_no_difference(same: tuple[str, ...]) -> None:
    assert compare_scripts(digest_script(lines(*WHOLE)), digest_script(lines(*same))) == []


@pytest.mark.parametrize(
    ("other", "kinds"),
    [
        ((TABLE, DATA, SEQUENCE), ["missing"]),
        ((TABLE, DATA.replace("2\ty\n", "2\tz\n"), GRANT, SEQUENCE), ["changed"]),
        ((TABLE, DATA.replace("2\ty\n", ""), GRANT, SEQUENCE), ["lines"]),
        ((TABLE, DATA, GRANT, SEQUENCE.replace("7", "6")), ["changed"]),
        (
            (TURNED, DATA, GRANT, SEQUENCE),
            ["changed"],
        ),
        ((*WHOLE, GRANT.replace('TABLE "t"', 'TABLE "u"')), ["surplus"]),
        ((TABLE, DATA, GRANT.replace("Owner: o", "Owner: p"), SEQUENCE), ["missing", "surplus"]),
    ],
    ids=["grant", "value", "row", "sequence", "column-order", "surplus", "owner"],
)
def test_what_matters_is_named(other: tuple[str, ...], kinds: list[str]) -> None:
    found = compare_scripts(digest_script(lines(*WHOLE)), digest_script(lines(*other)))
    assert [item.kind for item in found] == kinds
