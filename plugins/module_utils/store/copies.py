# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One backup set from one store into another: streamed, held against its list of contents, read back, manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from ansible_collections.saasops.runbook.plugins.module_utils.domain.backup_copy import Lack, missing_objects
from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.domain.manifest import (
    Contents,
    Manifest,
    StoredObject,
    iso,
    parse_contents,
    parse_manifest,
)
from ansible_collections.saasops.runbook.plugins.module_utils.domain.marks import proof_level
from ansible_collections.saasops.runbook.plugins.module_utils.store.base import Store
from ansible_collections.saasops.runbook.plugins.module_utils.store.crew import Crew
from ansible_collections.saasops.runbook.plugins.module_utils.store.holdings import BEGUN
from ansible_collections.saasops.runbook.plugins.module_utils.store.sets import (
    CONTENTS,
    MANIFEST,
    PIN,
    digest,
    entry,
    folder,
    load,
    read_all,
    write_json,
)

DISPROOF = "proof-failed.json"
Told = Callable[[StoredObject], None]


def _lengths(store: Store, prefix: str) -> dict[str, int]:
    return {info.key[len(prefix) :]: info.length for info in store.list(prefix)}


def _is_record(name: str) -> bool:
    return name == PIN or (name.startswith("proof-") and name.endswith(".json"))


def _disproven(copy: Store, set_id: str, system: str) -> bool:
    """Whether the copy of a set is known to be wrong."""
    try:
        there = entry(copy, set_id, system)
    except OpsError as error:
        if error.code != "set_unknown":
            raise
        return False
    return there.manifest is not None and proof_level(there.manifest.proof, there.proofs) == "failed"


def compare(source: Store, copy: Store, set_id: str, system: str, *, disproven: bool) -> Lack:
    """What the copy lacks of a complete set. disproven: a drill of the first store found the set to be wrong.

    Raises OpsError: copy_conflict (the copy has another manifest under this id), set_incomplete, and the stores'.
    """
    prefix = folder(set_id)
    here, there = _lengths(source, prefix), _lengths(copy, prefix)
    if MANIFEST not in here:
        load(source, set_id, system)  # says what is wrong with it
    committed = MANIFEST in there
    if committed and read_all(copy, prefix + MANIFEST) != read_all(source, prefix + MANIFEST):
        raise OpsError(
            "copy_conflict",
            f"The store {copy.url} has another manifest for set {set_id}; nothing was written over it.",
            "Find out who changed which of the two; remove the wrong one with prune and also_delete, then copy again.",
            {"set": set_id},
        )
    # proofs that differ: written once under a name of their own, so the name tells; a pin can be changed
    records = [
        name
        for name in sorted(here)
        if _is_record(name)
        and (name not in there or (name == PIN and read_all(copy, prefix + PIN) != read_all(source, prefix + PIN)))
    ]
    lack = Lack(
        set_id,
        records=tuple(records),
        disproof=disproven and not _disproven(copy, set_id, system),
        commit=not committed,
    )
    sealed = {name for name in here if name.startswith("objects/")} | {CONTENTS}
    if committed and all(there.get(name) == here[name] for name in sealed if name in here):
        return lack
    _manifest, contents = load(source, set_id, system)
    objects, doubtful = missing_objects(contents.objects, there, committed)
    same_contents = committed and there.get(CONTENTS) == here[CONTENTS]
    return Lack(set_id, objects, doubtful, not same_contents, lack.records, lack.disproof, lack.commit)


def _held_against(chunks: Iterable[bytes], item: StoredObject, url: str, look: Callable[[], None]) -> Iterator[bytes]:
    """The same chunks; raises object_damaged at their end when they are not the object, so that nothing appears."""
    checksum, length = hashlib.sha256(), 0
    for chunk in chunks:
        look()
        checksum.update(chunk)
        length += len(chunk)
        yield chunk
    if (length, checksum.hexdigest()) != (item.length, item.sha256):
        raise _damaged(item.key, url)


def _damaged(key: str, url: str) -> OpsError:
    return OpsError(
        "object_damaged",
        f"The object {key} in the store {url} has other bytes than its list of contents says.",
        "Check the device of that store; the same set in another store may be whole.",
        {"key": key},
    )


def _read_back(store: Store, key: str, length: int, sha256: str) -> bool:
    with store.get(key) as chunks:
        return digest(chunks) == (length, sha256)


def _put_proven(store: Store, key: str, body: bytes, *, if_absent: bool = False) -> None:
    store.put(key, [body], if_absent=if_absent)
    if not _read_back(store, key, len(body), hashlib.sha256(body).hexdigest()):
        raise _damaged(key, store.url)


class Sender:
    """Writes what a Lack names. now: POSIX seconds, for the marks that are not part of the set."""

    def __init__(self, source: Store, copy: Store, system: str, now: float, jobs: int) -> None:
        self._source, self._copy = source, copy
        self._system, self._now, self._jobs = system, now, jobs

    def send(self, lack: Lack, told: Told) -> None:
        """Write everything; told(object) after each that was read back. Raises the stores' OpsErrors, object_damaged.

        An interruption leaves a set without a manifest, which the next run continues.
        """
        prefix = folder(lack.set_id)
        if lack.commit or lack.contents or lack.objects:
            manifest_text = read_all(self._source, prefix + MANIFEST)
            contents_text = read_all(self._source, prefix + CONTENTS)
            manifest, _contents = self._parsed(lack.set_id, manifest_text, contents_text)
            if lack.commit:
                # whose half-made set this is; without a database, so that only prune ever removes it
                write_json(self._copy, prefix + BEGUN, {"system": manifest.system, "copied": iso(self._now)})
            self._objects(prefix, (*lack.objects, *lack.doubtful), {item.key for item in lack.doubtful}, told)
            if lack.contents:
                _put_proven(self._copy, prefix + CONTENTS, contents_text)
        for name in lack.records:
            _put_proven(self._copy, prefix + name, read_all(self._source, prefix + name))
        if lack.disproof:
            write_json(self._copy, prefix + DISPROOF, {"level": "failed", "at": iso(self._now)})
        if lack.commit:
            self._commit(prefix + MANIFEST, manifest_text)

    def _commit(self, key: str, text: bytes) -> None:
        try:
            _put_proven(self._copy, key, text, if_absent=True)
        except OpsError as error:
            # another run copied the same set meanwhile: as good, when it is the same
            if error.code != "object_exists" or read_all(self._copy, key) != text:
                raise

    def _parsed(self, set_id: str, manifest_text: bytes, contents_text: bytes) -> tuple[Manifest, Contents]:
        manifest = parse_manifest(manifest_text, set_id, self._system)
        return manifest, parse_contents(contents_text, manifest)

    def _objects(self, prefix: str, objects: Sequence[StoredObject], doubtful: set[str], told: Told) -> None:
        crew = Crew(self._jobs)
        ordered = sorted(objects, key=lambda item: -item.length)

        def job(number: int) -> StoredObject:
            item = ordered[number]
            key = prefix + item.key
            if item.key in doubtful and _read_back(self._copy, key, item.length, item.sha256):
                return item
            with self._source.get(key) as chunks:
                self._copy.put(key, _held_against(chunks, item, self._source.url, crew.look))
            if not _read_back(self._copy, key, item.length, item.sha256):
                raise _damaged(item.key, self._copy.url)
            return item

        crew.run(job, len(ordered), told)
