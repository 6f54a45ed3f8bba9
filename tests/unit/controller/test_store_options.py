# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option store as Ansible takes it and as its documentation tells it."""

from __future__ import annotations

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.saasops.runbook.plugins.doc_fragments.store import ModuleDocFragment
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import (
    COPIES_SPEC,
    STORE_SPEC,
    STORES,
    open_store,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3 import S3Store

CREDENTIALS = {"access_key", "secret_key", "session_token"}


def validated(store: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    result = ArgumentSpecValidator(STORE_SPEC).validate({"store": store})
    return result.validated_parameters["store"], result.error_messages


def test_a_path_alone_names_a_folder() -> None:
    params, errors = validated({"path": "/srv/backups"})
    assert not errors
    store = open_store(params)
    assert isinstance(store, PosixStore)
    assert store.url == "/srv/backups"


def test_a_bucket_of_type_s3_names_a_bucket() -> None:
    params, errors = validated({"type": "s3", "bucket": "b", "prefix": "/podcastflow/"})
    assert not errors
    store = open_store(params)
    assert isinstance(store, S3Store)
    assert store.url.startswith("s3://b/")


@pytest.mark.parametrize(
    "store",
    [
        {},
        {"type": "s3"},
        {"type": "posix", "bucket": "b"},
        {"type": "ftp"},
        {"type": "s3", "bucket": "b", "access_key": "a"},
    ],
)
def test_an_incomplete_store_is_refused_by_its_options(store: dict[str, object]) -> None:
    assert validated(store)[1]


@pytest.mark.parametrize(
    ("option", "text", "spec"),
    [("store", ModuleDocFragment.DOCUMENTATION, STORE_SPEC), ("copies", ModuleDocFragment.COPIES, COPIES_SPEC)],
)
def test_the_documentation_has_the_options_of_the_specification(
    option: str, text: str, spec: dict[str, dict[str, object]]
) -> None:
    documented = yaml.safe_load(text)["options"][option]["suboptions"]
    specified = spec[option]["options"]
    assert isinstance(specified, dict)
    assert set(documented) == set(specified)
    for name, option in specified.items():
        assert documented[name]["type"] == option["type"], name
        assert documented[name].get("default") == option.get("default"), name
        assert documented[name].get("choices") == option.get("choices"), name
    assert set(STORES) == set(specified["type"]["choices"])


def test_every_credential_is_kept_out_of_logs() -> None:
    specified = STORE_SPEC["store"]["options"]
    assert isinstance(specified, dict)
    assert {name for name, option in specified.items() if option.get("no_log")} == CREDENTIALS
