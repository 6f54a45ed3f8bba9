# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of an S3 endpoint: boto3 imported when it is needed, with the settings every request has."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

if TYPE_CHECKING:
    from botocore.config import Config
    from mypy_boto3_s3.client import S3Client

# a body up to here is sent at once; a larger one waits for the server's word that it wants it
UNASKED = 1024 * 1024
CONNECTIONS = 32


@dataclass(frozen=True, repr=False)
class Address:
    """Where a bucket is and who we are. Empty fields are left to boto3 (environment, profile, instance role).

    path_style None: path style where an endpoint is named, else boto3's choice. Timeouts are seconds.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    profile: str = ""
    ca_bundle: str = ""
    path_style: bool | None = None
    connect_timeout: int = 10
    read_timeout: int = 60
    retries: int = 5

    def __repr__(self) -> str:  # a traceback must not show a credential
        return f"Address({self.url!r})"

    @property
    def url(self) -> str:
        """What is shown of it."""
        place = f"s3://{self.bucket}/{self.prefix}"
        return f"{place} at {self.endpoint_url}" if self.endpoint_url else place

    def check(self) -> None:
        """Raises OpsError store_address_invalid."""
        try:
            parts = urlsplit(self.endpoint_url)
            has_user, complete = "@" in parts.netloc, bool(parts.scheme in ("http", "https") and parts.hostname)
        except ValueError:
            has_user, complete = False, False
        if has_user:
            raise address_invalid("The store's endpoint_url holds a user or password")
        if self.endpoint_url and not complete:
            raise address_invalid(f"The store's endpoint_url {self.endpoint_url!r} is not an http(s) address")
        if not self.bucket:
            raise address_invalid("The store names no bucket")


def address_invalid(cause: str) -> OpsError:
    return OpsError(
        "store_address_invalid",
        f"{cause}.",
        "Correct the store in the inventory; credentials belong into access_key and secret_key, or into a profile.",
    )


@dataclass(frozen=True, repr=False)
class Clients:
    """Two clients of one endpoint; exclusive sends every put with If-None-Match: *."""

    plain: S3Client
    exclusive: S3Client


def connect(address: Address) -> Clients:
    """Clients for an address; nothing is sent yet.

    Raises OpsError: boto3_missing, store_address_invalid, store_denied (an unknown profile).
    """
    address.check()
    try:
        import boto3.session
        from botocore.exceptions import BotoCoreError, ProfileNotFound
    except ImportError as error:
        raise OpsError(
            "boto3_missing",
            "The Python package boto3 is not there to speak to an S3 store with.",
            "Install it for the Python that runs the module (apt install python3-boto3, or pip install boto3).",
        ) from error
    try:
        session = boto3.session.Session(
            aws_access_key_id=address.access_key or None,
            aws_secret_access_key=address.secret_key or None,
            aws_session_token=address.session_token or None,
            profile_name=address.profile or None,
            region_name=address.region or None,
        )
        region = session.region_name or ("auto" if address.endpoint_url else "us-east-1")

        def client() -> S3Client:
            return session.client(
                "s3",
                region_name=region,
                endpoint_url=address.endpoint_url or None,
                verify=address.ca_bundle or None,
                config=_config(address),
            )

        clients = Clients(client(), client())
    except ProfileNotFound as error:
        raise OpsError(
            "store_denied",
            f"The AWS profile {address.profile!r} of the store is not configured on this host.",
            "Add it to ~/.aws of the user that runs the module, or set the store's suboption profile.",
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise address_invalid(f"The store's address is refused ({error})") from error
    for one in (clients.plain, clients.exclusive):
        one.meta.events.register("before-sign.s3", _trim)
        one.meta.events.register("before-sign.s3.DeleteObjects", _add_md5)
    for operation in ("PutObject", "CompleteMultipartUpload"):
        clients.exclusive.meta.events.register(f"before-sign.s3.{operation}", _add_condition)
    return clients


def _config(address: Address) -> Config:
    from botocore.config import Config

    path_style = bool(address.endpoint_url) if address.path_style is None else address.path_style
    settings = Config(
        signature_version="s3v4",
        connect_timeout=address.connect_timeout,
        read_timeout=address.read_timeout,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": address.retries + 1},
        # the signature covers the SHA-256 of what is sent, over TLS too: the server proves what arrived
        s3={"addressing_style": "path" if path_style else "auto", "payload_signing_enabled": True},
    )
    try:
        # newer releases add checksums by themselves in a way that many servers do not know
        newer = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    except TypeError:
        return settings
    return settings.merge(newer)


class _Request(Protocol):
    headers: MutableMapping[str, str]

    @property
    def body(self) -> bytes | None:
        """The payload that is going to be sent."""


# Headers are set right before signing: releases of botocore that do not know If-None-Match send it too.


def _add_condition(request: _Request, **_kwargs: object) -> None:
    if "If-None-Match" not in request.headers:
        request.headers["If-None-Match"] = "*"


def _add_md5(request: _Request, **_kwargs: object) -> None:
    if "Content-MD5" not in request.headers and isinstance(request.body, bytes):
        request.headers["Content-MD5"] = md5(request.body)


def _trim(request: _Request, **_kwargs: object) -> None:
    """Send a small body without asking first: botocore waits a second where a server does not answer that."""
    if "Expect" in request.headers and isinstance(request.body, bytes) and len(request.body) <= UNASKED:
        del request.headers["Expect"]


def md5(body: bytes) -> str:
    """Content-MD5 of a body: a checksum against the network, not a protection."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode("ascii")
