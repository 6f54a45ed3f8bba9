# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken out before anything is written down for good."""

from __future__ import annotations

import json

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.redact import (
    LONGEST_TEXT,
    clean,
    clean_text,
    looks_secret,
    secret_values,
)

SECRET = "hunter2hunter2"


NAMES = """
password db_password PGPASSWORD login_passwd DATABASE_PASSWORD pass unseal_passphrase apiKey api_key APIKEY access_key
SECRET_KEY ssh_key my_private_key secret client-secret authToken token tokens credentials Authorization cookie dsn
connection_string
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    ["bypass", "passed", "key", "keys", "class", "PGPASSFILE", "author", "tokenizer", "compass", "public_key", "user"],
)
def test_names_that_only_resemble_one(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}",
        f"  db_password: '{SECRET}'",
        f'{{"apiKey": "{SECRET}", "user": "u"}}',
        f"postgresql://shop:{SECRET}@db/shop",
        f"ALTER ROLE shop PASSWORD '{SECRET}'",
        f"mysql IDENTIFIED BY '{SECRET}'",
        f"curl --token {SECRET} https://x",
        f"Authorization: Bearer {SECRET}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        f"env PGPASSWORD={SECRET} psql",
        f"secret = a long one of several words {SECRET}",
    ],
)
def test_a_text_loses_its_secret(text: str) -> None:
    assert SECRET not in clean_text(text)


def test_a_text_without_a_secret_stays_as_it_is() -> None:
    text = "Set 20261122T201747Z-1a2b3c4d: 12 tables, 82,000 rows.\nhost: db1, user=shop, url https://x/y?z=1"
    assert clean_text(text) == text


def test_known_values_are_taken_out_wherever_they_stand() -> None:
    assert clean_text(f"log in failed for {SECRET}!", [SECRET]) == "log in failed for <redacted>!"


def test_strict_takes_out_long_random_words_and_leaves_paths() -> None:
    random = "wJalrXUtnFEMI7K8MDENGbPxRfiCYEXAMPLEKEY"
    assert random not in clean_text(f"value {random}", strict=True)
    assert clean_text("/etc/systemd/system/postgresql.service", strict=True) == "/etc/systemd/system/postgresql.service"


def test_a_mapping_loses_the_values_under_secret_names_at_any_depth() -> None:
    cleaned = clean({"a": [{"login_password": SECRET, "user": "u"}], "token": [SECRET], "password": None, "n": 3})
    assert cleaned == {
        "a": [{"login_password": "<redacted>", "user": "u"}],
        "token": "<redacted>",
        "password": None,
        "n": 3,
    }


def test_the_values_under_secret_names_are_known() -> None:
    found = secret_values({"module_args": {"password": SECRET, "env": [{"API_KEY": ["abcdefgh", "x"]}], "user": "u"}})
    assert found == {SECRET, "abcdefgh"}


@pytest.mark.parametrize("value", ["x" * 50_000, ["x" * 5000] * 500, {str(n): "y" * 3000 for n in range(500)}])
def test_long_values_are_cut(value: object) -> None:
    assert len(clean_text("x" * 50_000)) == LONGEST_TEXT
    assert len(json.dumps(clean(value))) < 300_000


def test_what_is_not_json_becomes_text() -> None:
    assert clean({"nan": float("nan"), "set": {"b", "a"}, 3: object}) == {
        "nan": "nan",
        "set": ["a", "b"],
        "3": str(object),
    }
