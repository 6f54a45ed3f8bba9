# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own that tells one service of one event, so that a slow one cannot hold the run up.

One line of JSON comes in (it holds the secrets, which therefore stand on no command line), one goes out:
{"sent": true} or {"sent": false, "code": ..., "cause": ...}. Nothing that it says names an address or a key.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

TIMEOUT = 5  # seconds for one request; the run waits for no sender longer than notices.PATIENCE


def _slack(order: Mapping[str, Any]) -> None:
    settings = order["settings"]
    if "webhook_url" in settings:
        from slack_sdk.webhook import WebhookClient

        answer = WebhookClient(settings["webhook_url"], timeout=TIMEOUT, retry_handlers=[]).send(text=order["text"])
        if answer.status_code != 200:
            raise RuntimeError(f"Slack answers {answer.status_code}")
        return
    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError

    more = {"base_url": settings["api_url"].rstrip("/") + "/"} if "api_url" in settings else {}
    client = WebClient(token=settings["token"], timeout=TIMEOUT, retry_handlers=[], **more)
    try:
        client.chat_postMessage(channel=settings["channel"], text=order["text"])
    except SlackApiError as error:
        raise RuntimeError(f"Slack answers {str(error.response.get('error') or 'an error')[:60]}") from None


def _pagerduty(order: Mapping[str, Any]) -> None:
    from pagerduty import EventsApiV2Client, HttpError

    settings = order["settings"]
    client = EventsApiV2Client(settings["routing_key"], base_url=settings.get("api_url"))
    client.retry = {}
    client.max_network_attempts = 1
    client.timeout = TIMEOUT
    for call in order["calls"]:
        try:
            if call["kind"] == "change":
                client.send_change_event(payload=call["payload"])
            elif call["kind"] == "resolve":
                client.resolve(call["dedup_key"])
            else:
                client.send_event("trigger", dedup_key=call["dedup_key"], payload=call["payload"])
        except HttpError as error:
            raise RuntimeError(f"PagerDuty answers {error.response.status_code}") from None


SENDERS: dict[str, Callable[[Mapping[str, Any]], None]] = {"slack": _slack, "pagerduty": _pagerduty}


def main() -> None:
    logging.disable(logging.CRITICAL)
    order = json.loads(sys.stdin.readline())
    try:
        SENDERS[order["type"]](order)
        answer: dict[str, object] = {"sent": True}
    except ImportError as error:
        answer = {"sent": False, "code": "notifier_missing", "cause": f"The Python package {error.name} is missing."}
    except RuntimeError as error:
        answer = {"sent": False, "code": "notifier_failed", "cause": f"{error}."}
    except Exception as error:  # noqa: BLE001 - its words may hold the address, which is a secret
        answer = {"sent": False, "code": "notifier_failed", "cause": f"{type(error).__name__}: it was not reached."}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
