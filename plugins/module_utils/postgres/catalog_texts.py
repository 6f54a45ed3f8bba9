# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line of text for everything in a database that a dump carries beside rows, in groups of schema and kind.

Each query gives (schema, kind, text) of objects that belong to no extension; schema is '' for what has none.
Texts are names, flags and owners, never expressions: the server prints an expression in another form once it was
dumped and read back (IN lists become = ANY arrays), and that is no difference.
"""

from __future__ import annotations

_NOT_OF_EXTENSION = (
    "NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalog}'::regclass AND x.objid = {alias}.oid"
    " AND x.deptype = 'e')"
)
_USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _own(catalog: str, alias: str) -> str:
    return _NOT_OF_EXTENSION.replace("{catalog}", catalog).replace("{alias}", alias)


_TABLE = f"pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND {_USER_SCHEMA} AND c.relpersistence <> 't'"
_ROLES = (
    "(SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END, ','"
    ' ORDER BY pg_get_userbyid(r)::text COLLATE "C") FROM unnest({roles}) r)'
)

SCHEMAS = f"""
SELECT n.nspname::text AS schema, 'schema' AS kind, 'owner ' || pg_get_userbyid(n.nspowner) AS text
  FROM pg_namespace n WHERE {_USER_SCHEMA} AND {_own("pg_namespace", "n")}
"""
RELATIONS = f"""
SELECT n.nspname::text, 'relations', concat_ws(' ', c.relkind, c.relname, 'owner', pg_get_userbyid(c.relowner),
       c.relpersistence, c.relreplident, CASE WHEN c.relrowsecurity THEN 'rls' END,
       CASE WHEN c.relforcerowsecurity THEN 'forced' END, CASE WHEN c.relispartition THEN 'partition' END,
       array_to_string(c.reloptions, ','))
  FROM {_TABLE} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND {_own("pg_class", "c")}
"""
# pg_attver is the server's own (from 15.20 on it marks each column with where in the WAL it was made): no dump has it
COLUMNS = f"""
SELECT n.nspname::text, 'columns', concat_ws(' ', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attnotnull THEN 'not null' END, CASE WHEN a.atthasdef THEN 'default' END, a.attidentity,
       a.attgenerated, nullif(a.attcollation, t.typcollation)::regcollation::text,
       (SELECT string_agg(o, ',') FROM unnest(a.attoptions) o WHERE split_part(o, '=', 1) <> 'pg_attver'))
  FROM {_TABLE} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type t ON t.oid = a.atttypid
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {_own("pg_class", "c")}
"""
# an invalid index is left out by pg_dump
INDEXES = f"""
SELECT n.nspname::text, 'indexes', concat_ws(' ', ic.relname, 'on', c.relname, am.amname,
       CASE WHEN i.indisunique THEN 'unique' END, CASE WHEN i.indisprimary THEN 'primary' END,
       CASE WHEN i.indisreplident THEN 'identity' END, CASE WHEN i.indisclustered THEN 'clustered' END,
       (SELECT string_agg(coalesce(a.attname, '()'), ',' ORDER BY k.n)
          FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, n)
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num AND k.num <> 0),
       CASE WHEN i.indpred IS NOT NULL THEN 'partial' END)
  FROM {_TABLE} JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid
  JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
 WHERE c.relkind IN ('r', 'p', 'm') AND {_own("pg_class", "c")}
"""
# not-null constraints have rows of their own from 18 on, and are compared as columns
CONSTRAINTS = f"""
SELECT n.nspname::text, 'constraints', concat_ws(' ', c.relname, k.conname, k.contype,
       CASE WHEN NOT k.convalidated THEN 'not valid' END, CASE WHEN k.condeferrable THEN 'deferrable' END,
       CASE WHEN k.condeferred THEN 'deferred' END, k.confdeltype, k.confupdtype,
       CASE WHEN k.confrelid <> 0 THEN k.confrelid::regclass::text END,
       (SELECT string_agg(a.attname, ',' ORDER BY u.n) FROM unnest(k.conkey) WITH ORDINALITY u(num, n)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num))
  FROM {_TABLE} JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype NOT IN ('n', 't')
 WHERE {_own("pg_class", "c")}
