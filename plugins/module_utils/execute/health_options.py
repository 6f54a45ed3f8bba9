# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The argument spec of checks: one dict a check, one suboption a source."""

from __future__ import annotations

from collections.abc import Mapping

Spec = dict[str, dict[str, object]]

_TLS: Spec = {"validate_certs": {"type": "bool", "default": True}, "ca_path": {"type": "path"}}
_HTTP: Spec = {
    "url": {"type": "str", "required": True},
    "headers": {"type": "dict", "default": {}},
    "bearer_token": {"type": "str", "no_log": True},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    **_TLS,
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "use_proxy": {"type": "bool", "default": True},
}
_SOURCES: Mapping[str, Spec] = {
    "sql": {
        "query": {"type": "str", "required": True},
        "each_tenant": {"type": "bool", "default": False},
        "schemas": {"type": "list", "elements": "str", "default": []},
        "count": {"type": "bool", "default": False},
        "skip_empty": {"type": "bool", "default": False},
        "database": {"type": "str"},
    },
    "http": {
        **_HTTP,
        "method": {"type": "str", "choices": ["GET", "HEAD", "POST"], "default": "GET"},
        "body": {"type": "str"},
        "status": {"type": "list", "elements": "int", "default": []},
        "json": {"type": "str"},
        "latency": {"type": "str"},
        "samples": {"type": "int"},
        "api_key": {"type": "str", "no_log": True},
        "api_key_header": {"type": "str", "default": "X-API-Key", "no_log": False},
        "follow_redirects": {"type": "bool", "default": False},
    },
    "promql": {
        **_HTTP,
        "query": {"type": "str", "required": True},
        "max_age": {"type": "str"},
        "series": {"type": "str"},
    },
    "command": {
        "argv": {"type": "list", "elements": "str", "required": True},
        "value": {"type": "str", "choices": ["exit", "number", "text"], "default": "exit"},
        "pattern": {"type": "str"},
        "json": {"type": "str"},
        "chdir": {"type": "path"},
    },
    "redis": {
        "host": {"type": "str", "default": "127.0.0.1"},
        "port": {"type": "int", "default": 6379},
        "unix_socket": {"type": "path"},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "db": {"type": "int", "default": 0},
        "tls": {"type": "bool", "default": False},
        **_TLS,
        "info": {"type": "str"},
        "llen": {"type": "str"},
        "zcard": {"type": "str"},
    },
    "file": {
        "path": {"type": "str", "required": True},
        "measure": {"type": "str", "choices": ["age", "size"], "default": "age"},
    },
}
_REMEDY: Spec = {
    "verb": {"type": "str"},
    "variables": {"type": "dict", "default": {}},
    "why": {"type": "str"},
}
CHECKS_SPEC: Spec = {
    "checks": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "title": {"type": "str"},
            "enabled": {"type": "bool", "default": True},
            "warning": {"type": "str"},
            "critical": {"type": "str"},
            "unit": {"type": "str"},
            "minimum_samples": {"type": "int"},
            "hold": {"type": "str"},
            "when_down": {"type": "str", "choices": ["inconclusive", "warning", "critical"]},
            "priority": {"type": "int"},
            "timeout": {"type": "float"},
            "remedy": {"type": "dict", "options": _REMEDY},
            "builtin": {"type": "bool", "default": False},
            **{name: {"type": "dict", "options": options} for name, options in _SOURCES.items()},
        },
    },
}
