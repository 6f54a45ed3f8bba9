# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image with PostgreSQL, made in a second from what is installed here, without a registry.

It holds the programs of this machine's PostgreSQL and the libraries they need, busybox as shell and tools, and an
entry point that behaves like that of the official image: POSTGRES_PASSWORD, root by default, data made once.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.tests.lab import binaries

VERSION = 15
TAG = f"saasops-lab/postgres:{VERSION}"
PGDATA = "/var/lib/postgresql/data"
# as in the official Debian image
UID = 999

ENTRY = f"""#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p {PGDATA} /var/run/postgresql
  chown postgres:postgres {PGDATA} /var/run/postgresql
  exec su -m -s /bin/sh postgres /entry "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  printf '%s' "$POSTGRES_PASSWORD" >/tmp/pwfile
  initdb -D "$PGDATA" -U postgres --pwfile=/tmp/pwfile --no-sync -A scram-sha-256 --auth-local=trust \\
    -E UTF8 --locale=C.UTF-8 >/dev/null
  rm /tmp/pwfile
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c fsync=off -c max_prepared_transactions=10 "$@"
"""
PASSWD = f"root:x:0:0:root:/root:/bin/sh\npostgres:x:{UID}:{UID}:PostgreSQL:/var/lib/postgresql:/bin/sh\n"
GROUP = f"root:x:0:\npostgres:x:{UID}:\n"


def changes() -> list[str]:
    """Options of docker import: what a Dockerfile would say."""
    lines = [
        f"ENV PATH=/usr/lib/postgresql/{VERSION}/bin:/usr/bin:/bin PGDATA={PGDATA}",
        'ENTRYPOINT ["/entry"]',
        "CMD []",
    ]
    return [f"--change={line}" for line in lines]


def write(out: IO[bytes]) -> None:
    """The root filesystem as a tar stream. Raises OpsError postgres_missing or busybox_missing."""
    programs = binaries.find(VERSION)
    busybox = _busybox()
    listed = subprocess.run([str(busybox), "--list"], capture_output=True, encoding="utf-8", check=True)
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for folder in ("bin", "dev", "etc", "proc", "root", "sys", "usr/bin", "var/lib/postgresql", "var/run"):
            _folder(tar, folder)
        _folder(tar, "tmp", 0o1777)
        for name, text, mode in (("entry", ENTRY, 0o755), ("etc/passwd", PASSWD, 0o644), ("etc/group", GROUP, 0o644)):
            _file(tar, name, text.encode(), mode)
        tar.add(busybox, "bin/busybox")
        for applet in listed.stdout.split():
            if applet != "busybox":
                _link(tar, f"bin/{applet}", "/bin/busybox")
        trees = [*_trees(programs), Path("/usr/lib/locale/C.utf8"), Path("/usr/share/zoneinfo")]
        for tree in trees:
            # Debian's share folder has links into other packages' folders
            tar.add(tree, str(tree).lstrip("/"), filter=_kept)
        for library in sorted(_libraries(programs)):
            tar.add(library.resolve(), str(library).lstrip("/"))


def _trees(programs: Path) -> Iterator[Path]:
    yield programs
    for option in ("--pkglibdir", "--sharedir"):
        said = subprocess.run([str(programs / "pg_config"), option], capture_output=True, encoding="utf-8", check=True)
        yield Path(said.stdout.strip())


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """All but LLVM's just-in-time compiler, which would bring 120 MB of libraries, and what only builders need."""
    if re.search(r"/(bitcode|pgxs|llvmjit\S*|man|right|posix)(/|$)", member.name):
        return None
    member.uid = member.gid = 0
    return member


def _libraries(programs: Path) -> set[Path]:
    """Every shared library of the programs and extensions, and the loader, as ldd resolves them."""
    pkglib = next(iter(list(_trees(programs))[1:2]))
    files = [p for p in programs.iterdir() if p.is_file()]
    files += [p for p in pkglib.glob("*.so") if not p.name.startswith("llvmjit")]
    said = subprocess.run(["ldd", *map(str, files)], capture_output=True, encoding="utf-8", check=False)
    return {Path(name) for name in re.findall(r"(?:=>\s|^\s+)(/\S+) \(0x", said.stdout, re.MULTILINE)}


def _busybox() -> Path:
    path = Path("/usr/bin/busybox")
    if not path.exists():
        path = Path("/bin/busybox")
    linked = subprocess.run(["ldd", str(path)], capture_output=True, encoding="utf-8", check=False)
    if not path.exists() or "=>" in linked.stdout:
        raise OpsError("busybox_missing", "There is no static busybox here.", "apt-get install busybox-static")
    return path


def _folder(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    tar.addfile(member)


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
