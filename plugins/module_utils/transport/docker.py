# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client tools and files in a Docker container, through the docker program of the module's host.

DOCKER_HOST, DOCKER_CONTEXT and the like are respected because the program is given our environment.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport.exec_process import end_client, spawn
from ansible_collections.saasops.runbook.plugins.module_utils.transport.exec_transport import ExecTransport

_INSPECT_SECONDS = 20
_STATE_LAG_SECONDS = 3
# exit code of docker exec when its program was ended by SIGKILL
_KILLED = 137


@dataclass(frozen=True)
class Container:
    """See exec_process.Gateway. user: as docker exec --user takes it; empty is the image's own."""

    container: str
    user: str = ""
    program: str = "docker"
    name: str = "docker"
    hangs_up: bool = False

    def command(self, env: Mapping[str, str], program: Sequence[str]) -> list[str]:
        argv = [self.program, "exec", "--interactive"]
        if self.user:
            argv.append(f"--user={self.user}")
        argv += [f"--env={key}={value}" for key, value in env.items()]
        return [*argv, self.container, *program]

    def diagnose(self, doing: str, code: int | None, stderr: str) -> OpsError:
        said = " ".join(stderr.strip().rsplit("\n", maxsplit=1)[-1].split())
        state = self._state()
        # the engine learns of a container's end later than its exec does
        deadline = time.monotonic() + _STATE_LAG_SECONDS
        while state == "running" and code == _KILLED and time.monotonic() < deadline:
            time.sleep(0.2)
            state = self._state()
        if isinstance(state, OpsError):
            return state
        if state != "running":
            return OpsError(
                "container_stopped",
                f"The container {self.container} is {state} ({doing}).",
                f"Start it (docker start {self.container}) and run the verb again.",
                {"state": state},
            )
        if code in (125, 126, 127) or "OCI runtime" in stderr or "unable to find user" in stderr:
            return OpsError(
                "transport_failed",
                f"docker exec{f' as user {self.user}' if self.user else ''} failed in container {self.container}"
                f" while {doing} (exit code {code}): {said or 'no message'}.",
                "The container needs a POSIX sh, and connection.container_user must exist in it.",
            )
        return OpsError(
            "stream_cut",
            f"The exec stream of container {self.container} was cut while {doing} (docker exited with {code}).",
            "Nothing of it was used; run the verb again, which also ends what is left of it in the container.",
            {"client_code": code if code is not None else -1, "said": said},
        )

    def _state(self) -> str | OpsError:
        """As docker inspect says (running, exited, paused ...), or why it cannot be asked."""
        asked = spawn(
            [self.program, "inspect", "--type=container", "--format={{.State.Status}}", self.container],
            stdin=False,
            stdout=True,
        )
        try:
            output, stderr = asked.communicate(timeout=_INSPECT_SECONDS)
        except subprocess.TimeoutExpired:
            output, stderr = b"", b"no answer"
        finally:
            end_client(asked)
        if asked.returncode == 0 and output.strip():
            return output.decode("utf-8", "replace").strip()
        said = " ".join(stderr.decode("utf-8", "replace").strip().rsplit("\n", maxsplit=1)[-1].split())
        if "No such" in said:
            return OpsError(
                "container_missing",
                f"There is no container {self.container}.",
                "Check connection.container against docker ps --all on that host (a compose project prefixes names).",
            )
        return OpsError(
            "docker_unreachable",
            f"The Docker engine does not answer: {said}.",
            "Check that it runs, DOCKER_HOST, and that the login user may use its socket (group docker).",
        )


def open_docker(params: Mapping[str, object]) -> ExecTransport:
    """The transport for the option connection: suboptions container and container_user.

    Raises OpsError container_name for a name that is none, so that no option of docker can be smuggled in.
    """
    container = str(params.get("container") or "")
    user = str(params.get("container_user") or "")
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", container):
        raise OpsError(
            "container_name",
            f"{container!r} is no name or id of a container.",
            "Set connection.container to a name that docker ps shows.",
        )
    return ExecTransport(Container(container, user))
