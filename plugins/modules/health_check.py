#!/usr/bin/python
# Copyright (c) 2026 saasops.runbook contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: health_check
short_description: Measure a system's checks and judge them by thresholds
version_added: 0.2.0
description:
  - Measures checks that are data in the inventory (SQL, HTTP, PromQL, commands, Redis, files) and the built-in ones of
    PostgreSQL, and gives each a level, V(ok), V(warning), V(critical) or V(inconclusive).
  - No data is never V(ok). An empty answer, NULL, too few samples, a source that does not answer in time and a missing
    grant are V(inconclusive), and the sentence says which.
  - Every option and every threshold is read before anything is measured; what cannot be read is refused.
  - SQL runs in transactions that cannot write, with limits on statements and locks. Everything but the queries of one
    database is measured side by side, each within its time, all within O(deadline).
  - Only reads, but for its own history in O(store).
author:
  - saasops.runbook contributors (@saasops)
extends_documentation_fragment:
  - saasops.runbook.attributes.info
  - saasops.runbook.connection
  - saasops.runbook.connection.rescue
  - saasops.runbook.store.history
options:
  system:
    description: Name of the system.
    type: str
    required: true
  host:
    description: Name of the host in the inventory; the history and the metrics carry it. O(system) when left out.
    type: str
  database:
    description: The database of the system. Without it the built-in checks are left out.
    type: str
  tenant_schemas:
    description: Patterns of the tenants' schemas, for instance V([org_*]), for O(checks[].sql.each_tenant).
    type: list
    elements: str
    default: []
  checks:
    description: The checks. Each names exactly one source.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A name of its own. The name of a built-in check, with O(checks[].builtin=true), changes that one.
        type: str
        required: true
      title:
        description: What it means to a person.
        type: str
      enabled:
        description: V(false) leaves it out.
        type: bool
        default: true
      warning:
        description:
          - What is a warning, for instance V(> 80 %), V(> 5 min for 10m), V(!= 'ok'), V(not between 5 and 10),
            V(rises by > 20 % in 24h); joined by C(and), C(or) and brackets.
          - Numbers may have a unit, which is turned into O(checks[].unit).
        type: str
      critical:
        description:
          - The same for what is critical.
          - An HTTP status other than 2xx and an exit code other than 0 are critical by themselves when neither
            threshold is given.
        type: str
      unit:
        description:
          - Unit of the value, V(%), V(ratio), V(ms), V(s), V(min), V(h), V(d), V(B), V(kB) to V(TB), V(KiB) to V(TiB),
            or a word such as V(jobs). Ages, latencies and sizes are turned into it.
        type: str
      minimum_samples:
        description: On how many observations the value must rest to be judged.
        type: int
      hold:
        description: How long both thresholds must have been passed, for instance V(10m). It needs a history.
        type: str
      when_down:
        description:
          - The level when the thing itself is not there or does not answer (connection refused, no file, an HTTP error
            instead of a value). A missing file is V(critical) by itself, everything else V(inconclusive).
        type: str
        choices: [inconclusive, warning, critical]
      priority:
        description: Among remedies of one level the lower comes first; 50 when left out.
        type: int
      timeout:
        description: Seconds it may take; 10 when left out, 30 for a built-in check.
        type: float
      remedy:
        description:
          - What cures it. C({scope}), C({value}), and of queries C({schema}) and the columns of the first row are
            replaced in it.
        type: dict
        suboptions:
          verb:
            description: A verb of this collection; without it the remedy is only advice.
            type: str
          variables:
            description: The verb's variables.
            type: dict
            default: {}
          why:
            description: One sentence on why this helps.
            type: str
      builtin:
        description: The name is that of a built-in check, whose thresholds are replaced by those given here.
        type: bool
        default: false
      sql:
        description:
          - A query. One row with one column is the value. Of several columns C(value) is the value, C(scope) says whose
            it is, C(samples) on how much it rests, and the others are detail; each row is judged.
        type: dict
        suboptions:
          query:
            description: A SELECT. Tables of a tenant are named as C({schema}.table).
            type: str
            required: true
          each_tenant:
            description: Ask it in every schema that O(tenant_schemas) names.
            type: bool
            default: false
          schemas:
            description: Ask it in every schema that these patterns name.
            type: list
            elements: str
            default: []
          count:
            description: The number of rows is the value, and the first rows are the detail.
            type: bool
            default: false
          skip_empty:
            description:
              - A schema for which the query gives no row is left out, for instance a tenant with too few rows to judge.
              - When no schema gives a row the check is V(inconclusive) all the same.
            type: bool
            default: false
          database:
            description: Another database of the server than O(database).
            type: str
      http:
        description: A request. The value is the status, or what O(checks[].http.json) or O(checks[].http.latency) say.
        type: dict
        suboptions:
          url:
            description: Address, without a login.
            type: str
            required: true
          method:
            description: The method of the request.
            type: str
            choices: [GET, HEAD, POST]
            default: GET
          body:
            description: What is sent with it.
            type: str
          status:
            description: Which statuses are expected; any 2xx when left out.
            type: list
            elements: int
            default: []
          json:
            description: A JMESPath into the JSON answer that gives one value. Needs the Python library jmespath.
            type: str
          latency:
            description: A percentile such as V(p95), or V(max), of the seconds that O(checks[].http.samples) take.
            type: str
          samples:
            description: How many requests the latency rests on; 5 when left out, 100 at most.
            type: int
          headers:
            description: Headers that are no secrets. One whose name says otherwise (C(Authorization)) is refused.
            type: dict
            default: {}
          api_key:
            description: A secret that is sent in the header O(checks[].http.api_key_header).
            type: str
          api_key_header:
            description: The name of that header.
            type: str
            default: X-API-Key
          bearer_token:
            description: Token that is sent as C(Authorization).
            type: str
          url_username:
            description: User of the basic authentication.
            type: str
          url_password:
            description: Password of the basic authentication.
            type: str
          validate_certs:
            description: V(false) trusts any certificate.
            type: bool
            default: true
          ca_path:
            description: File with the authorities that are trusted.
            type: path
          client_cert:
            description: File with our own certificate.
            type: path
          client_key:
            description: File with its key.
            type: path
          use_proxy:
            description: V(false) ignores the proxies of the environment.
            type: bool
            default: true
          follow_redirects:
            description: V(false) takes a redirect as the answer.
            type: bool
            default: false
      promql:
        description:
          - An instant query to a Prometheus. A scalar or each element of a vector is judged; no element is
            V(inconclusive).
        type: dict
        suboptions:
          url:
            description: Its root, without V(/api/v1).
            type: str
            required: true
          query:
            description: The query.
            type: str
            required: true
          max_age:
            description: How old the newest sample of O(checks[].promql.series) may be, for instance V(2m).
            type: str
          series:
            description: The selector whose age is meant, for instance V(up{job="api"}).
            type: str
          headers:
            description: Headers that are no secrets. One whose name says otherwise (C(Authorization)) is refused.
            type: dict
            default: {}
          bearer_token:
            description: Token that is sent as C(Authorization).
            type: str
          url_username:
            description: User of the basic authentication.
            type: str
          url_password:
            description: Password of the basic authentication.
            type: str
          validate_certs:
            description: V(false) trusts any certificate.
            type: bool
            default: true
          ca_path:
            description: File with the authorities that are trusted.
            type: path
          client_cert:
            description: File with our own certificate.
            type: path
          client_key:
            description: File with its key.
            type: path
          use_proxy:
            description: V(false) ignores the proxies of the environment.
            type: bool
            default: true
      command:
        description: A program on the host, run without a shell. It must only read.
        type: dict
        suboptions:
          argv:
            description: Program and arguments.
            type: list
            elements: str
            required: true
          value:
            description: V(exit) is its exit code, V(number) the first number it writes, V(text) all that it writes.
            type: str
            choices: [exit, number, text]
            default: exit
          pattern:
            description: A regular expression whose first group is the number.
            type: str
          json:
            description: A JMESPath into the JSON that it writes. Needs the Python library jmespath.
            type: str
          chdir:
            description: Folder to run it in.
            type: path
      redis:
        description:
          - A Redis server. Needs the Python library redis. The value is the seconds of a PING, or what is asked for.
        type: dict
        suboptions:
          host:
            description: Name or address.
            type: str
            default: 127.0.0.1
          port:
            description: Port.
            type: int
            default: 6379
          unix_socket:
            description: Path of its socket; goes before O(checks[].redis.host).
            type: path
          username:
            description: User (ACL).
            type: str
          password:
            description: Password.
            type: str
          db:
            description: Number of the database.
            type: int
            default: 0
          tls:
            description: Talk TLS.
            type: bool
            default: false
          validate_certs:
            description: V(false) trusts any certificate.
            type: bool
            default: true
          ca_path:
            description: File with the authorities that are trusted.
            type: path
          info:
            description: A field of INFO, for instance V(used_memory).
            type: str
          llen:
            description: A list whose length is the value, for instance V(bull:mail:wait).
            type: str
          zcard:
            description: A sorted set whose size is the value, for instance V(bull:mail:failed).
            type: str
      file:
        description: A file on the host.
        type: dict
        suboptions:
          path:
            description: Its absolute path; with C(*), C(?) or C([]) the newest file that fits.
            type: str
            required: true
          measure:
            description: V(age) in seconds since its last change, or V(size) in bytes.
            type: str
            choices: [age, size]
            default: age
  builtin:
    description: Measure the built-in checks of PostgreSQL, too.
    type: bool
    default: true
  expect:
    description: What the inventory asks of the server, for built-in checks that no default fits.
    type: dict
    default: {}
    suboptions:
      databases:
        description: Further databases of the server that are looked into.
        type: list
        elements: str
        default: []
      rpo:
        description: The longest time whose commits may be lost, for instance V(24h).
        type: str
      replicas:
        description: How many standbys ought to be connected.
        type: int
      settings:
        description: Names of settings, each with the value that is asked for; for instance C(synchronous_commit).
        type: dict
        default: {}
      timeouts:
        description: Timeouts that ought to be set.
        type: list
        elements: dict
        default: []
        suboptions:
          setting:
            description: Its name.
            type: str
            default: statement_timeout
          at_most:
            description: The longest that is accepted, for instance V(30s).
            type: str
            required: true
          role:
            description: As sessions of this role get it.
            type: str
          database:
            description: As sessions in this database get it.
            type: str
      least_bytes:
        description: Tables and indexes smaller than this are not looked at for bloat and use; 10 MiB without it.
        type: int
      least_dead:
        description: Tables with fewer dead rows are not looked at; 10000 without it.
        type: int
      least_calls:
        description: Statements that were called less often are not looked at; 20 without it.
        type: int
  only:
    description: Names of checks or shell-like patterns; C(!pattern) takes away from what stands before it.
    type: list
    elements: str
    default: []
  set:
    description: The name of one of O(sets).
    type: str
  sets:
    description: Named sets of checks, each a list like O(only).
    type: dict
    default: {}
  deadline:
    description: Seconds that all checks together may take; what is not measured by then is V(inconclusive).
    type: int
    default: 60
  inventory:
    description: The inventory that the commands of the remedies name.
    type: list
    elements: str
    default: []
  limit:
    description: The host that the commands of the remedies name; none when the inventory has only one.
    type: str
