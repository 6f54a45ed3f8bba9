# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What S3 or the way to it said, as an error with a code, a cause and a remedy."""

from __future__ import annotations

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

_IDENTITY = {
    "AuthFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
_FULL = {"InsufficientStorage", "InsufficientCapacity", "QuotaExceeded", "XMinioStorageFull", "507"}
_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
_TAKEN = {"PreconditionFailed", "412"}
CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
MISSING = {"NoSuchKey", "404", "NotFound"}
GARBLED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}


def code_of(error: BaseException) -> str:
    """The error code in an answer of the server, "" when there was no answer."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer, 0 when there was none."""
    response = getattr(error, "response", None)
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) if isinstance(response, dict) else 0


def taken(error: BaseException) -> bool:
    """Whether a conditional put was refused because the object exists."""
    return code_of(error) in _TAKEN or status_of(error) == 412


def refused_for_good(error: BaseException) -> bool:
    """Whether the server answered and would answer the same again."""
    return 400 <= status_of(error) < 500 and code_of(error) not in GARBLED


def from_s3(error: Exception, url: str, doing: str, *, writing: bool = False) -> OpsError:
    """An OpsError for what happened while we were `doing` something ("listing") in the store at url."""
    if code_of(error) or status_of(error):
        return _from_answer(error, url, doing, writing)
    return _from_way(error, url, doing)


def object_exists(url: str, key: str) -> OpsError:
    return OpsError(
        "object_exists",
        f"The store {url} already has an object {key}.",
        "Another run was first; look at what it wrote before running again.",
        {"key": key},
    )


def object_missing(url: str, key: str) -> OpsError:
    return OpsError(
        "object_missing",
        f"The store {url} has no object {key}.",
        "Check the set with the verb backups; choose another set when it was damaged.",
        {"key": key},
    )


def object_damaged(url: str, key: str, how: str) -> OpsError:
    return OpsError(
        "object_damaged",
        f"The object {key} in the store {url} {how}.",
        "Use another set or a second copy of this one; ask the store's operator to check it.",
        {"key": key},
    )


def unconditional(url: str) -> OpsError:
    return OpsError(
        "store_lacks_conditions",
        f"The store {url} overwrites an object although the request said If-None-Match: *.",
        "Use a server that honours conditional writes (AWS S3, MinIO, Ceph, SeaweedFS, R2), in a current release.",
    )


def _from_answer(error: Exception, url: str, doing: str, writing: bool) -> OpsError:
    code, status = code_of(error), status_of(error)
    said = f"({code} while {doing})"
    if code == "NoSuchBucket":
        return OpsError(
            "bucket_missing",
            f"The bucket of the store {url} does not exist.",
            "Create the bucket, or correct the store's suboption bucket or endpoint_url.",
        )
    if code in _FULL or status == 507:
        return OpsError(
            "store_full",
            f"The store {url} has no room left {said}.",
            "Free space there (verb prune removes expired sets), or raise its quota.",
        )
    if code in _IDENTITY:
        return OpsError(
            "store_denied",
            f"The store {url} does not accept our credentials {said}.",
            "Check access key, secret key and session token of the store, or the profile or role they come from.",
        )
    if code == "RequestTimeTooSkewed":
        return OpsError(
            "store_denied",
            f"The clock of this host differs too much from that of the store {url}.",
            "Set the clock (timedatectl), then run the verb again.",
        )
    if code in _REGION:
        return OpsError(
            "store_unreachable",
            f"The bucket of the store {url} is in another region {said}.",
            "Set the store's suboption region to the bucket's.",
        )
    if status in (401, 403, 405):
        if writing:
            return OpsError(
                "store_not_writable",
                f"The store {url} does not let us write or delete {said}.",
                "Give these credentials the right to put objects there (prune: to delete them).",
            )
        return OpsError(
            "store_denied",
            f"The store {url} does not let us read or list {said}.",
            "Give these credentials the rights s3:ListBucket and s3:GetObject there.",
        )
    if status >= 500 or code in GARBLED or code == "SlowDown":
        return OpsError(
            "store_unreachable",
            f"The store {url} failed again and again (status {status}, {code} while {doing}).",
            "Look at the server's own log and load, then run the verb again.",
        )
    return OpsError(
        "store_refused",
        f"The store {url} refused a request (status {status}, {code} while {doing}).",
        "Check that the server speaks S3, and the store's suboptions endpoint_url, region and path_style.",
    )


def _from_way(error: Exception, url: str, doing: str) -> OpsError:
    kind = type(error).__name__
    if "Credential" in kind:
        return OpsError(
            "store_denied",
            f"There are no usable credentials for the store {url} ({kind}).",
            "Set access_key and secret_key of the store, a profile, AWS_* variables, or an instance role on this host.",
        )
    if kind == "ParamValidationError":
        return OpsError(
            "store_address_invalid",
            f"The address of the store {url} is not valid while {doing}.",
            "Correct the store's suboptions bucket and prefix.",
        )
    if "SSL" in kind:
        return OpsError(
            "store_unreachable",
            f"The TLS certificate of the store {url} is not accepted ({' '.join(str(error).split())[:200]}).",
            "Set the store's suboption ca_bundle to the CA's file, and use the name the certificate was made for.",
        )
    return OpsError(
        "store_unreachable",
        f"The store {url} does not answer ({kind} while {doing}).",
        "Check that the server runs, the store's endpoint_url, and the network and firewall between.",
    )
