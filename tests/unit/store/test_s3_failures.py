# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_failures import from_s3

URL = "s3://bucket/prefix at https://s3.example.com"


def answer(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("code", "status", "writing", "expected"),
    [
        ("NoSuchBucket", 404, False, "bucket_missing"),
        ("NoSuchBucket", 404, True, "bucket_missing"),
        ("AccessDenied", 403, False, "store_denied"),
        ("AccessDenied", 403, True, "store_not_writable"),
        ("MethodNotAllowed", 405, True, "store_not_writable"),
        ("InvalidAccessKeyId", 403, True, "store_denied"),
        ("SignatureDoesNotMatch", 403, True, "store_denied"),
        ("ExpiredToken", 400, True, "store_denied"),
        ("RequestTimeTooSkewed", 403, False, "store_denied"),
        ("XMinioStorageFull", 507, True, "store_full"),
        ("QuotaExceeded", 403, True, "store_full"),
        ("ServiceUnavailable", 503, False, "store_unreachable"),
        ("SlowDown", 503, True, "store_unreachable"),
        ("InternalError", 500, True, "store_unreachable"),
        ("BadDigest", 400, True, "store_unreachable"),
        ("PermanentRedirect", 301, False, "store_unreachable"),
        ("AuthorizationHeaderMalformed", 400, False, "store_unreachable"),
        ("InvalidRequest", 400, True, "store_refused"),
    ],
)
def test_an_answer_of_the_server_has_a_code(code: str, status: int, writing: bool, expected: str) -> None:
    error = from_s3(answer(code, status), URL, "writing a", writing=writing)
    assert error.code == expected
    assert URL in error.cause
    assert error.remedy.endswith(".")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EndpointConnectionError(endpoint_url="https://s3.example.com"), "store_unreachable"),
        (ConnectTimeoutError(endpoint_url="https://s3.example.com"), "store_unreachable"),
        (ReadTimeoutError(endpoint_url="https://s3.example.com"), "store_unreachable"),
        (
            SSLError(endpoint_url="https://s3.example.com", error=ValueError("self-signed certificate")),
            "store_unreachable",
        ),
        (NoCredentialsError(), "store_denied"),
        (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "store_denied"),
    ],
)
def test_no_answer_of_the_server_has_a_code(error: Exception, expected: str) -> None:
    assert from_s3(error, URL, "listing").code == expected


def test_a_refused_certificate_is_told_with_the_option_that_helps() -> None:
    error = from_s3(SSLError(endpoint_url="https://x", error=ValueError("self-signed certificate")), URL, "listing")
    assert "self-signed certificate" in error.cause
    assert "ca_bundle" in error.remedy
