# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from ansible_collections.saasops.runbook.tests.lab import s3


def test_an_object_comes_back_as_it_was(s3_server: s3.Server) -> None:
    bucket = s3_server.create_bucket()
    body = bytes(range(256)) * 50_000
    s3_server.client().put_object(Bucket=bucket, Key="a/b c/é", Body=body)
    assert s3_server.client().get_object(Bucket=bucket, Key="a/b c/é")["Body"].read() == body


def test_a_conditional_create_refuses_to_overwrite(s3_server: s3.Server) -> None:
    bucket = s3_server.create_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3_server.client().put_object(Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*")
    assert s3_server.client().get_object(Bucket=bucket, Key="once")["Body"].read() == b"1"


def test_the_reader_may_list_and_read_but_not_write(s3_server: s3.Server) -> None:
    bucket = s3_server.create_bucket()
    s3_server.client().put_object(Bucket=bucket, Key="a", Body=b"1")
    reader = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.reader_access_key,
        aws_secret_access_key=s3_server.reader_secret_key,
    )
    assert reader.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    assert reader.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.put_object(Bucket=bucket, Key="a", Body=b"2")


def test_a_wrong_key_is_refused(s3_server: s3.Server) -> None:
    stranger = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key="wrong",
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()


def test_objects_survive_a_kill_and_a_paused_server_answers_later() -> None:
    with s3.running() as server:
        bucket = server.create_bucket()
        server.client().put_object(Bucket=bucket, Key="kept", Body=b"1")
        server.kill()
        server.start()
        assert server.client().get_object(Bucket=bucket, Key="kept")["Body"].read() == b"1"
        server.pause()
        hasty = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(read_timeout=1, retries={"total_max_attempts": 1}),
        )
        with pytest.raises(ReadTimeoutError):
            hasty.list_buckets()
        server.resume()
        assert server.client().list_buckets()["Buckets"]