"""
TRIGGERS = f"""
SELECT n.nspname::text, 'triggers', concat_ws(' ', t.tgname, 'on', c.relname, t.tgenabled, t.tgtype,
       t.tgfoid::regprocedure, CASE WHEN t.tgqual IS NOT NULL THEN 'when' END,
       (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
         WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[])))
  FROM {_TABLE} JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
 WHERE {_own("pg_class", "c")}
"""
POLICIES = f"""
SELECT n.nspname::text, 'policies', concat_ws(' ', p.polname, 'on', c.relname, p.polcmd,
       CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, {_ROLES.replace("{roles}", "p.polroles")})
  FROM {_TABLE} JOIN pg_policy p ON p.polrelid = c.oid
"""
RULES = f"""
SELECT n.nspname::text, 'rules', concat_ws(' ', r.rulename, 'on', c.relname, r.ev_type, r.ev_enabled)
  FROM {_TABLE} JOIN pg_rewrite r ON r.ev_class = c.oid AND r.rulename <> '_RETURN'
 WHERE {_own("pg_class", "c")}
"""
FUNCTIONS = f"""
SELECT n.nspname::text, 'functions', concat_ws(' ', f.prokind,
       f.proname || '(' || pg_get_function_identity_arguments(f.oid) || ')', pg_get_function_result(f.oid),
       l.lanname, 'owner', pg_get_userbyid(f.proowner), f.provolatile, f.proparallel,
       CASE WHEN f.prosecdef THEN 'definer' END, CASE WHEN f.proisstrict THEN 'strict' END,
       CASE WHEN f.proleakproof THEN 'leakproof' END, array_to_string(f.proconfig, ','), md5(f.prosrc))
  FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace AND {_USER_SCHEMA}
  JOIN pg_language l ON l.oid = f.prolang WHERE {_own("pg_proc", "f")}
   AND NOT EXISTS (SELECT FROM pg_depend x
                    WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'i')
"""
TYPES = f"""
SELECT n.nspname::text, 'types', concat_ws(' ', t.typtype, t.typname, 'owner', pg_get_userbyid(t.typowner),
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
       CASE WHEN t.typnotnull THEN 'not null' END,
       (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND {_USER_SCHEMA}
 WHERE t.typtype IN ('d', 'e', 'r') AND {_own("pg_type", "t")}
"""
OTHERS = f"""
SELECT n.nspname::text, 'other objects', o.text
  FROM (SELECT 'pg_operator'::regclass AS catalog, oid, oprnamespace AS space,
               concat_ws(' ', 'operator', oprname, oprleft::regtype, oprright::regtype) AS text FROM pg_operator
        UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace, 'operator class ' || opcname FROM pg_opclass
        UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace, 'collation ' || collname FROM pg_collation
        UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace, 'conversion ' || conname FROM pg_conversion
        UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace, 'text search configuration ' || cfgname
                    FROM pg_ts_config
        UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace, 'text search dictionary ' || dictname
                    FROM pg_ts_dict
       ) o JOIN pg_namespace n ON n.oid = o.space AND {_USER_SCHEMA}
 WHERE NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = o.catalog AND x.objid = o.oid AND x.deptype = 'e')
"""
WITHOUT_SCHEMA = f"""
SELECT '', 'casts', concat_ws(' ', castsource::regtype, castta.typname, castcontext, castmethod)
  FROM pg_cast c JOIN pg_type castta ON castta.oid = c.casttarget WHERE c.oid >= 16384 AND {_own("pg_cast", "c")}
UNION ALL SELECT '', 'languages', concat_ws(' ', lanname, 'owner', pg_get_userbyid(lanowner))
  FROM pg_language l WHERE l.oid >= 16384 AND {_own("pg_language", "l")}
UNION ALL SELECT '', 'foreign data wrappers', concat_ws(' ', fdwname, 'owner', pg_get_userbyid(fdwowner))
  FROM pg_foreign_data_wrapper w WHERE {_own("pg_foreign_data_wrapper", "w")}
UNION ALL SELECT '', 'servers', concat_ws(' ', srvname, 'owner', pg_get_userbyid(srvowner), srvtype, srvversion)
  FROM pg_foreign_server s WHERE {_own("pg_foreign_server", "s")}
UNION ALL SELECT '', 'user mappings', concat_ws(' ', srvname, coalesce(usename, 'PUBLIC')) FROM pg_user_mappings
UNION ALL SELECT '', 'large object owners', concat_ws(' ', oid, pg_get_userbyid(lomowner)) FROM pg_largeobject_metadata
"""
# a grant list that is null means the default one, and pg_dump writes nothing for either
GRANTS = f"""
SELECT g.schema, 'grants', concat_ws(' ', g.object,
       CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(e.grantee) END,
       string_agg(e.privilege_type || CASE WHEN e.is_grantable THEN '*' ELSE '' END, ',' ORDER BY e.privilege_type))
  FROM (SELECT n.nspname::text AS schema,
               CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.relname AS object,
               coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END,
                                             c.relowner)) AS acl
          FROM {_TABLE} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {_own("pg_class", "c")}
        UNION ALL SELECT n.nspname::text, 'column ' || c.relname || '.' || a.attname, a.attacl
          FROM {_TABLE} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
         WHERE {_own("pg_class", "c")}
        UNION ALL SELECT n.nspname::text, 'schema', coalesce(n.nspacl, acldefault('n', n.nspowner))
          FROM pg_namespace n WHERE {_USER_SCHEMA} AND {_own("pg_namespace", "n")}
        UNION ALL SELECT n.nspname::text,
               'function ' || f.proname || '(' || pg_get_function_identity_arguments(f.oid) || ')',
               coalesce(f.proacl, acldefault('f', f.proowner))
          FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace AND {_USER_SCHEMA} WHERE {_own("pg_proc", "f")}
           AND NOT EXISTS (SELECT FROM pg_depend x
                            WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'i')
        UNION ALL SELECT n.nspname::text, 'type ' || t.typname, coalesce(t.typacl, acldefault('T', t.typowner))
          FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND {_USER_SCHEMA}
         WHERE t.typtype IN ('d', 'e', 'r') AND {_own("pg_type", "t")}
        UNION ALL SELECT '', 'large object ' || m.oid, coalesce(m.lomacl, acldefault('L', m.lomowner))
          FROM pg_largeobject_metadata m
        UNION ALL SELECT '', 'language ' || l.lanname, coalesce(l.lanacl, acldefault('l', l.lanowner))
          FROM pg_language l WHERE l.oid >= 16384 AND {_own("pg_language", "l")}
        UNION ALL SELECT '', 'server ' || s.srvname, coalesce(s.srvacl, acldefault('S', s.srvowner))
          FROM pg_foreign_server s WHERE {_own("pg_foreign_server", "s")}
       ) g CROSS JOIN LATERAL aclexplode(g.acl) e
 GROUP BY g.schema, g.object, e.grantee
