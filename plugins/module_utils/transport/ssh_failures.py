# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OpenSSH's client said before it gave up, as an error with a code, a cause and a remedy."""

from __future__ import annotations

import re

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError

_UNREACHABLE = (
    "Could not resolve hostname",
    "Connection refused",
    "Connection timed out",
    "Operation timed out",
    "No route to host",
    "Network is unreachable",
    "Connection reset by",
    "Connection closed by",
    "Connection to",
    "kex_exchange_identification",
    "banner exchange",
)


def login_failed(where: str, said: str) -> OpsError:
    """Why no connection to a host (where: as an operator wrote it) came about; said: the client's stderr."""
    return _known(where, said) or OpsError(
        "host_unreachable",
        f"No ssh connection to {where} came about: {last_line(said) or 'the client gave no reason'}.",
        "Try it by hand, as the user that runs the module: ssh -o BatchMode=yes to that host.",
        {"host": where, "said": last_line(said)},
    )


def _known(where: str, said: str) -> OpsError | None:
    """A failure before or at login that the client's words tell for sure; None for anything else."""
    shown = {"host": where, "said": last_line(said)}
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return OpsError(
            "host_key_changed",
            f"The host key of {where} is another one than the known_hosts file holds.",
            "Find out why first: an exchanged machine, or somebody in between. Then put the new key, as that host's"
            " administrator tells it, into the file.",
            shown,
        )
    if "host key is known for" in said or "Host key verification failed" in said:
        return OpsError(
            "host_key_unknown",
            f"The host key of {where} is not known to the user that runs the module.",
            "Put it into that user's ~/.ssh/known_hosts or /etc/ssh/ssh_known_hosts (ssh-keyscan, compared with what"
            " the host's administrator tells), or name another file with the suboption known_hosts.",
            shown,
        )
    if "Permission denied" in said or "Too many authentication failures" in said:
        closed = "bad permissions" in said or "UNPROTECTED PRIVATE KEY" in said
        return OpsError(
            "login_refused",
            f"{where} refused the login{' (the private key is open to others, so ssh ignores it)' if closed else ''}.",
            "Add the public key to that user's authorized_keys there; name the private key with the suboption"
            " identity_file. It must have mode 0600 and no passphrase, or be held by an ssh-agent.",
            shown,
        )
    if any(words in said for words in _UNREACHABLE):
        return OpsError(
            "host_unreachable",
            f"The host {where} cannot be reached by ssh: {last_line(said)}.",
            "Check the suboptions host and port, the name's address, the firewall, and that sshd runs there.",
            shown,
        )
    return None


def client_missing(program: str) -> OpsError:
    return OpsError(
        "tool_missing",
        f"The program {program} was not found on the host where the module runs.",
        "Install OpenSSH's client there (Debian: openssh-client).",
        {"program": program},
    )


def shell_unusable(where: str, why: str) -> OpsError:
    return OpsError(
        "shell_unusable",
        f"The login on {where} worked, but {why}.",
        "That user needs a POSIX login shell whose start files print nothing when no terminal is there, and no forced"
        " command.",
        {"host": where},
    )


def cut(where: str, doing: str, code: int | None, said: str) -> OpsError:
    return OpsError(
        "stream_cut",
        f"The ssh connection to {where} was cut while {doing}.",
        "Nothing of it was used; check the network and that host, then run the verb again.",
        {"host": where, "client_code": -1 if code is None else code, "said": last_line(said)},
    )


def last_line(said: str) -> str:
    """The last line that says something, on one line, without the dot at its end."""
    lines = [line for line in said.strip().splitlines() if re.search(r"\w", line)]
    return " ".join(lines[-1].split()).rstrip(".") if lines else ""
