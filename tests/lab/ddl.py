# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Common statements and the locks that they take, for the unit test of the classifier and for real servers."""

from __future__ import annotations

AE, SRE, SUE, RE, S = (
    "ACCESS EXCLUSIVE",
    "SHARE ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "ROW EXCLUSIVE",
    "SHARE",
)

# what the statements below need, for tests/contract
SCENE = """
CREATE TABLE o (a int PRIMARY KEY);
CREATE TABLE t (a int REFERENCES o, x text, y int DEFAULT 1);
CREATE UNIQUE INDEX t_a ON t (a);
ALTER TABLE t ADD CONSTRAINT t_y CHECK (y > 0) NOT VALID;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE POLICY po ON t;
CREATE TABLE p (a int NOT NULL) PARTITION BY RANGE (a);
CREATE TABLE c PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE c2 (a int NOT NULL);
"""

# a statement, and the strongest lock on each table that it touches
LOCKS: list[tuple[str, dict[str, str]]] = [
    ("ALTER TABLE t ADD COLUMN b int", {"t": AE}),
    ("ALTER TABLE IF EXISTS ONLY t ADD b int DEFAULT 3, DROP COLUMN x", {"t": AE}),
    ("ALTER TABLE t ALTER COLUMN a TYPE bigint", {"t": AE}),
    ("ALTER TABLE t ALTER y SET DEFAULT 4", {"t": AE}),
    ("ALTER TABLE t ALTER COLUMN a SET STATISTICS 200", {"t": SUE}),
    ("ALTER TABLE t ALTER a SET (n_distinct = 5)", {"t": SUE}),
    ("ALTER TABLE t SET (fillfactor = 70)", {"t": SUE}),
    ("ALTER TABLE t RESET (fillfactor)", {"t": SUE}),
    ("ALTER TABLE t VALIDATE CONSTRAINT t_y", {"t": SUE}),
    ("ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES o (a)", {"t": SRE, "o": SRE}),
    ("ALTER TABLE t ADD CONSTRAINT ck CHECK (a > 0) NOT VALID", {"t": AE}),
    ("ALTER TABLE t DISABLE TRIGGER tr", {"t": SRE}),
    ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", {"t": AE}),
    ("ALTER TABLE t RENAME COLUMN x TO z", {"t": AE}),
    ("ALTER TABLE t RENAME TO t9", {"t": AE}),
    ("ALTER TABLE p ATTACH PARTITION c2 FOR VALUES FROM (10) TO (20)", {"p": SUE, "c2": AE}),
    ("ALTER TABLE p DETACH PARTITION c", {"p": AE, "c": AE}),
    ("CREATE INDEX i ON t (a)", {"t": S}),
    ("CREATE UNIQUE INDEX i ON ONLY t USING btree (a)", {"t": S}),
    ("CREATE TABLE n (a int REFERENCES o (a))", {"o": SRE}),
    ("CREATE TRIGGER tg AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()", {"t": SRE}),
    ("CREATE POLICY pp ON t USING (true)", {"t": AE}),
    ("CREATE STATISTICS st ON a, y FROM t", {"t": SUE}),
    ("DROP TRIGGER IF EXISTS tr ON t", {"t": AE}),
    ("DROP POLICY po ON t", {"t": AE}),
    ("DROP TABLE t CASCADE", {"t": AE}),
    ("TRUNCATE t", {"t": AE}),
    ("LOCK TABLE t IN SHARE MODE", {"t": S}),
    ("LOCK t", {"t": AE}),
    ("INSERT INTO o VALUES (1)", {"o": RE}),
    ("UPDATE t SET x = 'z'", {"t": RE}),
    ("DELETE FROM t", {"t": RE}),
    ("CLUSTER t USING t_a", {"t": AE}),
    ("REINDEX TABLE t", {"t": S}),
]
