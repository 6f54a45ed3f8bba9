# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Silences in a real Alertmanager; amtool looks at them independently."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.execute import alertmanager_silence
from ansible_collections.saasops.runbook.plugins.module_utils.module import Result
from ansible_collections.saasops.runbook.plugins.module_utils.providers.alertmanager import open_alertmanager
from ansible_collections.saasops.runbook.tests.lab.acts import context
from ansible_collections.saasops.runbook.tests.lab.alertmanager import Server
from ansible_collections.saasops.runbook.tests.lab.postgres import free_port

MATCHERS = [{"name": "instance", "value": "db1"}, {"name": "severity", "value": "info|warning", "is_regex": True}]


def silence(server: Server | str, *, check: bool = False, **changes: object) -> Result:
    """The module against a server or an address."""
    url = server if isinstance(server, str) else server.url
    given: dict[str, object] = {
        "state": "present",
        "alertmanager": {"url": url, "timeout": 3, **dict(changes.pop("login", {}))},  # type: ignore[call-overload]
        "matchers": MATCHERS,
        "comment": "the disk is exchanged",
        "created_by": "anna",
        **changes,
    }
    return alertmanager_silence.execute(given, context(check))


def refused(code: str, url: Server | str, **changes: object) -> OpsError:
    """The refusal, whose code this must be."""
    with pytest.raises(OpsError) as caught:
        silence(url, duration="1h", **changes)
    assert caught.value.code == code
    return caught.value


