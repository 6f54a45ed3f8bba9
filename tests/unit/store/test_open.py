# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.saasops.runbook.plugins.doc_fragments.store import ModuleDocFragment
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC, STORES, open_store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3 import S3Store

SECRETS = {"access_key": "AKIASEEN", "secret_key": "secret-seen", "session_token": "token-seen"}


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
    ("store", "code"),
    [
        ({"path": "relative/path"}, "store_missing"),
        ({"type": "s3", "bucket": ""}, "store_address_invalid"),
        ({"type": "s3", "bucket": "b", "endpoint_url": "s3.example.com"}, "store_address_invalid"),
        ({"type": "s3", "bucket": "b", "endpoint_url": "https://me:sesame@s3.example.com"}, "store_address_invalid"),
        ({"type": "s3", "bucket": "b", "prefix": "../x"}, "bad_key"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_contacted(store: dict[str, object], code: str) -> None:
    with pytest.raises(OpsError) as caught:
        open_store(store)
    assert caught.value.code == code
    assert "sesame" not in caught.value.message


def test_no_credential_is_shown() -> None:
    store = open_store({"type": "s3", "bucket": "b", "endpoint_url": "http://127.0.0.1:1", "retries": 0, **SECRETS})
    shown = f"{store!r} {store.url}"
    with pytest.raises(OpsError) as caught:
        store.check(write=False)
    shown += f"{caught.value.message} {caught.value.details} {caught.value.__cause__}"
    assert not [secret for secret in SECRETS.values() if secret in shown]


def test_the_documentation_has_the_options_of_the_specification() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["store"]["suboptions"]
    specified = STORE_SPEC["store"]["options"]
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
    assert {name for name, option in specified.items() if option.get("no_log")} == set(SECRETS)


def test_a_folder_needs_neither_boto3_nor_zstandard(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "sys.modules.update(boto3=None, botocore=None, zstandard=None)\n"
        "from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store\n"
        "from ansible_collections.saasops.runbook.plugins.module_utils.store import pack\n"
        "open_store({'path': sys.argv[1]}).put('a', [b'x'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a").read_bytes() == b"x"


def test_without_boto3_the_remedy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(OpsError) as caught:
        open_store({"type": "s3", "bucket": "b"}).check(write=False)
    assert caught.value.code == "boto3_missing"
    assert "python3-boto3" in caught.value.remedy


def test_an_unknown_profile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(OpsError) as caught:
        open_store({"type": "s3", "bucket": "b", "profile": "nightly"}).check(write=False)
    assert caught.value.code == "store_denied"
    assert "nightly" in caught.value.cause
