# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflow tables of PodcastFlow as its runbook shows them, in each tenant's schema, with things gone wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import yaml

from ansible_collections.saasops.runbook.tests.lab.postgres import Server

INVENTORY = Path(__file__).resolve().parents[2] / "inventories" / "podcastflow" / "group_vars" / "all"

SCHEMA = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}."Campaign" (
  id text PRIMARY KEY, name text NOT NULL, probability int NOT NULL, status text NOT NULL,
  "approvalRequestId" text, "reservationId" text, "updatedAt" timestamp(3) NOT NULL DEFAULT now()
);
CREATE TABLE {schema}."CampaignApproval" (
  id text PRIMARY KEY, "campaignId" text NOT NULL, status text NOT NULL,
  "createdAt" timestamp(3) NOT NULL, "updatedAt" timestamp(3) NOT NULL
);
CREATE TABLE {schema}."InventoryReservation" (
  id text PRIMARY KEY, "campaignId" text NOT NULL, spots int NOT NULL DEFAULT 1
);
CREATE TABLE {schema}."Order" (
  id text PRIMARY KEY, "campaignId" text NOT NULL UNIQUE REFERENCES {schema}."Campaign",
  name text NOT NULL, "createdAt" timestamp(3) NOT NULL, "updatedAt" timestamp(3) NOT NULL
);
INSERT INTO {schema}."Campaign" (id, name, probability, status, "reservationId") VALUES
  ('{t}-open', 'waits for a decision', 90, 'open', '{t}-live'),
  ('{t}-won', 'won with an order', 100, 'won', '{t}-kept'),
  ('{t}-bare', 'won without an order', 100, 'won', NULL),
  ('{t}-nameless', '', 100, 'won', NULL),
  ('{t}-fell', 'rejected', 60, 'open', NULL),
  ('{t}-early', 'asked again', 80, 'open', NULL);
INSERT INTO {schema}."CampaignApproval" VALUES
  ('{t}-a1', '{t}-open', 'pending', localtimestamp - interval '3 days', localtimestamp - interval '3 days'),
  ('{t}-a2', '{t}-fell', 'rejected', localtimestamp - interval '13 days', localtimestamp - interval '12 days'),
  ('{t}-a3', '{t}-early', 'rejected', localtimestamp - interval '13 days', localtimestamp - interval '12 days'),
  ('{t}-a4', '{t}-early', 'pending', localtimestamp - interval '4 days', localtimestamp - interval '4 days'),
  ('{t}-a5', '{t}-gone', 'pending', localtimestamp - interval '22 days', localtimestamp - interval '22 days'),
  ('{t}-old', '{t}-won', 'approved', localtimestamp - interval '326 days', localtimestamp - interval '325 days');
INSERT INTO {schema}."InventoryReservation" VALUES
  ('{t}-live', '{t}-open'), ('{t}-kept', '{t}-won'), ('{t}-stuck', '{t}-fell'), ('{t}-asked', '{t}-early'),
  ('{t}-lost', '{t}-gone');
INSERT INTO {schema}."Order" VALUES ('{t}-o1', '{t}-won', 'won with an order', '2026-01-03', '2026-01-03');
"""
TABLES = ('"Campaign"', '"CampaignApproval"', '"InventoryReservation"', '"Order"')


def make(server: Server, database: str, tenants: Sequence[str] = ("a", "b")) -> None:
    """Schemas org_<tenant>; ids begin with the tenant's name."""
    for tenant in tenants:
        server.psql(SCHEMA.format(schema=f"org_{tenant}", t=tenant), database)


def shipped(file: str, variable: str) -> list[dict[str, object]]:
    """A list that the collection's inventory for PodcastFlow carries."""
    body = yaml.safe_load((INVENTORY / file).read_text(encoding="utf-8"))
    return cast("list[dict[str, object]]", body[variable])