@contextlib.contextmanager
def answering(status: int, body: bytes, sent: list[str] | None = None) -> Iterator[str]:
    """The address of a web server that gives one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if sent is not None:
                sent.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_words: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_amtool_sees_the_silence_and_a_second_time_changes_nothing(alerts: Server) -> None:
    first = silence(alerts, duration="1h")
    again = silence(alerts, duration="1h", matchers=MATCHERS[::-1])
    (seen,) = alerts.silences()
    assert (first.changed, again.changed) == (True, False)
    assert first.evidence["id"] == again.evidence["id"] == seen["id"]
    assert (seen["comment"], seen["createdBy"]) == ("the disk is exchanged", "anna")
    assert {(m["name"], m["value"], m["isRegex"], m["isEqual"]) for m in seen["matchers"]} == {  # type: ignore[attr-defined]
        ("instance", "db1", False, True),
        ("severity", "info|warning", True, True),
    }


def test_another_comment_or_matcher_is_another_silence(alerts: Server) -> None:
    silence(alerts, duration="1h")
    silence(alerts, duration="1h", comment="something else")
    silence(alerts, duration="1h", matchers=MATCHERS[:1])
    assert len(alerts.silences()) == 3


def test_a_later_end_extends_the_same_silence_and_an_earlier_one_shortens_it_only_when_told(alerts: Server) -> None:
    first = silence(alerts, duration="1h")
    longer = silence(alerts, duration="2h")
    end = alerts.silences()[0]["endsAt"]
    shorter = silence(alerts, duration="30m")
    assert (longer.changed, shorter.changed) == (True, False)
    assert longer.evidence["id"] == first.evidence["id"]
    assert alerts.silences()[0]["endsAt"] == end
    told = silence(alerts, duration="30m", shorten=True)
    (seen,) = alerts.silences()
    assert told.changed
    assert str(seen["endsAt"]) < str(end)


def test_check_mode_foretells_and_changes_nothing(alerts: Server) -> None:
    foretold = silence(alerts, check=True, duration="1h")
    assert (foretold.changed, foretold.evidence["id"], alerts.silences()) == (True, "", [])
    silence(alerts, duration="1h")
    assert not silence(alerts, check=True, duration="1h").changed
    assert silence(alerts, check=True, duration="2h").changed
    assert silence(alerts, check=True, state="absent").changed
    assert len(alerts.silences()) == 1


def test_absent_expires_it_and_a_second_time_changes_nothing(alerts: Server) -> None:
    first = silence(alerts, duration="1h")
    ended = silence(alerts, state="absent")
    assert (ended.changed, ended.evidence["ended"]) == (True, [first.evidence["id"]])
    assert alerts.silences() == []
    assert not silence(alerts, state="absent").changed
    anew = silence(alerts, duration="1h")
    assert anew.evidence["id"] != first.evidence["id"]
    by_id = silence(alerts, state="absent", id=anew.evidence["id"], matchers=None, comment=None)
    assert by_id.changed
    assert alerts.silences() == []


def test_two_at_once_leave_one_silence_and_both_know_its_id(alerts: Server) -> None:
    def ask(gate: threading.Barrier) -> Result:
        gate.wait()
        return silence(alerts, duration="1h")

    with ThreadPoolExecutor(4) as pool:
        for _round in range(10):
            results = list(pool.map(ask, [threading.Barrier(4)] * 4))
            (seen,) = alerts.silences()
            assert {result.evidence["id"] for result in results} == {seen["id"]}
            alerts.clear()


def test_a_silence_ends_by_itself_and_is_made_anew(alerts: Server) -> None:
    first = silence(alerts, duration="1s")
    deadline = time.monotonic() + 10
    while alerts.silences() and time.monotonic() < deadline:
        time.sleep(0.1)
    again = silence(alerts, duration="1h")
    assert again.changed
    assert again.evidence["id"] != first.evidence["id"]


def test_a_restart_of_alertmanager_keeps_the_silence_the_same(alerts: Server) -> None:
    first = silence(alerts, duration="1h")
    alerts.stop()
    refused("alertmanager_unreachable", alerts)
    alerts.start()
    again = silence(alerts, duration="1h")
    assert (again.changed, again.evidence["id"]) == (False, first.evidence["id"])


def test_a_pending_silence_is_the_same_one(alerts: Server) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    first = silence(alerts, starts=soon, duration="1h")
    assert not silence(alerts, starts=soon, duration="1h").changed
    assert silence(alerts, state="absent").evidence["ended"] == [first.evidence["id"]]


def test_what_cannot_be_is_refused_clearly(alerts: Server) -> None:
    bad = [{"name": "instance", "value": "(", "is_regex": True}]
    assert "missing closing )" in refused("bad_matcher", alerts, matchers=bad).cause
    refused("bad_matcher", alerts, matchers=[{"name": "instance", "value": ".*", "is_regex": True}])
    refused("alertmanager_unreachable", f"http://127.0.0.1:{free_port()}")
    refused("not_an_alertmanager", f"{alerts.url}/nowhere")
    refused("bad_url", "ftp://127.0.0.1")
    error = refused("bad_url", f"http://anna:geheim@127.0.0.1:{alerts.port}")
    assert "geheim" not in error.message
    assert alerts.silences() == []


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, b"", "alertmanager_unauthorised"),
        (403, b"no", "alertmanager_unauthorised"),
        (503, b"", "alertmanager_failed"),
        (404, b"<html>", "not_an_alertmanager"),
        (200, b"<html>", "not_an_alertmanager"),
        (200, b"{}", "not_an_alertmanager"),
        (200, b'[{"id": "x"}]', "not_an_alertmanager"),
    ],
)
def test_a_stranger_or_a_guard_before_it_is_told_apart(status: int, body: bytes, code: str) -> None:
    with answering(status, body) as url:
        refused(code, url)


def test_logins_are_sent_and_never_shown() -> None:
    sent: list[str] = []
    with answering(401, b"", sent) as url:
        one = refused("alertmanager_unauthorised", url, login={"url_username": "ops", "url_password": "geheim"})
        two = refused("alertmanager_unauthorised", url, login={"bearer_token": "kein-geheimnis"})
    assert sent == ["Basic b3BzOmdlaGVpbQ==", "Bearer kein-geheimnis"]
    assert "geheim" not in one.message + two.message + repr(one.details)
    assert "geheim" not in repr(vars(open_alertmanager({"url": url, "url_password": "geheim"})))


def test_one_that_hears_and_never_answers_is_left_after_the_timeout() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        began = time.monotonic()
        refused("alertmanager_unreachable", f"http://127.0.0.1:{deaf.getsockname()[1]}", login={"timeout": 1})
        assert time.monotonic() - began < 5
