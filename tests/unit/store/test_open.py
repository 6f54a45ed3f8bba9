# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import open_store

SECRETS = {"access_key": "AKIASEEN", "secret_key": "secret-seen", "session_token": "token-seen"}


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
