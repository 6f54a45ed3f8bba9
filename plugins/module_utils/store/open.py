# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which store an inventory names: the shared argument spec and the table of implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3 import S3Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_client import Address

# One dict option, so that a role hands the inventory's store on whole.
STORE_SPEC: dict[str, dict[str, object]] = {
    "store": {
        "type": "dict",
        "required": True,
        "options": {
            "type": {"type": "str", "default": "posix", "choices": ["posix", "s3"]},
            "path": {"type": "path"},
            "create": {"type": "bool", "default": False},
            "bucket": {"type": "str"},
            "prefix": {"type": "str", "default": ""},
            "endpoint_url": {"type": "str"},
            "region": {"type": "str"},
            "access_key": {"type": "str", "no_log": True},
            "secret_key": {"type": "str", "no_log": True},
            "session_token": {"type": "str", "no_log": True},
            "profile": {"type": "str"},
            "ca_bundle": {"type": "path"},
            "path_style": {"type": "bool"},
            "connect_timeout": {"type": "int", "default": 10},
            "read_timeout": {"type": "int", "default": 60},
            "retries": {"type": "int", "default": 5},
        },
        "required_if": [("type", "posix", ["path"]), ("type", "s3", ["bucket"])],
        "required_together": [("access_key", "secret_key")],
    },
}

# The same for stores that get a copy of every set, each with credentials of its own.
COPIES_SPEC: dict[str, dict[str, object]] = {
    "copies": {**STORE_SPEC["store"], "type": "list", "elements": "dict"},
}


def _posix(params: Mapping[str, object]) -> Store:
    path = str(params.get("path") or "")
    if not path.startswith("/"):
        raise OpsError(
            "store_missing",
            f"The backup store's path {path!r} is not an absolute path.",
            "Set the store's suboption path to a folder on the host, from the root on.",
        )
    return PosixStore(path, create=bool(params.get("create")))


def _s3(params: Mapping[str, object]) -> Store:
    def text(name: str) -> str:
        return str(params.get(name) or "")

    def number(name: str, default: int) -> int:
        value = params.get(name)
        return default if value is None else int(str(value))

    path_style = params.get("path_style")
    return S3Store(
        Address(
            bucket=text("bucket"),
            prefix=text("prefix"),
            endpoint_url=text("endpoint_url"),
            region=text("region"),
            access_key=text("access_key"),
            secret_key=text("secret_key"),
            session_token=text("session_token"),
            profile=text("profile"),
            ca_bundle=text("ca_bundle"),
            path_style=None if path_style is None else bool(path_style),
            connect_timeout=number("connect_timeout", 10),
            read_timeout=number("read_timeout", 60),
            retries=number("retries", 5),
        )
    )


STORES: dict[str, Callable[[Mapping[str, object]], Store]] = {
    "posix": _posix,
    "s3": _s3,
}


def open_store(params: Mapping[str, object]) -> Store:
    """The store that the suboptions of the option store (STORE_SPEC) name; nothing is contacted yet.

    Raises OpsError store_missing (no usable address).
    """
    return STORES[str(params.get("type") or "posix")](params)
