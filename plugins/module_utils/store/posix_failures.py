# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the file system of a store said, as an error with a code, a cause and a remedy.

root is the store's folder as an operator knows it: a path, or an address with that host's name in it.
"""

from __future__ import annotations

import errno

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

_WHO = "Give the user that works there (the module's, or the suboption user of a store on another host)"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def linkless(error: OSError) -> bool:
    """Whether a hard link failed because the file system has none."""
    return error.errno in _NO_LINKS


def no_links(root: str) -> OpsError:
    return not_writable(root, "its file system has no hard links, which exclusive writes need")


def root_missing(root: str, exists: bool) -> OpsError:
    """exists: there is something by this name, but no folder."""
    if exists:
        return OpsError(
            "store_missing",
            f"{root}, the address of the backup store, is not a folder.",
            "Set the store's suboption path to a folder.",
            {"path": root},
        )
    return OpsError(
        "store_missing",
        f"The folder {root} of the backup store does not exist.",
        "Mount its volume or create the folder, or set the store's suboption create.",
        {"path": root},
    )


def object_missing(root: str, key: str) -> OpsError:
    return OpsError(
        "object_missing",
        f"The store {root} has no object {key}.",
        "Check the set with the verb backups; choose another set when it was damaged.",
        {"key": key},
    )


def failed(root: str, error: OSError, doing: str, *, writing: bool) -> OpsError:
    what = f"({error.strerror or error} while {doing})"
    if error.errno in _FULL:
        return OpsError(
            "store_full",
            f"The volume of the backup store {root} has no room left {what}.",
            "Free space there (verb prune removes expired sets), or give the store a larger volume.",
            {"path": root},
        )
    if error.errno in _DENIED:
        if writing:
            return not_writable(root, f"{error.strerror} while {doing}")
        return OpsError(
            "store_denied",
            f"The backup store {root} may not be read by this user {what}.",
            f"{_WHO} access to the folder.",
            {"path": root},
        )
    return OpsError(
        "store_unreachable",
        f"The file system of the backup store {root} failed {what}.",
        "Check the mount and the device below it (dmesg), then run the verb again.",
        {"path": root},
    )


def not_writable(root: str, why: str) -> OpsError:
    return OpsError(
        "store_not_writable",
        f"The backup store {root} cannot be written to: {why}.",
        f"{_WHO} write access to the folder, on a volume mounted read-write.",
        {"path": root},
    )


def object_exists(root: str, key: str) -> OpsError:
    return OpsError(
        "object_exists",
        f"The store {root} already has an object {key}.",
        "Another run was first; look at what it wrote before running again.",
        {"key": key},
    )


def object_damaged(root: str, key: str, how: str) -> OpsError:
    return OpsError(
        "object_damaged",
        f"The object {key} in the store {root} {how}.",
        "Check the device of the store; use another set or a second copy of this one.",
        {"key": key},
    )
