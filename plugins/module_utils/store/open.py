# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which store an inventory names: the shared argument spec and the table of implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix import PosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.posix_remote import RemotePosixStore
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3 import S3Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.s3_client import Address
from ansible_collections.saasops.runbook.plugins.module_utils.transport.ssh import SshHost, open_ssh

# One dict option, so that a role hands the inventory's store on whole.
STORE_SPEC: dict[str, dict[str, object]] = {
    "store": {
        "type": "dict",
        "required": True,
        "options": {
            "type": {"type": "str", "default": "posix", "choices": ["posix", "s3"]},
            "path": {"type": "path"},
            "create": {"type": "bool", "default": False},
            "host": {"type": "str"},
            "port": {"type": "int"},
            "user": {"type": "str"},
            "identity_file": {"type": "path"},
            "known_hosts": {"type": "path"},
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
        "required_by": {name: ["host"] for name in ("port", "user", "identity_file", "known_hosts")},
    },
}

# The same for stores that get a copy of every set, each with credentials of its own.
COPIES_SPEC: dict[str, dict[str, object]] = {
    "copies": {**STORE_SPEC["store"], "type": "list", "elements": "dict"},
}
# the same where there need be none
HELD_COPIES_SPEC: dict[str, dict[str, object]] = {"copies": {**COPIES_SPEC["copies"], "required": False}}


def _posix(params: Mapping[str, object]) -> Store:
    path = str(params.get("path") or "")
    if not path.startswith("/"):
        raise OpsError(
            "store_missing",
            f"The backup store's path {path!r} is not an absolute path.",
            "Set the store's suboption path to a folder on the host, from the root on.",
        )
    create = bool(params.get("create"))
    if not params.get("host"):
        return PosixStore(path, create=create)
    host = SshHost(
        host=_text(params, "host"),
        port=_number(params, "port", 0),
        user=_text(params, "user"),
        identity_file=_text(params, "identity_file"),
        known_hosts=_text(params, "known_hosts"),
        connect_timeout=_number(params, "connect_timeout", 10),
        read_timeout=_number(params, "read_timeout", 60),
    )
    return RemotePosixStore(open_ssh(host), host.where, path, create=create)


def _text(params: Mapping[str, object], name: str) -> str:
    return str(params.get(name) or "")


def _number(params: Mapping[str, object], name: str, default: int) -> int:
    value = params.get(name)
    return default if value is None else int(str(value))


def _s3(params: Mapping[str, object]) -> Store:
    path_style = params.get("path_style")
    return S3Store(
        Address(
            bucket=_text(params, "bucket"),
            prefix=_text(params, "prefix"),
            endpoint_url=_text(params, "endpoint_url"),
            region=_text(params, "region"),
            access_key=_text(params, "access_key"),
            secret_key=_text(params, "secret_key"),
            session_token=_text(params, "session_token"),
            profile=_text(params, "profile"),
            ca_bundle=_text(params, "ca_bundle"),
            path_style=None if path_style is None else bool(path_style),
            connect_timeout=_number(params, "connect_timeout", 10),
            read_timeout=_number(params, "read_timeout", 60),
            retries=_number(params, "retries", 5),
        )
    )


STORES: dict[str, Callable[[Mapping[str, object]], Store]] = {
    "posix": _posix,
    "s3": _s3,
}


def open_store(params: Mapping[str, object]) -> Store:
    """The store that the suboptions of the option store (STORE_SPEC) name; nothing is contacted yet.

    Raises OpsError store_missing (no usable address), and for a folder of another host ssh_option, identity_missing
    and known_hosts_missing.
    """
    return STORES[str(params.get("type") or "posix")](params)
