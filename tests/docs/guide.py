# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run what a guide tells its reader to do.

A fenced block is executed when an HTML comment stands right before it:

    <!-- file: inventory.yml -->    the block becomes this file of the reader's folder ("~" is the reader's home);
                                    mode 0600 for names that begin with a dot
    <!-- run -->                    its lines that begin with "$ " are commands of a shell, the others what they print
    <!-- run: refused CODE -->      the last command must fail and print [CODE]

Values of the guide (names of hosts, folders) are replaced by the lab's own, given as a table.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT.parents[2]
_BLOCK = re.compile(r"<!-- (file|run)(?:: (.*?))? -->\n```\w*\n(.*?)```\n", re.DOTALL)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """kind: file or run; about: the file's name, or "refused CODE", or ""."""

    kind: str
    about: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a console block; a backslash at the end goes on in the next line."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:].split("   # ")[0].strip() for line in joined.splitlines() if line.startswith("$ ")]


def sections(document: str) -> dict[str, list[Block]]:
    """The blocks that are executed, by the heading (##) they stand under, in the document's order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    parts = _HEADING.split(text)
    found = {}
    for heading, body in zip(parts[1::2], parts[2::2]):
        blocks = [Block(kind, about or "", content) for kind, about, content in _BLOCK.findall(body)]
        if blocks:
            found[heading.strip()] = blocks
    return found


def policies() -> dict[str, str]:
    """The IAM policies (JSON) of docs/copies.md by the name of who gets each: writer, pruner."""
    blocks = sections("docs/copies.md")["The right to delete is not the right to write"]
    return {block.about[: -len(".json")]: block.text for block in blocks if block.about.endswith(".json")}


@dataclass
class Reader:
    """Somebody with a home and a working folder who follows a guide.

    loud: every playbook is run with -vvvv, as an operator does who looks for an error.
    outputs: what every command printed.
    """

    folder: Path
    values: Mapping[str, str]
    programs: Path
    loud: bool = False
    outputs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.work = self.folder / "work"
        for place in (self.home, self.work):
            place.mkdir(parents=True)
        (self.work / "ansible.cfg").write_text("[connection]\npipelining = true\n", encoding="utf-8")

    def follow(self, blocks: list[Block]) -> None:
        """Write the files and run the commands; the first that does not end as the guide says is an AssertionError."""
        for block in blocks:
            if block.kind == "file":
                self._write(block)
            else:
                self._run(block)

    def _own(self, text: str) -> str:
        for shown, own in self.values.items():
            text = text.replace(shown, own)
        return text

    def _write(self, block: Block) -> None:
        name = block.about
        path = self.home / name[2:] if name.startswith("~/") else self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._own(block.text), encoding="utf-8")
        path.chmod(0o600 if path.name.startswith(".") else 0o644)

    def _run(self, block: Block) -> None:
        commands = block.commands
        assert commands, f"a block to run holds no command: {block.text}"
        refusal = block.about.removeprefix("refused ") if block.about else ""
        for number, command in enumerate(commands, 1):
            code, output = self.shell(self._own(command))
            assert "no hosts matched" not in output, f"{command}\n{output}"
            if refusal and number == len(commands):
                assert code != 0, output
                assert f"[{refusal}]" in output, output
            else:
                assert code == 0, f"{command}\n{output}"

    def shell(self, command: str) -> tuple[int, str]:
        """(exit code, what it printed) of one line typed by the reader."""
        if self.loud:
            command = command.replace("ansible-playbook ", "ansible-playbook -vvvv ")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "ANSIBLE"))}
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", command],
            cwd=self.work,
            env={
                **inherited,
                "HOME": str(self.home),
                "PATH": f"{Path(sys.executable).parent}:{self.programs}:{os.environ['PATH']}",
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_NOCOLOR": "1",
                "COLUMNS": "200",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=180,
            check=False,
        )
        self.outputs.append(done.stdout)
        return done.returncode, done.stdout

    def written(self) -> Iterator[Path]:
        """Every file below the reader's folder."""
        return (path for path in self.folder.rglob("*") if path.is_file())
