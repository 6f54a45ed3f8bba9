#!/bin/sh
# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# One verb in a CI job, in steps that a pipeline can hold apart:
#
#   run.sh plan    <verb> <inventory> [-e ...]   keeps the plan in the store, prints its id, writes it to $OUT/plan
#   run.sh approve <verb> <inventory>            by somebody else, with a credential of their own; reads $OUT/plan
#   run.sh apply   <verb> <inventory> [-e ...]   does what was approved; 75 when the window is closed: try again later
#   run.sh report  <verb> <inventory>            proves the journal and keeps what it says in $OUT/journal.txt
#
# OUT is a folder for the job's artifacts (default ./out). Give plan and apply the same -e options. The system must ask
# for an approval of the verb (saasops_approval in the inventory). Needs ansible-playbook and python3.
set -eu

step=${1:?plan, approve, apply or report}
verb=${2:?a verb}
inventory=${3:?an inventory}
shift 3
OUT=${OUT:-out}
mkdir -p "$OUT"

play() { # <verb> <options>: the run's results as JSON in $OUT/<step>.json, its status as the answer
    name=$1
    shift
    status=0
    ANSIBLE_STDOUT_CALLBACK=ansible.posix.json ANSIBLE_JSON_INDENT=1 \
        ansible-playbook "saasops.runbook.$name" -i "$inventory" "$@" \
        </dev/null >"$OUT/$step.json" 2>"$OUT/$step.log" || status=$?
    return "$status"
}

# The one value of a name that a refused module gave; nothing when no host gave it.
value() {
    python3 - "$OUT/$step.json" "$1" <<'PYTHON'
import json, sys
with open(sys.argv[1], encoding="utf-8") as stream:
    text = stream.read()
# warnings may stand before the JSON
run = json.loads(text[text.index("\n{") + 1 if not text.startswith("{") else 0:])
for play in run["plays"]:
    for task in play["tasks"]:
        for result in task["hosts"].values():
            found = result.get("details", {}).get("plan") if sys.argv[2] == "plan" else result.get(sys.argv[2])
            if result.get("failed") and found:
                print(found)
                sys.exit(0)
PYTHON
}

case $step in
plan)
    if play "$verb" "$@"; then
        echo "Nothing asked for an approval: $verb was run."
        exit 0
    fi
    plan=$(value plan)
    if [ -z "$plan" ]; then
        value msg >&2
        exit 1
    fi
    echo "$plan" >"$OUT/plan"
    echo "Plan $plan waits for an approval."
    ;;
approve)
    play approve -e "plan=$(cat "$OUT/plan")" "$@" || { value msg >&2; exit 1; }
    echo "Plan $(cat "$OUT/plan") is approved."
    ;;
apply)
    if play "$verb" "$@"; then
        echo "Done."
        exit 0
    fi
    code=$(value code)
    value msg >&2
    case $code in
    window_closed | frozen | lease_held) exit 75 ;;
    esac
    exit 1
    ;;
report)
    ansible-playbook saasops.runbook.journal_verify -i "$inventory" "$@" </dev/null >"$OUT/journal.txt" 2>&1
    ;;
*)
    echo "Unknown step $step: plan, approve, apply or report." >&2
    exit 2
    ;;
esac
