# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An object store in a bucket of S3, at AWS or at any endpoint that speaks it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store import s3_failures as failures
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.keys import check_key, check_prefix, valid_key
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_client import Address, Clients, connect
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_download import Download
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_upload import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ErrorTypeDef

BATCH = 1000
PROBES = "probes/"


class S3Store:
    """Objects below a prefix of a bucket. Safe to use from several threads; nothing is sent before it is used."""

    def __init__(self, address: Address) -> None:
        address.check()
        self._address = address
        self._bucket = address.bucket
        prefix = address.prefix.strip("/")
        self._prefix = check_prefix(prefix + "/") if prefix else ""
        self._lock = threading.Lock()
        self._made: Clients | None = None
        self._proven: set[bool] = set()  # that conditions hold: for whole objects (False), for parts (True)

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    @property
    def url(self) -> str:
        return self._address.url

    def check(self, write: bool) -> None:
        # a listing first: some servers create a bucket that something is put into
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except self._errors as error:
            raise self._failed(error, "listing") from error
        if write:
            self._proven.clear()
            self._prove_conditions(in_parts=False)

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        check_key(key)
        if if_absent:
            self._prove_conditions(in_parts=False)
            if self._exists(key):
                raise failures.object_exists(self.url, key)
        return self._upload(key, if_absent).run(chunks)

    def get(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._reading(check_key(key))

    @contextmanager
    def _reading(self, key: str) -> Iterator[Iterator[bytes]]:
        download = Download(
            self._client, self._bucket, self._prefix + key, key, self.url, max(1, self._address.retries)
        )
        try:
            yield download.chunks()
        finally:
            download.close()

    def list(self, prefix: str) -> list[ObjectInfo]:
        check_prefix(prefix)
        found = []
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    key = entry["Key"][len(self._prefix) :]
                    if valid_key(key):
                        found.append(ObjectInfo(key, entry["Size"], entry["LastModified"].timestamp()))
        except self._errors as error:
            raise self._failed(error, "listing") from error
        return sorted(found, key=lambda info: info.key)

    def delete(self, keys: Iterable[str]) -> None:
        names = [self._prefix + check_key(key) for key in keys]
        refused: list[ErrorTypeDef] = []
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            try:
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": name} for name in batch], "Quiet": True}
                )
            except self._errors as error:
                raise self._failed(error, "deleting", writing=True) from error
            refused += [one for one in answer.get("Errors", []) if one.get("Code") not in failures.MISSING]
        if refused:
            raise self._not_deleted(refused)

    def sweep(self, prefix: str, older_than: float) -> Sequence[str]:
        check_prefix(prefix)
        removed = []
        try:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for upload in page.get("Uploads", []):
                    # some servers take the prefix for a folder or leave it out
                    if not upload["Key"].startswith(self._prefix + prefix):
                        continue
                    if upload["Initiated"].timestamp() < older_than:
                        self._abort(upload["Key"], upload["UploadId"])
                        removed.append(f"{upload['Key'][len(self._prefix) :]}?uploadId={upload['UploadId']}")
        except self._errors as error:
            raise self._failed(error, "looking for unfinished uploads", writing=True) from error
        if PROBES.startswith(prefix) or prefix.startswith(PROBES):
            left = [info.key for info in self.list(PROBES) if info.modified < older_than]
            self.delete(left)
            removed += left
        return removed

    def free_bytes(self) -> int | None:
        return None

    @property
    def _clients(self) -> Clients:
        with self._lock:
            if self._made is None:
                self._made = connect(self._address)
            return self._made

    @property
    def _client(self) -> S3Client:
        return self._clients.plain

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        from botocore.exceptions import BotoCoreError, ClientError

        return (BotoCoreError, ClientError)

    def _upload(self, key: str, if_absent: bool, *, probing: bool = False) -> Upload:
        return Upload(
            self._clients,
            self._bucket,
            self._prefix + key,
            key,
            self.url,
            if_absent=if_absent,
            before_parts=(lambda: self._prove_conditions(in_parts=True)) if if_absent and not probing else None,
        )

    def _exists(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except self._errors as error:
            # without the right to list, S3 answers 403 for an object that is not there: the put itself decides
            if failures.status_of(error) in (403, 404):
                return False
            raise self._failed(error, f"looking at {key}", writing=True) from error
        return True

    def _prove_conditions(self, *, in_parts: bool) -> None:
        """Write a probe twice: the second time must be refused. Credentials that cannot delete leave it there.

        Servers exist that honour If-None-Match on a put and ignore it when parts are put together.
        """
        if in_parts in self._proven:
            return
        key = PROBES + os.urandom(8).hex()
        self._upload(key, False).run([b"probe"])
        try:
            self._upload(key, True, probing=True).run([b"probe again"], always_in_parts=in_parts)
        except OpsError as error:
            if error.code != "object_exists":
                raise
        else:
            raise failures.unconditional(self.url)
        finally:
            with suppress(*self._errors):
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        self._proven.add(in_parts)

    def _abort(self, name: str, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)
        except self._errors as error:
            if failures.code_of(error) != "NoSuchUpload":
                raise

    def _not_deleted(self, refused: Sequence[ErrorTypeDef]) -> OpsError:
        keys = [one.get("Key", "")[len(self._prefix) :] for one in refused]
        code = refused[0].get("Code", "")
        return OpsError(
            "store_not_writable" if code == "AccessDenied" else "store_refused",
            f"The store {self.url} did not delete {len(keys)} objects ({code}): {', '.join(keys[:3])}.",
            "Give these credentials the right s3:DeleteObject there, and look for a lock or legal hold on the objects.",
            {"keys": keys[:50]},
        )

    def _failed(self, error: Exception, doing: str, *, writing: bool = False) -> OpsError:
        return failures.from_s3(error, self.url, doing, writing=writing)