attributes:
  check_mode:
    details: Nothing is added to the history.
notes:
  - Exit statuses by level are those of monitoring plugins, 0 ok, 1 warning, 2 critical, 3 inconclusive. They are in the
    result (RV(exit_status)); C(ansible-playbook) itself has its own, which is 2 for a failed task.
seealso:
  - module: saasops.runbook.pg_backup_info
"""

EXAMPLES = r"""
- name: Look at every tenant's campaigns without an approval, and at the application's own health
  saasops.runbook.health_check:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
    tenant_schemas: [org_*]
    checks:
      - name: campaigns_without_approval
        sql:
          query: >-
            SELECT id, name FROM {schema}."Campaign" WHERE probability >= 90 AND "approvalRequestId" IS NULL
          each_tenant: true
          count: true
        unit: campaigns
        critical: "> 0"
      - name: application
        http:
          url: http://127.0.0.1:3000/api/health
          json: status
        critical: "!= 'ok'"
        when_down: critical
  register: health

- name: Measure a set alone, and remember it
  saasops.runbook.health_check:
    system: demo
    database: podcastflow
    connection:
      unix_socket: /run/postgresql
    store:
      path: /var/backups/demo
    checks:
      - name: rollbacks
        sql:
          query: SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()
        warning: rises by > 50 % in 1h
    set: daily
    sets:
      daily: [rollbacks]
