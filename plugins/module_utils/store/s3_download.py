# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one S3 object to its last byte: a connection that fails is taken up again where it broke off.

The ETag of the first answer goes with every later request, so that the bytes are all of one object.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import s3_failures as failures

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

CHUNK = 1024 * 1024
# so much progress, in bytes, makes the failures before it forgotten
PROGRESS = 16 * 1024 * 1024


class _EndedEarlyError(Exception):
    """The server closed an answer before the length it had promised."""


class Download:
    """One get of one object. name is the full key in the bucket; key and url are for messages."""

    def __init__(self, client: S3Client, bucket: str, name: str, key: str, url: str, retries: int) -> None:
        self._client = client
        self._bucket = bucket
        self._name = name
        self._key = key
        self._url = url
        self._retries = retries
        self._delivered = 0
        self._answer = self._first()
        self._length = self._answer["ContentLength"]
        self._etag = self._answer["ETag"]

    def close(self) -> None:
        """Give up the connection."""
        self._answer["Body"].close()

    def chunks(self) -> Iterator[bytes]:
        """The object's bytes. Raises OpsError object_damaged, object_missing, store_unreachable."""
        failed, failed_at = 0, 0
        while self._delivered < self._length:
            try:
                yield self._read()
            except _errors() as error:
                self.close()
                failed = failed + 1 if self._delivered - failed_at < PROGRESS else 1
                failed_at = self._delivered
                self._resume(failed, error)

    def _read(self) -> bytes:
        chunk: bytes = self._answer["Body"].read(min(CHUNK, self._length - self._delivered))
        if not chunk:  # urllib3 before 2.0 does not raise by itself
            raise _EndedEarlyError
        self._delivered += len(chunk)
        return chunk

    def _first(self) -> GetObjectOutputTypeDef:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._name)
        except (BotoCoreError, ClientError) as error:
            if failures.code_of(error) in failures.MISSING:
                raise failures.object_missing(self._url, self._key) from error
            raise self._explained(error) from error

    def _resume(self, failed: int, error: Exception) -> None:
        """Ask for the rest; `failed` is how often in a row that went wrong, `error` what the last time was."""
        from botocore.exceptions import BotoCoreError, ClientError

        while True:
            if failed > self._retries:
                raise self._explained(error) from error
            time.sleep(min(0.1 * 2**failed, 5.0))
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=self._name, Range=f"bytes={self._delivered}-", IfMatch=self._etag
                )
            except (BotoCoreError, ClientError) as again:
                if failures.refused_for_good(again):
                    raise failures.object_damaged(
                        self._url, self._key, f"was removed or changed after {self._delivered} bytes were read"
                    ) from again
                failed, error = failed + 1, again
                continue
            if answer.get("ContentRange", "").startswith(f"bytes {self._delivered}-"):
                self._answer = answer
                return
            answer["Body"].close()
            raise failures.object_damaged(
                self._url, self._key, f"broke off after {self._delivered} bytes, and its rest cannot be asked for"
            ) from error

    def _explained(self, error: Exception) -> OpsError:
        """The store's failure, or the object's when the store answers everything else."""
        if isinstance(error, _EndedEarlyError) or type(error).__name__ == "IncompleteReadError":
            how = f"ended after {self._delivered} of {self._length} bytes, again and again"
            return failures.object_damaged(self._url, self._key, how)
        if self._is_only_this():
            what = failures.code_of(error) or type(error).__name__
            how = f"cannot be read from byte {self._delivered} on, while the store answers otherwise ({what})"
            return failures.object_damaged(self._url, self._key, how)
        return failures.from_s3(error, self._url, f"reading {self._key}")

    def _is_only_this(self) -> bool:
        """Whether the store still lists this object, so that its trouble is the object's alone."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._name, MaxKeys=1)
        except (BotoCoreError, ClientError):
            return False
        return bool(answer.get("Contents"))


def _errors() -> tuple[type[Exception], ...]:
    """What reading a body raises when the connection fails."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    return (_EndedEarlyError, BotoCoreError, ClientError, HTTPError, OSError)
