-- The vocabulary of the generated text: 1,024 phrases of a few words, 16,384 sentences of eight phrases. Rows take
-- whole sentences by hash join, which is fast, and a sentence comes again only after more than zstd's window.
SET client_min_messages = warning;
CREATE SCHEMA demo_words;
SET search_path = demo_words;
CREATE TABLE word AS
SELECT ordinality::int - 1 AS id, word FROM unnest(string_to_array(
  'spot host read pre roll mid post slot booking client agency brief budget rate card flight week month quarter '
  'listener download episode season show network studio producer editor guest sponsor promo code landing page '
  'offer trial renewal invoice credit payment terms net thirty signed pending approved rejected moved forward '
  'delayed confirmed released held open closed won lost early late final draft second third new old same better '
  'lower higher first last next previous weekly daily monthly asked answered called wrote sent received agreed '
  'declined prefers wants needs offers keeps drops shifts extends shortens repeats cancels returns and or but with '
  'without before after during until from into over under about for the a an this that their our its one two three '
  'four five six seven eight nine ten twelve twenty forty hundred thousand euro dollar percent share reach target '
  'audience region north south east west city coast morning evening weekend holiday launch campaign creative copy '
  'script version review legal team manager director account sales finance support inventory reservation order '
  'approval schedule calendar report figure forecast pipeline probability ninety café Zürich naïve', ' '))
  WITH ORDINALITY AS all_words(word, ordinality);

CREATE TABLE phrase AS
SELECT p.id, string_agg(w.word, ' ' ORDER BY n) AS words
FROM generate_series(0, 1023) AS p(id)
CROSS JOIN LATERAL generate_series(1, 2 + (p.id % 3)) AS n
JOIN word AS w ON w.id = abs(hashint8extended(p.id * 8 + n, :seed) % (SELECT count(*) FROM word))
GROUP BY p.id;

CREATE TABLE sentence AS
SELECT s.id, upper(left(string_agg(p.words, ' ' ORDER BY n), 1)) || substr(string_agg(p.words, ' ' ORDER BY n), 2) || '.' AS body,
  initcap(min(p.words)) AS title
FROM generate_series(0, 16383) AS s(id)
CROSS JOIN generate_series(1, 8) AS n
JOIN phrase AS p ON p.id = hashint8extended(s.id * 8 + n, :seed + 1) & 1023
GROUP BY s.id;
ALTER TABLE sentence ADD PRIMARY KEY (id);
ANALYZE sentence;
GRANT USAGE ON SCHEMA demo_words TO demo_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA demo_words TO demo_owner;
