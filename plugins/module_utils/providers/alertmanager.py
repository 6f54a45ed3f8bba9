# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silences in an Alertmanager, through its API v2."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.silence import (
    Silence,
    Step,
    Wanted,
    as_json,
    decide_present,
    parse_silence,
    same,
)

# How an Alertmanager is reached; named as ansible.builtin.uri names it.
ALERTMANAGER_SPEC: dict[str, dict[str, object]] = {
    "url": {"type": "str", "required": True},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "bearer_token": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "use_proxy": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 10},
}
MATCHERS_SPEC: dict[str, object] = {
    "type": "list",
    "elements": "dict",
    "options": {
        "name": {"type": "str", "required": True},
        "value": {"type": "str", "required": True},
        "is_regex": {"type": "bool", "default": False},
        "is_equal": {"type": "bool", "default": True},
    },
}
LONGEST_ANSWER = 64 * 1024 * 1024  # bytes; an Alertmanager keeps five days of silences
_Ask = Callable[..., http.client.HTTPResponse]
_ID = re.compile(r"[0-9A-Za-z-]{1,64}\Z")


@dataclass(frozen=True)
class Reach:
    """Address and credentials; timeout in seconds for each step of a request."""

    url: str
    username: str
    password: str
    bearer: str
    validate_certs: bool
    ca_path: str
    client_cert: str
    client_key: str
    use_proxy: bool
    timeout: int

    def __repr__(self) -> str:
        return f"Reach({self.url!r})"


def open_alertmanager(params: Mapping[str, object]) -> Alertmanager:
    """From options of ALERTMANAGER_SPEC; nothing is contacted. Raises OpsError bad_url."""
    text = str(params.get("url") or "")
    try:
        parts = urllib.parse.urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        has_login = "@" in parts.netloc
    except ValueError:
        sound, has_login = False, False
    if has_login:
        raise OpsError(
            "bad_url", "The address of the Alertmanager holds a login.", "Use url_username and url_password instead."
        )
    if not sound:
        raise OpsError(
            "bad_url",
            f"{text!r} is no address of an Alertmanager.",
            "Give url as http://alertmanager.example.com:9093, with the route prefix if it has one.",
        )

    def word(name: str) -> str:
        return str(params.get(name) or "")

    return Alertmanager(
        Reach(
            url=text.rstrip("/"),
            username=word("url_username"),
            password=word("url_password"),
            bearer=word("bearer_token"),
            validate_certs=params.get("validate_certs") is not False,
            ca_path=word("ca_path"),
            client_cert=word("client_cert"),
            client_key=word("client_key"),
            use_proxy=params.get("use_proxy") is not False,
            timeout=int(str(params.get("timeout") or 10)),
        )
    )


