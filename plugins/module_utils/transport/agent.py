# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX sh programs that run on the far side of an exec, and how their last words are read.

The texts are constant: every value is a positional argument. They need sh, tee, wc, sha256sum, find, stat, df,
grep, tr and sleep as busybox or coreutils have them, and no Python.

An exec stream can be cut and the client still exit 0. So RUN computes length and SHA-256 of what the program
wrote before it leaves the far side, and says so with the exit code in a trailer on stderr, which is marked by
a random word. No trailer, or other bytes here than there: the stream was cut.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import FileFact

# $1 random word, $2 "keep" or "drop" (stdout), then the program and its arguments.
# Two tees in a row: the first feeds the real stdout, the second sha256sum and wc. /proc/self/fd is only ever a
# pipe of our own, because the exec's own stdout may belong to root.
RUN = r"""
word=$1 out=$2; shift 2
case $1 in
*/*) [ -f "$1" ] && [ -x "$1" ] || { printf '\n%s missing\n' "$word" >&2; exit 127; } ;;
*) command -v "$1" >/dev/null 2>&1 || { printf '\n%s missing\n' "$word" >&2; exit 127; } ;;
esac
if [ "$out" = drop ]; then
  ( exec "$@" >/dev/null )
  code=$?
  printf '\n%s code %s\n' "$word" "$code" >&2
  exit "$code"
fi
exec 3>&1
report=$(
  {
    { ( exec "$@" 3>&- 4>&- ); echo "code $?" >&4; } |
    tee /proc/self/fd/5 5>&1 1>&3 4>&- |
    {
      tee /proc/self/fd/5 5>&1 1>&6 3>&- 4>&- |
      { sum=$(sha256sum 3>&- 4>&- 6>&-); echo "sha256 ${sum%% *}" >&4; }
    } 6>&1 |
    { length=$(wc -c 3>&- 4>&-); echo "length" $length >&4; }
  } 4>&1
)
printf '\n%s %s\n' "$word" "$(echo $report)" >&2
code=${report#*code }
exit "${code%%[!0-9]*}"
"""

# $1 random word, $2 length of the secret in bytes, which comes on stdin. Writes it to a file of mode 0600, prints
# the word and the file's path, and removes the file at the end of stdin: when the other side closes it or dies.
# Files whose keeper was killed are removed first.
KEEP = r"""
umask 077
for old in /dev/shm/saasops-pass-*.* /tmp/saasops-pass-*.*; do
  [ -f "$old" ] && [ ! -L "$old" ] || continue
  { tr '\0' '\n' <"/proc/${old##*.}/cmdline"; } 2>/dev/null | grep -qx saasops-pass || rm -f -- "$old" 2>/dev/null
done
[ "$2" -gt 0 ] || exit 0
folder=/tmp
[ -d /dev/shm ] && [ -w /dev/shm ] && folder=/dev/shm
file=$folder/saasops-pass-$1.$$
trap 'rm -f -- "$file"' EXIT
trap 'exit 143' HUP INT TERM
set -C
head -c "$2" >"$file" || exit 1
[ "$(wc -c <"$file")" -eq "$2" ] || exit 1
printf '%s %s\n' "$1" "$file"
cat >/dev/null
"""

# $1 our own run, $2 variable, $3 the beginning of its value. Prints pids of this user's processes that have the
# variable so and were not started by our own run.
FIND = r"""
for folder in /proc/[0-9]*; do
  [ -r "$folder/environ" ] && [ "${folder#/proc/}" != "$$" ] || continue
  # busybox's grep sees nothing after a NUL, so lines are made of it first
  { tr '\n\0' ' \n' <"$folder/environ"; } 2>/dev/null | {
    found= own=
    while IFS= read -r line; do
      case $line in
      "$2=$3"*) found=yes ;;
      "SAASOPS_EXEC=$1-"*) own=yes ;;
      esac
    done
    [ -n "$found" ] && [ -z "$own" ] && printf '%s\n' "${folder#/proc/}"
  }
done
exit 0
"""

# Pids as arguments: SIGTERM, and SIGKILL for those that are left after 2 seconds; children before their parents, so
# that each is waited for by its own. PostgreSQL is process 1 of many containers: it is given every orphan, takes one
# that a signal ended for a crashed server process, and restarts with all its sessions lost. So an orphan of that kind
# gets no signal: once its backend is ended it exits by itself.
END = r"""
parent() { sed -n '/^State:.*Z/q;s/^PPid:[^0-9]*//p' "/proc/$1/status" 2>/dev/null; }
first=$(cat /proc/1/comm 2>/dev/null)
for round in 1 2 3 4 5 6 7 8; do
  left= parents=" "
  for pid; do
    up=$(parent "$pid")
    [ -n "$up" ] || continue
    [ "$up" = 1 ] && [ "$first" = postgres ] && continue
    left="$left $pid" parents="$parents$up "
  done
  [ -n "$left" ] || exit 0
  leaves=
  for pid in $left; do
    case $parents in *" $pid "*) ;; *) leaves="$leaves $pid" ;; esac
  done
  kill -TERM $leaves 2>/dev/null
  kill -CONT $leaves 2>/dev/null
  for tick in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    there=
    for pid in $leaves; do [ -n "$(parent "$pid")" ] && there="$there $pid"; done
    [ -n "$there" ] || break
    sleep 0.1
  done
  [ -z "$there" ] || kill -KILL $there 2>/dev/null
done
exit 0
"""