"""

RETURN = r"""
level:
  description: The worst level of all checks, V(ok), V(inconclusive), V(warning) or V(critical).
  returned: success
  type: str
  sample: warning
exit_status:
  description: The level as monitoring plugins exit with it, 0 ok, 1 warning, 2 critical, 3 inconclusive.
  returned: success
  type: int
set:
  description: The set; V(all), or V(some) for O(only).
  returned: success
  type: str
checks:
  description: Every check, worst first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    title:
      description: Its title.
      type: str
    source:
      description: Where its value comes from.
      type: str
    level:
      description: V(ok), V(inconclusive), V(warning) or V(critical).
      type: str
    value:
      description: The measured value of its worst scope, or null.
      type: raw
    unit:
      description: Unit of the value.
      type: str
    scope:
      description: Whose value that is, for instance a tenant's schema.
      type: str
    scopes:
      description: How many were measured.
      type: int
    not_ok:
      description: How many of them are not ok.
      type: int
    warning:
      description: The threshold.
      type: str
    critical:
      description: The threshold.
      type: str
    why:
      description: The level as a sentence with number, threshold and unit.
      type: str
    detail:
      description: At most 20 lines for whoever looks closer.
      type: list
      elements: str
    remedies:
      description: What cures it, as verb, variables and why.
      type: list
      elements: dict