class Alertmanager:
    """One Alertmanager, or the balancer before several.

    Errors of every method are OpsError: alertmanager_unreachable, alertmanager_certificate,
    alertmanager_unauthorised, not_an_alertmanager, alertmanager_failed; of put also bad_matcher.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    @property
    def url(self) -> str:
        return self._reach.url

    def silences(self) -> list[Silence]:
        """All that it knows, expired ones as well."""
        _status, body = self._ask("GET", "/api/v2/silences")
        if not isinstance(body, list):
            raise self._stranger("its list of silences is none")
        try:
            return [parse_silence(item) for item in body]
        except ValueError as error:
            raise self._stranger("its list holds what are no silences") from error

    def put(self, silence: Silence) -> str:
        """Make it (id "") or change it; its id, which may be a new one."""
        _status, body = self._ask("POST", "/api/v2/silences", as_json(silence))
        made = body.get("silenceID") if isinstance(body, dict) else None
        if not isinstance(made, str) or not _ID.match(made):
            raise self._stranger("it gave no id for a silence")
        return made

    def expire(self, silence_id: str) -> bool:
        """End it; whether it was there and alive."""
        if not _ID.match(silence_id):
            raise OpsError("bad_id", f"{silence_id!r} is no id of a silence.", "Take the id that the module returned.")
        status, _body = self._ask("DELETE", f"/api/v2/silence/{silence_id}", missing=(404, 500))
        return status == 200

    def converge(self, wanted: Wanted, now: float) -> tuple[Step, Silence]:
        """Let the wanted silence stand, and exactly one of it even when two ask at once; what was done, what stands."""
        step = decide_present(wanted, same(self.silences(), wanted.matchers, wanted.comment), now)
        return step, self.carry_out(step, wanted)

    def carry_out(self, step: Step, wanted: Wanted) -> Silence:
        """Carry a step of decide_present out; the silence that stands afterwards.

        Alertmanager takes the same silence twice. So whoever has made one looks again: the one that was made first
        stays, and everybody else sees it, because it was there before theirs; they take theirs back.
        """
        if not step.kind:
            return step.silence
        mine = self.put(step.silence)
        alike = same(self.silences(), wanted.matchers, wanted.comment)
        own = [item for item in alike if item.id == mine]
        if step.before is not None or not alike or alike[0].id == mine:
            return own[0] if own else replace(step.silence, id=mine)
        self.expire(mine)
        return self.carry_out(decide_present(wanted, alike[:1], time.time()), wanted)

    def _ask(self, method: str, path: str, body: object = None, missing: tuple[int, ...] = ()) -> tuple[int, object]:
        """(status, JSON) of one request; statuses in missing are handed back with None."""
        from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
        from ansible.module_utils.urls import SSLValidationError, open_url

        reach = self._reach
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if reach.bearer:
            headers["Authorization"] = f"Bearer {reach.bearer}"
        ask = cast(_Ask, open_url)
        try:
            with ask(
                reach.url + path,
                method=method,
                data=None if body is None else json.dumps(body),
                headers=headers,
                timeout=reach.timeout,
                url_username=reach.username or None,
                url_password=reach.password or None,
                force_basic_auth=bool(reach.username),
                validate_certs=reach.validate_certs,
                ca_path=reach.ca_path or None,
                client_cert=reach.client_cert or None,
                client_key=reach.client_key or None,
                use_proxy=reach.use_proxy,
                http_agent="saasops.runbook",
            ) as answer:
                status, raw = int(answer.status), answer.read(LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            if error.code in missing:
                error.close()
                return error.code, None
            raise self._refused(error) from None
        except (SSLValidationError, ssl.SSLError) as error:
            raise self._certificate() from error
        except (urllib.error.URLError, UrlsConnectionError, http.client.HTTPException, OSError, ValueError) as error:
            raise self._unreachable(error) from None
        if not raw:
            return status, None
        try:
            return status, json.loads(raw)
        except ValueError:
            raise self._stranger("it answers in another language than JSON") from None

    def _refused(self, error: urllib.error.HTTPError) -> OpsError:
        with error:
            said = error.read(2000).decode("utf-8", "replace").strip()
        code = error.code
        if code in (401, 403):
            return OpsError(
                "alertmanager_unauthorised",
                f"The Alertmanager {self.url} does not let us in ({code}).",
                "Check url_username and url_password, or bearer_token.",
                {"status": code},
            )
        if code in (400, 422):
            try:
                parsed = json.loads(said)
            except ValueError:
                parsed = said
            words = parsed.get("message") if isinstance(parsed, dict) else parsed
            return OpsError(
                "bad_matcher",
                f"The Alertmanager {self.url} refuses the silence: {str(words)[:300]}",
                "Regular expressions are RE2, and at least one matcher must not match an empty label.",
                {"status": code},
            )
        if code >= 500:
            return OpsError(
                "alertmanager_failed",
                f"The Alertmanager {self.url} failed ({code}).",
                "See its log; whoever stands before it may have answered in its place.",
                {"status": code},
            )
        return self._stranger(f"it answers {code}")

    def _certificate(self) -> OpsError:
        return OpsError(
            "alertmanager_certificate",
            f"The certificate of {self.url} is not trusted, or ours is not taken.",
            "Give the authority in ca_path, and client_cert with client_key where it asks for one.",
        )

    def _unreachable(self, error: Exception) -> OpsError:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        if isinstance(reason, ssl.SSLError):
            return self._certificate()
        if isinstance(reason, OSError):
            reason = reason.strerror or str(reason) or type(reason).__name__
        return OpsError(
            "alertmanager_unreachable",
            f"The Alertmanager {self.url} cannot be reached ({str(reason)[:200]}).",
            "Check url, and that the host of this module may go there.",
        )

    def _stranger(self, why: str) -> OpsError:
        return OpsError(
            "not_an_alertmanager",
            f"What answers at {self.url} is no Alertmanager with API v2: {why}.",
            "Check url; it names the root, with the route prefix if there is one, without /api/v2.",
        )
