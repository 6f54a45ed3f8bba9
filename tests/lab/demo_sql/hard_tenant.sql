-- A small multi-tenant database whose tenant org_a has one of everything that makes bringing rows back hard.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
CREATE TABLE public.countries (code text PRIMARY KEY);
INSERT INTO public.countries VALUES ('de'), ('fr'), ('it');
CREATE SCHEMA org_a;
CREATE SCHEMA org_b;
CREATE TABLE org_b.kept (id integer PRIMARY KEY, note text);
INSERT INTO org_b.kept SELECT n, 'b' || n FROM generate_series(1, 20) n;
SET search_path = org_a, public;

CREATE TABLE parent (
  id integer PRIMARY KEY, code text NOT NULL UNIQUE, email text, country text REFERENCES public.countries, amount numeric,
  span int4range, EXCLUDE USING gist (span WITH &&)
);
CREATE UNIQUE INDEX ON parent (lower(email)) WHERE email <> '';
CREATE TABLE child (
  id integer PRIMARY KEY, parent_id integer NOT NULL REFERENCES parent ON DELETE CASCADE,
  slug text NOT NULL, UNIQUE (parent_id, slug)
);
CREATE TABLE grandchild (id integer PRIMARY KEY, child_id integer NOT NULL REFERENCES child ON DELETE RESTRICT);
CREATE TABLE loose (id integer PRIMARY KEY, parent_id integer REFERENCES parent ON DELETE SET NULL);
-- a circle in which nothing may be null and nothing is deferrable
CREATE TABLE left_half (id integer PRIMARY KEY, other integer NOT NULL);
CREATE TABLE right_half (id integer PRIMARY KEY, other integer NOT NULL REFERENCES left_half);
CREATE TABLE tree (id integer PRIMARY KEY, up integer REFERENCES tree, at integer);
CREATE TABLE numbered (
  code text PRIMARY KEY, number integer GENERATED ALWAYS AS IDENTITY, size positive, twice integer GENERATED ALWAYS AS (size * 2) STORED
);
CREATE TABLE only_identity (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE event (id integer, day date, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE event_note (event_id integer, event_day date, note text, id integer PRIMARY KEY,
  FOREIGN KEY (event_id, event_day) REFERENCES event);
CREATE TABLE bare (word text, document json, point point);
CREATE TABLE caseless (name citext PRIMARY KEY, value double precision, bytes bytea, words text[], moment timestamptz, gap interval);
CREATE TABLE "Odd ""name"" with
a line, é" ("a key" integer PRIMARY KEY, "quo""te" text, "{brace}" text, "per%cent" text);
CREATE TABLE guarded (id integer PRIMARY KEY, who text);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY nobody ON guarded USING (who = 'me');
CREATE TABLE base (id integer PRIMARY KEY, kind text);
CREATE TABLE derived (extra text) INHERITS (base);
CREATE TABLE empty_one (id integer PRIMARY KEY);
CREATE SEQUENCE down AS integer INCREMENT -1 MINVALUE -1000 MAXVALUE -1 START -1;
CREATE SEQUENCE up AS integer;

INSERT INTO parent SELECT n, 'code' || n, CASE WHEN n % 3 = 0 THEN '' ELSE 'User' || n || '@x.y' END,
  (ARRAY['de', 'fr', NULL])[1 + n % 3], n * 1.10, int4range(n * 10, n * 10 + 5) FROM generate_series(1, 60) n;
INSERT INTO child SELECT n, 1 + n % 60, 'slug' || n % 7 FROM generate_series(1, 300) n;
INSERT INTO grandchild SELECT n, n FROM generate_series(1, 200) n;
INSERT INTO loose SELECT n, n FROM generate_series(1, 60) n;
INSERT INTO left_half SELECT n, n FROM generate_series(1, 30) n;
INSERT INTO right_half SELECT n, n FROM generate_series(1, 30) n;
ALTER TABLE left_half ADD CONSTRAINT left_half_other_fkey FOREIGN KEY (other) REFERENCES right_half;
INSERT INTO tree SELECT n, nullif(n / 2, 0), n FROM generate_series(1, 40) n;
INSERT INTO numbered (code, size) SELECT 'n' || n, n FROM generate_series(1, 30) n;
INSERT INTO only_identity SELECT FROM generate_series(1, 10);
INSERT INTO event SELECT n, '2026-01-05'::date + n % 50, 'what' || n FROM generate_series(1, 80) n;
INSERT INTO event_note SELECT id, day, 'note', id FROM event WHERE id % 4 = 0;
INSERT INTO bare SELECT 'w' || n % 5, ('{"b": ' || n || ', "a": 1}')::json, point(n, 0) FROM generate_series(1, 20) n;
INSERT INTO caseless SELECT 'Name' || n, n / 3.0, decode(repeat('00ff5c0a', n), 'hex'), ARRAY['a,b', NULL, E'\\N\t\n', ''],
  '2026-01-01 00:00:00.123456+00'::timestamptz + n * interval '1 h', n * interval '1 mon 2 days 3.000004 s' FROM generate_series(1, 20) n;
INSERT INTO "Odd ""name"" with
a line, é" SELECT n, E'\\.\t"' || n, '{' || n || '}', '%s' FROM generate_series(1, 20) n;
INSERT INTO guarded SELECT n, CASE WHEN n % 2 = 0 THEN 'me' ELSE 'you' END FROM generate_series(1, 20) n;
INSERT INTO base SELECT n, 'base' FROM generate_series(1, 10) n;
INSERT INTO derived SELECT n, 'derived', 'x' FROM generate_series(101, 110) n;
SELECT setval('down', -50), setval('up', 500);

CREATE FUNCTION no_firing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'fired on %', TG_TABLE_NAME; END $$;
CREATE TRIGGER guard AFTER INSERT OR UPDATE OR DELETE ON parent FOR EACH ROW EXECUTE FUNCTION no_firing();
CREATE TRIGGER always AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION no_firing();
ALTER TABLE child ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER sleeping AFTER UPDATE ON child FOR EACH ROW EXECUTE FUNCTION no_firing();
ALTER TABLE child DISABLE TRIGGER sleeping;
CREATE TRIGGER on_parts AFTER INSERT OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION no_firing();
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON tree DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION no_firing();
CREATE MATERIALIZED VIEW totals AS SELECT country, count(*) AS parents, sum(amount) AS amount FROM parent GROUP BY country;
CREATE MATERIALIZED VIEW grand AS SELECT sum(amount) AS amount FROM totals;
CREATE MATERIALIZED VIEW indexed AS SELECT id, code FROM parent;
CREATE UNIQUE INDEX ON indexed (id);
CREATE VIEW public.all_parents AS SELECT 'a' AS tenant, id FROM parent;
CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) FROM public.all_parents;
RESET search_path;
