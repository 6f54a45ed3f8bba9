# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's programs mean the same in every shell, and their answers are read strictly."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.saasops.runbook.plugins.module_utils.domain.errors import OpsError
from ansible_collections.saasops.runbook.plugins.module_utils.transport import agent
from ansible_collections.saasops.runbook.plugins.module_utils.transport.base import FileFact

SHELLS = [shell for shell in (("sh",), ("dash",), ("bash",), ("busybox", "sh")) if shutil.which(shell[0])]
WORD = "0123abcd"


@pytest.fixture(params=SHELLS, ids=[shell[0] for shell in SHELLS])
def shell(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


def _run(shell: list[str], kept: str, *argv: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*shell, "-c", agent.RUN, "saasops", WORD, kept, *argv]
    return subprocess.run(command, input=given, capture_output=True, check=False, timeout=30)


def test_the_trailer_tells_exit_code_length_and_hash(shell: list[str]) -> None:
    done = _run(shell, "keep", "sh", "-c", "cat; echo said >&2; exit 7", given=bytes(range(256)))
    assert (done.returncode, done.stdout) == (7, bytes(range(256)))
    trailer, rest = agent.read_trailer(WORD, done.stderr)
    assert trailer == agent.Trailer(False, 7, 256, hashlib.sha256(bytes(range(256))).hexdigest())
    assert rest == b"said\n"


def test_a_dropped_output_has_an_exit_code_alone(shell: list[str]) -> None:
    done = _run(shell, "drop", "sh", "-c", "echo unseen; exit 3")
    assert (done.returncode, done.stdout) == (3, b"")
    assert agent.read_trailer(WORD, done.stderr) == (agent.Trailer(False, 3), b"")


@pytest.mark.parametrize("program", ["no-such-program", "/no/such", "/etc"])
def test_a_missing_program_is_told_apart_from_exit_code_127(shell: list[str], program: str) -> None:
    trailer, _rest = agent.read_trailer(WORD, _run(shell, "keep", program).stderr)
    assert trailer == agent.Trailer(True, 127)
    trailer, _rest = agent.read_trailer(WORD, _run(shell, "keep", "sh", "-c", "exit 127").stderr)
    assert trailer is not None
    assert not trailer.missing


def test_a_program_by_the_name_of_a_shells_own_word_is_a_program(shell: list[str]) -> None:
    # `exit` run by the shell itself would end it without a trailer
    trailer, _rest = agent.read_trailer(WORD, _run(shell, "keep", "exit", "0").stderr)
    assert trailer is not None
    assert trailer.code == 127


def test_the_facts_of_files_are_printed_and_read(shell: list[str], tmp_path: Path) -> None:
    contents = {"a": b"", "sub/line\nbreak": b"x" * 1000, "sub/back\\slash": b"y", "é": b"z", "end\n": b"."}
    (tmp_path / "sub").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [*shell, "-c", agent.FACTS, "saasops", str(tmp_path)], capture_output=True, check=True, timeout=30
    )
    assert agent.read_facts(done.stdout) == [
        FileFact(name, len(contents[name]), hashlib.sha256(contents[name]).hexdigest()) for name in sorted(contents)
    ]


SUM = hashlib.sha256(b"").hexdigest().encode()


@pytest.mark.parametrize(
    "stderr",
    [
        b"",
        b"\n0123abcd code",
        b"\n0123abcd code 0 sha256 " + SUM,
        b"\n0123abcd code x\n",
        b"\n0123abcd \n",
        b"\nother word code 0\n",
    ],
)
def test_words_that_did_not_arrive_whole_are_no_trailer(stderr: bytes) -> None:
    assert agent.read_trailer(WORD, stderr)[0] is None


def test_a_trailer_without_a_hash_says_that_there_is_none() -> None:
    assert agent.read_trailer(WORD, b"\n0123abcd length 5 sha256 code 0\n")[0] in (
        None,
        agent.Trailer(False, 0, 5, None),
    )


@pytest.mark.parametrize(
    "output",
    [
        b"./a",
        b"./a\0\0",
        b"./a\0\0001\n",
        b"./a\0\0001\n" + SUM[:60] + b"  ./a\n",
        b"./a\0\0001\n" + SUM + b"  ./b\n",
        b"./a\0\0001\n" + SUM.upper() + b"  ./a\n",
    ],
)
def test_facts_that_do_not_add_up_are_refused(output: bytes) -> None:
    with pytest.raises(OpsError) as caught:
        agent.read_facts(output)
    assert caught.value.code == "transport_failed"
