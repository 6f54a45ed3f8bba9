# Copyright (c) 2026 saasops.runbook contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client programs with a fault planted: a folder like a server's bin, in which one program is a wrapper."""

from __future__ import annotations

import sys
from pathlib import Path

# run as a file; argv: real program, fault, the program's own arguments
_WRAPPER = """#!{python}
import os, subprocess, sys, time
real, fault, here = {real!r}, {fault!r}, {here!r}
arguments = sys.argv[1:]
if "--version" in arguments or "--schema-only" in arguments or "--globals-only" in arguments:
    os.execv(real, [real, *arguments])
folder = next((a.partition("=")[2] for a in arguments if a.startswith("--file=") and a != "--file=-"), "")
if fault == "hang":
    open(os.path.join(here, "hanging"), "w").close()
    sys.stdout.buffer.write(b"PGDMP")
    sys.stdout.flush()
    time.sleep(600)
if fault == "fail":
    sys.exit(3)
if folder:
    code = subprocess.call([real, *arguments])
    largest = max((os.path.join(folder, n) for n in os.listdir(folder) if n != "toc.dat"), key=os.path.getsize)
    os.truncate(largest, os.path.getsize(largest) * 6 // 10)
    sys.exit(0)
whole = subprocess.run([real, *arguments], stdout=subprocess.PIPE).stdout
sys.stdout.buffer.write(whole[: len(whole) * 6 // 10])
sys.exit(0)
"""


def make(folder: Path, real_bin: Path, program: str, fault: str) -> Path:
    """A bin folder whose `program` has a fault: "cut" (60 % of the bytes, exit 0), "hang", "fail" (exit 3).

    A program that hangs writes the file `hanging` into the folder.
    """
    folder.mkdir(parents=True)
    for tool in real_bin.iterdir():
        if tool.name != program:
            (folder / tool.name).symlink_to(tool)
    text = _WRAPPER.format(python=sys.executable, real=str(real_bin / program), fault=fault, here=str(folder))
    path = folder / program
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return folder
