# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An object store in a folder: an object appears by link or rename, whole and durable, or not at all.

Files under way lie in <root>/.tmp and are locked while their writer lives; what an interrupted writer left
there is never visible as an object, and sweep removes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from ansible_collections.saasops.runbook.plugins.module_utils.store import posix_failures as failures
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import ObjectInfo, Stored
from ansible_collections.saasops.runbook.plugins.module_utils.store.keys import check_key, check_prefix, valid_key

CHUNK = 1024 * 1024
_TMP = ".tmp"


class PosixStore:
    """Objects as files of mode 0600 below root, in folders of mode 0700.

    root must exist, so that a volume that is not mounted is noticed; create=True makes it at the first put.
    """

    def __init__(self, root: str, create: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.create = create

    def __repr__(self) -> str:
        return f"PosixStore({self.root!r})"

    @property
    def url(self) -> str:
        return self.root

    def check(self, write: bool) -> None:
        if not self._present():
            if write and not os.access(_existing_parent(self.root), os.W_OK | os.X_OK):
                raise failures.not_writable(self.root, "its parent folder does not let this user create it")
            return
        try:
            os.scandir(self.root).close()
        except OSError as error:
            raise failures.failed(self.root, error, "reading the folder", writing=False) from error
        if write:
            self._probe()

    def put(self, key: str, chunks: Iterable[bytes], *, if_absent: bool = False) -> Stored:
        path = self._path(check_key(key))
        self._make_root()
        if if_absent and os.path.lexists(path):
            raise failures.object_exists(self.root, key)
        with self._temporary(key) as (descriptor, temporary):
            length, sha256 = self._write(descriptor, chunks, key)
            self._publish(temporary, path, key, if_absent)
        return Stored(key, length, sha256)

    def get(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._reading(check_key(key))

    @contextmanager
    def _reading(self, key: str) -> Iterator[Iterator[bytes]]:
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._present()
            raise failures.object_missing(self.root, key) from error
        except OSError as error:
            raise failures.failed(self.root, error, f"opening {key}", writing=False) from error
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise failures.object_damaged(self.root, key, "is not a file")
            yield self._chunks(descriptor, key, facts.st_size)
        finally:
            os.close(descriptor)

    def _chunks(self, descriptor: int, key: str, length: int) -> Iterator[bytes]:
        delivered = 0
        while True:
            try:
                chunk = os.read(descriptor, CHUNK)
            except OSError as error:
                if error.errno == errno.EIO:
                    raise failures.object_damaged(self.root, key, f"cannot be read after {delivered} bytes") from error
                raise failures.failed(self.root, error, f"reading {key}", writing=False) from error
            if not chunk:
                break
            delivered += len(chunk)
            yield chunk
        if delivered != length:
            raise failures.object_damaged(self.root, key, f"ended after {delivered} of {length} bytes")

    def list(self, prefix: str) -> list[ObjectInfo]:
        check_prefix(prefix)
        if not self._present():
            return []
        start = prefix.rpartition("/")[0]
        found = [info for info in self._walk(start) if info.key.startswith(prefix)]
        return sorted(found, key=lambda info: info.key)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in entries:
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    if not valid_key(key):
                        continue
                    if entry.is_dir():
                        yield from self._walk(key)
                        continue
                    with suppress(FileNotFoundError):  # deleted by another run meanwhile
                        facts = entry.stat()
                        yield ObjectInfo(key, facts.st_size, facts.st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise failures.failed(self.root, error, f"listing {folder or 'the root'}", writing=False) from error

    def delete(self, keys: Iterable[str]) -> None:
        touched = set()
        for key in keys:
            path = self._path(check_key(key))
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise failures.failed(self.root, error, f"deleting {key}", writing=True) from error
            touched.add(os.path.dirname(path))
        for folder in sorted(touched, key=len, reverse=True):
            self._remove_empty(folder)

    def _remove_empty(self, folder: str) -> None:
        while folder != self.root:
            try:
                os.rmdir(folder)
            except OSError:  # not empty, or another run was first
                break
            folder = os.path.dirname(folder)
        with suppress(OSError):
            _sync_folder(folder)

    def sweep(self, prefix: str, older_than: float) -> Sequence[str]:
        check_prefix(prefix)
        folder = os.path.join(self.root, _TMP)
        removed = []
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            self._present()
            return []
        except OSError as error:
            raise failures.failed(self.root, error, "looking for temporary files", writing=False) from error
        for name in names:
            path = os.path.join(folder, name)
            if not name.startswith(_mangled(prefix)) or not _abandoned(path, older_than):
                continue
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise failures.failed(self.root, error, f"removing {_TMP}/{name}", writing=True) from error
            removed.append(f"{_TMP}/{name}")
        with suppress(OSError):
            os.rmdir(folder)
        return removed

    def free_bytes(self) -> int | None:
        self._present()
        try:
            facts = os.statvfs(_existing_parent(self.root))
        except OSError as error:
            raise failures.failed(self.root, error, "asking for free space", writing=False) from error
        return facts.f_bavail * facts.f_frsize

    def _path(self, key: str) -> str:
        return os.path.join(self.root, key)

    def _present(self) -> bool:
        """True when root is a folder, False when it may still be created. Raises store_missing."""
        try:
            facts = os.stat(self.root)
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.create:
                return False
            raise failures.root_missing(self.root, exists=False) from error
        except OSError as error:
            raise failures.failed(self.root, error, "looking at the folder", writing=False) from error
        if not stat.S_ISDIR(facts.st_mode):
            raise failures.root_missing(self.root, exists=True)
        return True

    def _make_root(self) -> None:
        if not self._present():
            self._make_folders(self.root, "the store's folder")

    def _make_folders(self, path: str, doing: str) -> None:
        """Create path and its parents durably; another writer may do the same, or remove empty ones, meanwhile."""
        parent = os.path.dirname(path)
        for _attempt in range(100):
            try:
                os.mkdir(path, 0o700)
                _sync_folder(parent)
                return
            except FileExistsError:
                return
            except FileNotFoundError:
                if parent in (path, self.root) and not self.create:
                    self._present()
                self._make_folders(parent, doing)
            except OSError as error:
                raise failures.failed(self.root, error, f"creating {doing}", writing=True) from error
        raise failures.not_writable(self.root, f"{path} could not be created")

    @contextmanager
    def _temporary(self, key: str) -> Iterator[tuple[int, str]]:
        """A new locked file in .tmp (descriptor, path) that is gone at the end, however it ends."""
        folder = os.path.join(self.root, _TMP)
        path = os.path.join(folder, f"{_mangled(key)}+{os.urandom(8).hex()}")
        descriptor = self._new(folder, path, key)
        try:
            with suppress(OSError):  # a file system without locks: the age protects the file from sweep
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor, path
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.close(descriptor)

    def _new(self, folder: str, path: str, key: str) -> int:
        """The descriptor of a new file in .tmp. Raises OpsError store_not_writable and the like."""
        for _attempt in range(100):
            self._make_folders(folder, "a folder for temporary files")
            try:
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # a sweep removed the empty folder: once more
                pass
            except OSError as error:
                raise failures.failed(self.root, error, f"creating a temporary file for {key}", writing=True) from error
        raise failures.not_writable(self.root, f"{folder} is there and takes no file (a link that leads nowhere?)")

    def _write(self, descriptor: int, chunks: Iterable[bytes], key: str) -> tuple[int, str]:
        """Write and sync; length and SHA-256 (hex) of what was written."""
        checksum, length = hashlib.sha256(), 0
        for chunk in chunks:
            checksum.update(chunk)
            length += len(chunk)
            try:
                written = os.write(descriptor, chunk)
                while written < len(chunk):
                    written += os.write(descriptor, memoryview(chunk)[written:])
            except OSError as error:
                raise failures.failed(self.root, error, f"writing {key}", writing=True) from error
        try:
            os.fsync(descriptor)
            # a read that follows shall come from the device, not from this machine's memory
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise failures.failed(self.root, error, f"writing {key} to the device", writing=True) from error
        return length, checksum.hexdigest()

    def _publish(self, temporary: str, path: str, key: str, if_absent: bool) -> None:
        parent = os.path.dirname(path)
        for _attempt in range(100):
            self._make_folders(parent, f"the folder of {key}")
            try:
                if if_absent:
                    os.link(temporary, path)
                else:
                    os.replace(temporary, path)
                _sync_folder(parent)
                return
            except FileExistsError as error:
                raise failures.object_exists(self.root, key) from error
            except FileNotFoundError as error:
                if not os.path.exists(temporary):
                    raise failures.not_writable(
                        self.root, f"the temporary file of {key} was removed by another process"
                    ) from error
                # a delete removed the empty folder between our mkdir and our link
            except OSError as error:
                if if_absent and failures.linkless(error):
                    raise failures.no_links(self.root) from error
                raise failures.failed(self.root, error, f"publishing {key}", writing=True) from error
        raise failures.not_writable(self.root, f"the folder of {key} is removed again and again")

    def _probe(self) -> None:
        """Write, link and remove a file in .tmp, as a put does."""
        with self._temporary("probe") as (descriptor, path):
            self._write(descriptor, [b"probe"], "a probe")
            try:
                os.link(path, path + "+link")
                os.unlink(path + "+link")
            except OSError as error:
                if failures.linkless(error):
                    raise failures.no_links(self.root) from error
                raise failures.failed(self.root, error, "linking a probe", writing=True) from error
        with suppress(OSError):
            os.rmdir(os.path.join(self.root, _TMP))


def _mangled(key: str) -> str:
    """A key as one file name; '+' is no character of a key. Long keys are cut: their beginning tells enough."""
    return key.replace("/", "+")[:180]


def _existing_parent(path: str) -> str:
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _abandoned(path: str, older_than: float) -> bool:
    """Whether a temporary file was last written before older_than and no living writer holds its lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_mtime >= older_than:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
