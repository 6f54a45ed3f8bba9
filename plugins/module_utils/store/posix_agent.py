# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""POSIX sh programs that keep a store's folder on the host that has it; posix_remote.py starts them.

The texts are constant: every value is a positional argument or a line of stdin. They need sh and what coreutils and
findutils (or busybox) have: cat, df, find, link, ls, mkdir, mv, rm, rmdir, sha256sum, stat, sync, tee, touch, xargs;
flock, where it is, keeps sweep from what a living writer of that host holds. No Python.

A program that refuses exits with one of the codes below; with exit code 1 the last line of stderr is the reason,
in the words of strerror (the locale is C).
"""

from __future__ import annotations

ROOT_MISSING = 40
ROOT_NO_FOLDER = 41
EXISTS = 42
MISSING = 43
NO_FILE = 44
OTHER_BYTES = 45
TEMPORARY_GONE = 46
FOLDER_GONE = 47
NO_LINKS = 48

# Every program begins so: $1 root, $2 "create" or "present". Paths below root are relative, so that nothing is
# written beside a volume that was unmounted meanwhile.
_COMMON = r"""
umask 077
enter() {
  cd -- "$1" 2>/dev/null && return
  kind=$(stat -L -c %F -- "$1" 2>&1) || {
    case $kind in *'No such file'* | *'Not a directory'*) exit 40 ;; esac
    printf '%s\n' "$kind" >&2
    exit 1
  }
  [ "$kind" = directory ] || exit 41
  echo 'cd: Permission denied' >&2
  exit 1
}
make_folder() {
  [ -d "$1" ] && return 0
  case $1 in ./*/* | /*/*) make_folder "${1%/*}" || return 1 ;; esac
  mkdir -- "$1" || [ -d "$1" ] || return 1
  parent=${1%/*}
  sync "${parent:-/}"
}
prepare() {
  [ "$2" = create ] && [ ! -e "$1" ] && { make_folder "$1" || exit 1; }
  enter "$1"
}
# $1 file, that shall exist, in ./.tmp
make_temporary() {
  tries=0
  while [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    make_folder ./.tmp || exit 1
    { true >"$1"; } 2>/dev/null && return 0
    said=$(touch "$1" 2>&1) && return 0
    # a sweep removed the empty folder: once more
    case $said in *'No such file'*) continue ;; esac
    printf '%s\n' "$said" >&2
    exit 1
  done
  exit 47
}
# $1 file in ./.tmp, $2 ./key, $3 "exclusive" or "replace": a name for it, durable on return
publish() {
  parent=${2%/*} tries=0
  while [ "$tries" -lt 100 ]; do
    tries=$((tries + 1))
    [ -f "$1" ] || exit 46
    folder=$(make_folder "$parent" 2>&1) || {
      case $folder in *'No such file'*) continue ;; esac
      printf '%s\n' "$folder" >&2
      return 1
    }
    if [ "$3" = exclusive ]; then
      said=$(link "$1" "$2" 2>&1) && { sync "$parent" || return 1; rm -f "$1"; return 0; }
      { [ -e "$2" ] || [ -L "$2" ]; } && return 42
      case $said in *'not permitted'* | *'not supported'* | *'not implemented'* | *'oo many links'*) return 48 ;; esac
    elif [ -d "$2" ]; then
      said='mv: Is a directory'
    else
      said=$(mv -f "$1" "$2" 2>&1) && { sync "$parent"; return; }
    fi
    # a delete removed the empty folder between our mkdir and our link
    case $said in *'No such file'*) continue ;; esac
    printf '%s\n' "$said" >&2
    return 1
  done
  return 47
}
"""

# $3 key. Exit 0 when the store has no such object.
ABSENT = (
    _COMMON
    + r"""
prepare "$1" "$2"
{ [ -e "./$3" ] || [ -L "./$3" ]; } && exit 42
exit 0
"""
)

# $3 name in .tmp, $4 key, $5 "exclusive" or "replace", $6 and $7 length and SHA-256 when they are known beforehand.
# Stdin to a file, synced. What is known beforehand is compared and published. What is not, waits in .tmp for
# PUBLISH, since the end of stdin may be that of a cut stream; its length and the SHA-256 of what arrived are printed.
WRITE = (
    _COMMON
    + r"""
prepare "$1" "$2"
file=./.tmp/$3
make_temporary "$file"
fail() {
  [ -f "$file" ] || exit 46
  rm -f "$file"
  exit "$1"
}
if [ -n "$6" ]; then
  cat >"$file" && sum=$(sha256sum <"$file") && length=$(stat -c %s "$file") && sync "$file" || fail 1
  [ "$length ${sum%% *}" = "$6 $7" ] || fail 45
  publish "$file" "./$4" "$5" || fail "$?"
  exit 0
fi
# cat is last, so that its exit code counts and a full disk ends tee, and the sender, at once
sum=$(
  {
    { tee /proc/self/fd/4 4>&1 1>&3 3>&- 5>&- | sha256sum 3>&- 1>&5; } 3>&1 | cat >"$file" 3>&- 5>&-
  } 5>&1
) && length=$(stat -c %s "$file") && sync "$file" || fail 1
# a read that follows shall come from the device, not from that host's memory (coreutils only)
dd if="$file" iflag=nocache count=0 2>/dev/null
printf '%s %s\n' "$length" "${sum%% *}"
"""
)

# $3 name in .tmp, $4 key, $5 "exclusive" or "replace".
PUBLISH = (
    _COMMON
    + r"""
enter "$1"
publish "./.tmp/$3" "./$4" "$5" || { code=$?; rm -f "./.tmp/$3"; exit "$code"; }
"""
)

# $3 name in .tmp.
DISCARD = (
    _COMMON
    + r"""
enter "$1"
rm -f "./.tmp/$3"
"""
)

# $3 key. Its length on a line, then its bytes; both of one version of the object.
READ = (
    _COMMON
    + r"""
enter "$1"
[ -e "./$3" ] || [ -L "./$3" ] || { ls "./$3" >/dev/null 2>&1 && exit 1; exit 43; }
[ -f "./$3" ] || exit 44
exec 3<"./$3" || exit 1
stat -L -c %s /proc/self/fd/3 && exec cat <&3
"""
)

# $3 a folder below root, or "". One line an object: length, POSIX seconds of its last change, path.
LIST = (
    _COMMON
    + r"""
enter "$1"
start=./$3
[ -d "$start" ] || exit 0
exec find "${start%/}" \( -name '.?*' -o -name '*[!A-Za-z0-9._=-]*' \) -prune -o -type f -exec sh -c '
stat -c "%s %Y %n" -- "$@" 2>/dev/null
exit 0
' sh {} +
"""
)

# On stdin keys, an empty line, and the folders that may be empty then, the deepest first.
DELETE = (
    _COMMON
    + r"""
enter "$1"
while IFS= read -r key && [ -n "$key" ]; do
  printf './%s\0' "$key"
done | xargs -0 rm -f || exit 1
while IFS= read -r folder; do
  rmdir "./$folder" 2>/dev/null || { [ -d "./$folder" ] && sync "./$folder" 2>/dev/null; }
done
sync . 2>/dev/null
exit 0
"""
)

# $3 the beginning of names in .tmp, $4 age in seconds. Prints the names of what it removed.
SWEEP = (
    _COMMON
    + r"""
enter "$1"
[ -d ./.tmp ] || exit 0
ls ./.tmp >/dev/null || exit 1
before=$(($(date +%s) - $4))
for file in ./.tmp/"$3"*; do
  [ -f "$file" ] && changed=$(stat -c %Y "$file" 2>/dev/null) && [ "$changed" -lt "$before" ] || continue
  name=${file#./.tmp/}
  # a writer has the name among its arguments
  for process in /proc/[0-9]*; do
    [ "${process#/proc/}" != "$$" ] || continue
    { tr '\0' '\n' <"$process/cmdline"; } 2>/dev/null | grep -qxF -e "$name" && continue 2
  done
  if command -v flock >/dev/null; then flock -n "$file" true || continue; fi
  rm -f "$file" || exit 1
  printf '%s\n' "$name"
done
rmdir ./.tmp 2>/dev/null
exit 0
"""
)

# $3 "write" or "read", $4 a name in .tmp. With create, a folder that is missing is well when it could be made.
CHECK = (
    _COMMON
    + r"""
if [ "$2" = create ] && [ ! -e "$1" ]; then
  parent=$1
  while [ ! -e "$parent" ] && [ -n "$parent" ]; do parent=${parent%/*}; done
  [ "$3" = read ] || { [ -w "${parent:-/}" ] && [ -x "${parent:-/}" ]; } && exit 0
  echo 'mkdir: Permission denied' >&2
  exit 1
fi
enter "$1"
ls . >/dev/null || exit 1
for tool in cat df find link mv sha256sum stat sync tee xargs; do
  command -v "$tool" >/dev/null || { printf '%s: not found\n' "$tool" >&2; exit 127; }
done
[ "$3" = write ] || exit 0
file=./.tmp/$4
make_temporary "$file"
trap 'rm -f "$file" "$file+link"; rmdir ./.tmp 2>/dev/null' EXIT
# by a program: a shell's own echo does not say why it failed
echo probe | cat >"$file" && sync "$file" || exit 1
said=$(link "$file" "$file+link" 2>&1) && exit 0
case $said in *'not permitted'* | *'not supported'* | *'not implemented'* | *'oo many links'*) exit 48 ;; esac
printf '%s\n' "$said" >&2
exit 1
"""
)

# Exit 0, or what enter says of the folder.
PRESENT = (
    _COMMON
    + r"""
enter "$1"
"""
)