# $1 folder. For each batch of files: names ended by NUL, an empty name, one line each of length, one of SHA-256.
FACTS = r"""
cd -- "$1" && exec find . -type f -exec sh -c '
printf "%s\0" "$@" "" && stat -c %s -- "$@" && sha256sum -- "$@"
' sh {} +
"""

# $1 path. Bytes from stdin to a new file of mode 0600; prints its length and SHA-256 as read back.
WRITE = r"""
umask 077
rm -f -- "$1" && cat >"$1" &&
stat -c %s -- "$1" && sha256sum <"$1"
"""

# $1 path: POSIX df of it or of its nearest parent that exists.
FREE = r"""
path=$1
while [ ! -e "$path" ] && [ -n "$path" ]; do path=${path%/*}; done
exec df -P -k -- "${path:-/}"
"""

# $1 folder, made with mode 0700; exit 3 when it is there.
MAKE_FOLDER = r"""
[ ! -e "$1" ] && [ ! -L "$1" ] || exit 3
exec mkdir -m 0700 -- "$1"
"""


@dataclass(frozen=True)
class Trailer:
    """What RUN said at the end; length in bytes and SHA-256 (hex) only where stdout was kept."""

    missing: bool
    code: int
    length: int | None = None
    sha256: str | None = None


def read_trailer(word: str, stderr: bytes) -> tuple[Trailer | None, bytes]:
    """The trailer, if it arrived whole, and stderr without it."""
    found = re.search(rb"\n" + word.encode("ascii") + rb" ([^\n]*)\n", stderr)
    if not found:
        return None, stderr
    rest = stderr[: found.start()] + stderr[found.end() :]
    said = found.group(1).decode("ascii", "replace").split()
    if said == ["missing"]:
        return Trailer(True, 127), rest
    facts = dict(zip(said[::2], said[1::2]))
    if not facts.get("code", "").isdigit():
        return None, rest
    length = facts.get("length", "")
    sha256 = facts.get("sha256", "")
    return (
        Trailer(
            False,
            int(facts["code"]),
            int(length) if length.isdigit() else None,
            sha256 if re.fullmatch("[0-9a-f]{64}", sha256) else None,
        ),
        rest,
    )


def read_facts(output: bytes) -> list[FileFact]:
    """What FACTS printed, sorted by name. Raises OpsError transport_failed when it does not add up."""
    facts: list[FileFact] = []
    at = 0
    while at < len(output):
        names, at = _names(output, at)
        lengths = []
        for _name in names:
            line, at = _line(output, at)
            lengths.append(int(line))
        for name, length in zip(names, lengths):
            sha256, at = _sum(output, at, name)
            shown = name[2:] if name.startswith(b"./") else name
            facts.append(FileFact(shown.decode("utf-8", "surrogateescape"), length, sha256))
    return sorted(facts, key=lambda fact: fact.name)


def read_free(output: bytes) -> int:
    """The free bytes that FREE printed. Raises OpsError transport_failed when it cannot be read."""
    # the device and the mount point may hold spaces; the numbers between do not
    found = re.search(rb"\s\d+\s+\d+\s+(\d+)\s+\S+\s+/[^\n]*\s*\Z", output)
    if not found:
        raise unreadable(output)
    return int(found.group(1)) * 1024


def _names(output: bytes, at: int) -> tuple[Sequence[bytes], int]:
    end = output.find(b"\0\0", at)
    if end < 0:
        raise unreadable(output, at)
    return output[at:end].split(b"\0"), end + 2


def _line(output: bytes, at: int) -> tuple[bytes, int]:
    end = output.find(b"\n", at)
    if end < 0:
        raise unreadable(output, at)
    return output[at:end], end + 1


def _sum(output: bytes, at: int, name: bytes) -> tuple[str, int]:
    """The SHA-256 of one file. coreutils escapes a name with a newline or backslash, busybox prints it raw."""
    if output[at : at + 1] == b"\\":
        line, end = _line(output, at + 1)
        return _hex(output, line[:64], at), end
    end = at + 64 + 2 + len(name) + 1
    if output[at + 66 : end] != name + b"\n":
        raise unreadable(output, at)
    return _hex(output, output[at : at + 64], at), end


def _hex(output: bytes, text: bytes, at: int) -> str:
    if not re.fullmatch(rb"[0-9a-f]{64}", text):
        raise unreadable(output, at)
    return text.decode("ascii")


def unreadable(output: bytes, at: int = 0) -> OpsError:
    """For an answer of a program above that is not in its form."""
    return OpsError(
        "transport_failed",
        f"The far side answered in a form that cannot be read: {output[at : at + 80]!r}.",
        "Check that sh, find, stat and sha256sum there are those of busybox or coreutils.",
    )
