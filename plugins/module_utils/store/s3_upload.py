# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing one S3 object: in one request when it is small, else in parts, with bounded memory.

Each request carries Content-MD5 and a signature over the SHA-256 of its body, so that the server accepts
only what was sent. A token in the object's metadata tells our own object from another writer's when the
answer to a request was lost and the request was sent twice.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from ansible_collections.saasops.runbook.plugins.module_utils.store import s3_failures as failures
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_client import Clients, md5

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART = 8 * 1024 * 1024
# S3 takes 10,000 parts of up to 5 GiB: doubling the size every thousand reaches 8 TiB, more than an object may have
DOUBLE_EVERY = 1000
PARALLEL = 3
ATTEMPTS = 4
WRITER = "saasops-writer"


def part_size(number: int) -> int:
    """Bytes of the part with this number, counted from 0."""
    size: int = PART * 2 ** (number // DOUBLE_EVERY)
    return size


def in_parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of part_size; one empty part when there is nothing."""
    number, size = 0, 0
    held: list[memoryview] = []
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            piece = view[: part_size(number) - size]
            held.append(piece)
            size += len(piece)
            view = view[len(piece) :]
            if size == part_size(number):
                yield b"".join(held)
                held.clear()
                number, size = number + 1, 0
    if held or number == 0:
        yield b"".join(held)


def _drained(begun: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """The parts in begun, which is emptied so that no part is kept in memory longer than needed, then the rest."""
    while begun:
        yield begun.pop(0)
    yield from rest


class Upload:
    """One put of one object. name is the full key in the bucket; key and url are for messages.

    before_parts is called when the object turns out to need parts, before they are sent.
    """

    def __init__(
        self,
        clients: Clients,
        bucket: str,
        name: str,
        key: str,
        url: str,
        *,
        if_absent: bool = False,
        before_parts: Callable[[], None] | None = None,
    ) -> None:
        self._plain = clients.plain
        self._client = clients.exclusive if if_absent else clients.plain
        self._bucket = bucket
        self._name = name
        self._key = key
        self._url = url
        self._if_absent = if_absent
        self._before_parts = before_parts
        self._writer = os.urandom(8).hex()
        self._checksum = hashlib.sha256()
        self._length = 0

    def run(self, chunks: Iterable[bytes], *, always_in_parts: bool = False) -> Stored:
        """Send everything. Raises OpsError; an error of chunks passes on after the parts are aborted."""
        parts = in_parts(self._measured(chunks))
        begun = [next(parts)]
        begun.extend(islice(parts, 1))
        if len(begun) == 1 and not always_in_parts:
            self._send_whole(begun[0])
        else:
            if self._before_parts is not None:
                self._before_parts()
            self._send_parts(_drained(begun, parts))
        return Stored(self._key, self._length, self._checksum.hexdigest())

    def _measured(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._checksum.update(chunk)
            self._length += len(chunk)
            yield chunk

    def _send_whole(self, body: bytes) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._name,
                    Body=body,
                    ContentMD5=md5(body),
                    Metadata={WRITER: self._writer},
                )
                return
            except (BotoCoreError, ClientError) as error:
                if self._if_absent and failures.taken(error):
                    if self._is_ours():
                        return
                    raise failures.object_exists(self._url, self._key) from error
                code = failures.code_of(error)
                if attempt == ATTEMPTS or code not in failures.GARBLED | failures.CONFLICT:
                    raise failures.from_s3(error, self._url, f"writing {self._key}", writing=True) from error
                time.sleep(0.1 * 2**attempt)

    def _send_parts(self, parts: Iterator[bytes]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            upload_id = self._plain.create_multipart_upload(
                Bucket=self._bucket, Key=self._name, Metadata={WRITER: self._writer}
            )["UploadId"]
        except (BotoCoreError, ClientError) as error:
            raise failures.from_s3(error, self._url, f"writing {self._key}", writing=True) from error
        try:
            done = self._send_all(upload_id, parts)
            self._complete(upload_id, done)
        except BaseException:
            # what cannot be aborted now is found by sweep
            with suppress(BotoCoreError, ClientError):
                self._plain.abort_multipart_upload(Bucket=self._bucket, Key=self._name, UploadId=upload_id)
            raise

    def _send_all(self, upload_id: str, parts: Iterator[bytes]) -> list[CompletedPartTypeDef]:
        """Send the parts, PARALLEL at a time; no thread is left when this returns or raises."""
        done: list[CompletedPartTypeDef] = []
        running: set[Future[CompletedPartTypeDef]] = set()
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="saasops-s3") as pool:
            for number, body in enumerate(parts, 1):
                running.add(pool.submit(self._send_part, upload_id, number, body))
                if len(running) >= PARALLEL:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    done.extend(future.result() for future in finished)
            done.extend(future.result() for future in running)
        return sorted(done, key=lambda part: part["PartNumber"])

    def _send_part(self, upload_id: str, number: int, body: bytes) -> CompletedPartTypeDef:
        from botocore.exceptions import BotoCoreError, ClientError

        attempt = 0
        while True:
            attempt += 1
            try:
                answer = self._plain.upload_part(
                    Bucket=self._bucket,
                    Key=self._name,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=body,
                    ContentMD5=md5(body),
                )
                return {"PartNumber": number, "ETag": answer["ETag"]}
            except (BotoCoreError, ClientError) as error:
                if attempt == ATTEMPTS or failures.code_of(error) not in failures.GARBLED:
                    raise failures.from_s3(error, self._url, f"writing {self._key}", writing=True) from error
                time.sleep(0.1 * 2**attempt)

    def _complete(self, upload_id: str, parts: list[CompletedPartTypeDef]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=self._name, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        except (BotoCoreError, ClientError) as error:
            if not self._is_ours():
                if self._if_absent and (failures.taken(error) or failures.code_of(error) in failures.CONFLICT):
                    raise failures.object_exists(self._url, self._key) from error
                raise failures.from_s3(error, self._url, f"completing {self._key}", writing=True) from error
        self._look_again()

    def _look_again(self) -> None:
        """What the parts were put together to: ours, and as long as what was sent."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            length, writer = self._head()
        except (BotoCoreError, ClientError) as error:
            raise failures.from_s3(error, self._url, f"looking at {self._key}", writing=True) from error
        if writer == self._writer and length != self._length:
            raise failures.object_damaged(self._url, self._key, f"has {length} bytes instead of {self._length}")
        if writer != self._writer and self._if_absent:
            raise failures.object_exists(self._url, self._key)

    def _is_ours(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self._head()[1] == self._writer
        except (BotoCoreError, ClientError):
            return False

    def _head(self) -> tuple[int, str]:
        answer = self._plain.head_object(Bucket=self._bucket, Key=self._name)
        return answer["ContentLength"], answer.get("Metadata", {}).get(WRITER, "")