"""
_DESCRIBED = """
SELECT coalesce(i.schema, CASE i.type WHEN 'schema' THEN i.name END, ''), '{kind}',
       concat_ws(' ', i.type, i.identity, {more}md5({text}))
  FROM {catalog} d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
 WHERE d.objoid >= 16384 AND i.identity IS NOT NULL
   AND coalesce(i.schema, CASE i.type WHEN 'schema' THEN i.name END, '') !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.classoid AND x.objid = d.objoid AND x.deptype = 'e')
"""
COMMENTS = (
    _DESCRIBED.replace("{kind}", "comments")
    .replace("{more}", "")
    .replace("{text}", "d.description")
    .replace("{catalog}", "pg_description")
)
LABELS = (
    _DESCRIBED.replace("{kind}", "security labels")
    .replace("{more}", "d.provider, ")
    .replace("{text}", "d.label")
    .replace("{catalog}", "pg_seclabel")
)

ALL = (
    SCHEMAS, RELATIONS, COLUMNS, INDEXES, CONSTRAINTS, TRIGGERS, POLICIES, RULES, FUNCTIONS, TYPES, OTHERS,
    WITHOUT_SCHEMA, GRANTS, COMMENTS, LABELS,
)  # fmt: skip

# at most this many texts of one schema and kind travel in full, so that a difference can be named
LISTED = 100

GROUPED = (
    "SELECT schema, kind, count(*) AS count,"
    ' md5(string_agg(text, chr(10) ORDER BY text COLLATE "C")) AS hash,'
    f' CASE WHEN count(*) <= {LISTED} THEN json_agg(text ORDER BY text COLLATE "C") END AS items'
    " FROM (" + "\nUNION ALL\n".join(query.strip() for query in ALL) + ") AS everything(schema, kind, text)"
    " GROUP BY schema, kind ORDER BY 1, 2"
)
