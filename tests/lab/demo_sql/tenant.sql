-- One tenant: tables, then rows, then keys and indexes (much faster than the other way round).
-- schema, tenant_no, seed, as_of, campaigns (rows; the other tables follow from it)
SET client_min_messages = warning;
SET synchronous_commit = off;
SET maintenance_work_mem = '256MB';
SET work_mem = '64MB';
SET max_parallel_workers_per_gather = 0;
SET timezone = 'UTC';
BEGIN;
SET ROLE demo_owner;
CREATE SCHEMA :"schema";
SET LOCAL search_path = :"schema", public;

CREATE TYPE "CampaignStatus" AS ENUM ('draft', 'proposed', 'negotiating', 'won', 'lost');

CREATE TABLE "Campaign" (
  id text COLLATE "C" NOT NULL,
  name text NOT NULL,
  "advertiserName" text NOT NULL,
  status "CampaignStatus" NOT NULL DEFAULT 'draft',
  probability percentage NOT NULL DEFAULT 10,
  "parentId" text COLLATE "C",
  "approvalRequestId" text COLLATE "C",
  "reservationId" text COLLATE "C",
  "spotCount" integer NOT NULL,
  "spotRate" numeric(10, 2) NOT NULL,
  "grossAmount" numeric GENERATED ALWAYS AS ("spotCount" * "spotRate") STORED,
  brief jsonb,
  "createdAt" timestamptz NOT NULL DEFAULT now(),
  "updatedAt" timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "CampaignApproval" (
  id text COLLATE "C" NOT NULL,
  "campaignId" text COLLATE "C" NOT NULL,
  status text NOT NULL DEFAULT 'pending',
  "requestedBy" text NOT NULL,
  "reviewedBy" text,
  comment text,
  "createdAt" timestamptz NOT NULL DEFAULT now(),
  "updatedAt" timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "Order" (
  id text COLLATE "C" NOT NULL,
  number serial,
  "campaignId" text COLLATE "C" NOT NULL,
  amount numeric(12, 2) NOT NULL,
  lines jsonb NOT NULL,
  "createdAt" timestamptz NOT NULL DEFAULT now(),
  "updatedAt" timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "InventoryReservation" (
  id text COLLATE "C" NOT NULL,
  "campaignId" text COLLATE "C" NOT NULL,
  "showName" text NOT NULL,
  "airDate" date NOT NULL,
  state "ReservationState" NOT NULL,
  "updatedAt" timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "Activity" (
  id bigint GENERATED ALWAYS AS IDENTITY,
  "campaignId" text COLLATE "C",
  kind text NOT NULL,
  "actorEmail" text NOT NULL,
  note text NOT NULL,
  details jsonb NOT NULL,
  "createdAt" timestamptz NOT NULL DEFAULT now()
);

-- h is the row's only source of chance, so the same seed gives the same bytes on every version
INSERT INTO "Campaign" (id, name, "advertiserName", status, probability, "parentId", "spotCount", "spotRate", brief,
  "createdAt", "updatedAt")
SELECT 'cm' || left(md5(:'seed' || '.' || :'tenant_no' || '.' || n), 23),
  s.title || ' ' || n,
  t.title || ' GmbH',
  (enum_range(NULL::"CampaignStatus"))[1 + (h >> 4 & 1023) % 5],
  (h >> 14 & 1023) % 11 * 10,
  CASE WHEN n % 16 = 0 THEN 'cm' || left(md5(:'seed' || '.' || :'tenant_no' || '.' || n / 2), 23) END,
  1 + (h & 63),
  15 + (h >> 8 & 4095) / 100.0,
  jsonb_build_object('goal', s.body, 'audience', t.title, 'contact', jsonb_build_object('name', t.title, 'phone',
    '+49 30 ' || (h >> 20 & 8388607)), 'channels', jsonb_build_array('pre-roll', 'mid-roll'), 'exclusive', h & 1 = 1),
  :'as_of'::timestamptz - interval '1 second' * (h >> 6 & 33554431),
  :'as_of'::timestamptz - interval '1 second' * (h >> 6 & 16777215)
FROM generate_series(1, :campaigns) AS n
CROSS JOIN LATERAL (SELECT hashint8extended(n, :seed + 100 + :tenant_no) AS h) AS chance
JOIN demo_words.sentence AS s ON s.id = (h & 16383)
JOIN demo_words.sentence AS t ON t.id = (h >> 14 & 16383)
ORDER BY n;

INSERT INTO "CampaignApproval"
SELECT 'ca' || left(md5('a' || c.id), 23), c.id,
  CASE WHEN h & 15 = 0 THEN 'pending' WHEN h & 3 = 1 THEN 'rejected' ELSE 'approved' END,
  'seller' || (h & 31) || '@example.com',
  CASE WHEN h & 15 <> 0 THEN 'admin' || (h & 7) || '@example.com' END,
  s.body, c."createdAt" + interval '1 day', c."createdAt" + interval '1 hour' * (24 + (h & 127))
FROM "Campaign" AS c
CROSS JOIN LATERAL (SELECT hashtextextended(c.id, :seed) AS h) AS chance
JOIN demo_words.sentence AS s ON s.id = (h & 16383)
WHERE h >> 20 & 1 = 1;

UPDATE "Campaign" AS c SET "approvalRequestId" = a.id
FROM "CampaignApproval" AS a WHERE a."campaignId" = c.id AND c.probability >= 90;

INSERT INTO "Order" (id, "campaignId", amount, lines, "createdAt", "updatedAt")
SELECT 'co' || left(md5('o' || c.id), 23), c.id, c."grossAmount",
  jsonb_build_array(
    jsonb_build_object('position', 1, 'text', s.title, 'spots', c."spotCount", 'rate', c."spotRate"),
    jsonb_build_object('position', 2, 'text', s.body, 'spots', h & 7, 'rate', 0)),
  c."updatedAt", c."updatedAt" + interval '1 minute' * (h & 1023)
FROM "Campaign" AS c
CROSS JOIN LATERAL (SELECT hashtextextended(c.id, :seed + 1) AS h) AS chance
JOIN demo_words.sentence AS s ON s.id = (h & 16383)
WHERE c.status = 'won'
ORDER BY c.id;

INSERT INTO "InventoryReservation"
SELECT 'ir' || left(md5(n || c.id), 23), c.id, s.title, (c."createdAt" AT TIME ZONE 'UTC')::date + (h & 63)::int,
  (enum_range(NULL::"ReservationState"))[1 + (h >> 8 & 3)], c."updatedAt"
FROM "Campaign" AS c
CROSS JOIN generate_series(1, 2) AS n
CROSS JOIN LATERAL (SELECT hashtextextended(c.id, :seed + 1 + n) AS h) AS chance
JOIN demo_words.sentence AS s ON s.id = (h & 63)
ORDER BY c.id, n;

INSERT INTO "Activity" ("campaignId", kind, "actorEmail", note, details, "createdAt")
SELECT CASE WHEN h & 63 <> 0 THEN 'cm' || left(md5(:'seed' || '.' || :'tenant_no' || '.' || 1 + n / 20), 23) END,
  (ARRAY['viewed', 'edited', 'commented', 'status_changed', 'probability_changed', 'approval_requested', 'mailed',
    'exported'])[1 + (h & 7)],
  'user' || (h >> 3 & 255) || '@example.com',
  s.body,
  ('{"request": "' || to_hex(h) || '", "session": "' || left(md5(h::text), 12) || '", "client": {"ip": "10.' || (h >> 8 & 15) || '.' || (h >> 12 & 255) || '.'
    || (h >> 20 & 255) || '", "agent": "Mozilla/5.0 (X11; Linux x86_64)", "page": "/campaigns/' || (n / 20)
    || '/edit"}, "before": {"probability": ' || (h & 7) * 10 || ', "title": "' || t.title
    || '"}, "after": {"probability": ' || 10 + (h & 7) * 10 || ', "title": "' || t.title || '"}, "ms": ' || (h >> 30 & 2047)
    || '}')::jsonb,
  :'as_of'::timestamptz - interval '1 millisecond' * ((:campaigns * 20 - n) * 1900::bigint + (h >> 16 & 1023))
FROM generate_series(0, :campaigns * 20 - 1) AS n
CROSS JOIN LATERAL (SELECT hashint8extended(n, :seed + 200 + :tenant_no) AS h) AS chance
JOIN demo_words.sentence AS s ON s.id = (h >> 5 & 16383)
JOIN demo_words.sentence AS t ON t.id = (h >> 19 & 16383);

ALTER TABLE "Campaign" ADD PRIMARY KEY (id);
ALTER TABLE "CampaignApproval" ADD PRIMARY KEY (id);
ALTER TABLE "Order" ADD PRIMARY KEY (id), ADD UNIQUE (number);
ALTER TABLE "InventoryReservation" ADD PRIMARY KEY (id);
ALTER TABLE "Activity" ADD PRIMARY KEY (id);
CREATE INDEX ON "CampaignApproval" ("campaignId");
CREATE INDEX "Order_campaignId_idx" ON "Order" ("campaignId");
CREATE INDEX ON "InventoryReservation" ("campaignId");
CREATE INDEX ON "Activity" ("campaignId");
CREATE INDEX ON "Campaign" ("parentId") WHERE "parentId" IS NOT NULL;
CREATE INDEX "pending_approvals" ON "CampaignApproval" (lower("requestedBy"), "createdAt" DESC) WHERE status = 'pending';
ALTER TABLE "CampaignApproval" ADD FOREIGN KEY ("campaignId") REFERENCES "Campaign" ON DELETE CASCADE;
ALTER TABLE "Order" ADD FOREIGN KEY ("campaignId") REFERENCES "Campaign" ON DELETE RESTRICT;
ALTER TABLE "InventoryReservation" ADD FOREIGN KEY ("campaignId") REFERENCES "Campaign" ON DELETE CASCADE;
ALTER TABLE "Activity" ADD FOREIGN KEY ("campaignId") REFERENCES "Campaign" ON DELETE SET NULL;
-- a reference to itself and a circle: rows can be put back only with the checks at the end
ALTER TABLE "Campaign" ADD FOREIGN KEY ("parentId") REFERENCES "Campaign" DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "Campaign" ADD FOREIGN KEY ("approvalRequestId") REFERENCES "CampaignApproval" ON DELETE SET NULL
  DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE "Campaign" ADD CONSTRAINT "spots_are_positive" CHECK ("spotCount" > 0);

CREATE FUNCTION pending_approvals() RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT
  AS $body$SELECT count(*) FROM "CampaignApproval" WHERE status = 'pending'$body$;
CREATE TRIGGER campaign_touch BEFORE UPDATE ON "Campaign" FOR EACH ROW
  WHEN (NEW."updatedAt" = OLD."updatedAt") EXECUTE FUNCTION touch_updated_at();
CREATE FUNCTION note_order() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $body$
BEGIN
  INSERT INTO "Activity" ("campaignId", kind, "actorEmail", note, details)
  VALUES (NEW."campaignId", 'ordered', 'system@example.com', 'Order ' || NEW.number, '{}');
  RETURN NULL;
END
$body$;
CREATE TRIGGER order_noted AFTER INSERT ON "Order" FOR EACH ROW EXECUTE FUNCTION note_order();

CREATE VIEW "OpenCampaigns" WITH (security_barrier) AS
  SELECT id, name, probability, "updatedAt" FROM "Campaign" WHERE status NOT IN ('won', 'lost');
CREATE MATERIALIZED VIEW "CampaignTotals" AS
  SELECT "advertiserName", count(*) AS campaigns, sum("grossAmount") AS gross FROM "Campaign" GROUP BY 1;
CREATE UNIQUE INDEX ON "CampaignTotals" ("advertiserName");
CREATE MATERIALIZED VIEW "InventoryForecast" AS
  SELECT "showName", "airDate", count(*) AS spots FROM "InventoryReservation" GROUP BY 1, 2 WITH NO DATA;
CREATE STATISTICS activity_kinds (ndistinct, dependencies) ON kind, "actorEmail" FROM "Activity";

COMMENT ON SCHEMA :"schema" IS 'One organisation';
COMMENT ON COLUMN "Campaign".probability IS 'Percent; from 90 an approval is asked for';
COMMENT ON TRIGGER campaign_touch ON "Campaign" IS 'Keeps "updatedAt" honest';
ALTER TABLE "Activity" ALTER COLUMN note SET STATISTICS 50;
ALTER TABLE "Activity" SET (autovacuum_vacuum_scale_factor = 0.05);

GRANT USAGE ON SCHEMA :"schema" TO demo_app, demo_readonly;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :"schema" TO demo_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA :"schema" TO demo_app;
REVOKE DELETE ON "Activity" FROM demo_app;
ALTER DEFAULT PRIVILEGES FOR ROLE demo_owner IN SCHEMA :"schema" GRANT SELECT, INSERT, UPDATE ON TABLES TO demo_app;

INSERT INTO public.tenants (id, slug, "schemaName", contact, settings, "createdAt")
VALUES (:tenant_no, :'tenant', :'schema', 'Ops+' || :'tenant_no' || '@Example.com',
  jsonb_build_object('seats', 5 + :tenant_no, 'currency', 'EUR'), :'as_of'::timestamptz - interval '1 year');
RESET ROLE;
COMMIT;