remedies:
  description: At most three commands, worst first, each with check, level, command and why.
  returned: success
  type: list
  elements: dict
lines:
  description: The checks as lines for a terminal.
  returned: success
  type: list
  elements: str
metrics:
  description: The checks in Prometheus' text format, for the textfile collector of node_exporter.
  returned: success
  type: str
metrics_file:
  description: A name for a file with them.
  returned: success
  type: str
"""

from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_builtin import EXPECT_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_check import execute
from ansible_collections.saasops.runbook.plugins.module_utils.execute.health_options import CHECKS_SPEC
from ansible_collections.saasops.runbook.plugins.module_utils.module import run_module
from ansible_collections.saasops.runbook.plugins.module_utils.postgres.connection import (
    CONNECTION_SPEC,
    RESCUE_CONNECTION_SPEC,
)
from ansible_collections.saasops.runbook.plugins.module_utils.store.open import STORE_SPEC

SPEC = {
    "system": {"type": "str", "required": True},
    "host": {"type": "str"},
    "database": {"type": "str"},
    "tenant_schemas": {"type": "list", "elements": "str", "default": []},
    **CHECKS_SPEC,
    "builtin": {"type": "bool", "default": True},
    **EXPECT_SPEC,
    "only": {"type": "list", "elements": "str", "default": []},
    "set": {"type": "str"},
    "sets": {"type": "dict", "default": {}},
    "deadline": {"type": "int", "default": 60},
    "inventory": {"type": "list", "elements": "str", "default": []},
    "limit": {"type": "str"},
    **CONNECTION_SPEC,
    **RESCUE_CONNECTION_SPEC,
    "store": {**STORE_SPEC["store"], "required": False},
}


def main() -> None:
    run_module(SPEC, execute)


if __name__ == "__main__":
    main()
