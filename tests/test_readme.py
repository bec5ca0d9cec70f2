"""The README's commands run as written, in order, each section in an empty folder, but for what a comment before says.

`<!-- test: with X appended -->`: X is appended. `planned only`: `plan` in front. `composed only`: `--cfg job` behind.
`in the repository`: with its `docs` in the folder. `a server`: started on a free port, asked for its page and stopped.
The make lines are the continuous integration's.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import REPOSITORY, find_mnist
from processes import command_line

from lenet_lab.cli import COMMANDS
from lenet_lab.commands.plan import main as plan

README = (REPOSITORY / "README.md").read_text()
HELP = (REPOSITORY / "conf" / "hydra" / "help" / "lab.yaml").read_text()
FENCE = re.compile(r"(?:<!-- test: ([^>]*) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    note: str
    language: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks of each second-level section."""
    found = {}
    for part in README.split("\n## ")[1:]:
        blocks = [Block(*match) for match in FENCE.findall(part)]
        if blocks:
            found[part.splitlines()[0]] = blocks
    return found


def environment(folder: Path) -> dict[str, str]:
    """A user's, with this repository's package and `python` on its PATH, and one thread a run."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    found = find_mnist()
    data = {} if found is None else {"LENET_LAB_DATA": str(found)}
    cache = {"XDG_CACHE_HOME": str(folder / ".cache"), "LENET_LAB_THREADS": "1"}
    return {**clean, **data, **cache, "PATH": path, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}


def lines(block: Block) -> list[str]:
    """The commands of a bash block, as they are run."""
    written = [line for line in block.text.splitlines() if line]
    appended = re.fullmatch(r"with (.+) appended", block.note)
    if appended:
        return [f"{line} {appended[1]}" for line in written]
    if block.note.startswith("planned only"):
        return [line.replace("-m lenet_lab", "-m lenet_lab plan", 1) for line in written]
    if block.note.startswith("composed only"):
        return [f"{line} --cfg job" for line in written]
    assert block.note in ("", "in the repository"), f"a note that no test knows: {block.note}"
    return written


def serve(line: str, folder: Path) -> None:
    """Start a server, read its page, stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [*shlex.split(line), "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(words, cwd=folder, env=environment(folder), stdout=log, stderr=log, process_group=0)
        try:
            end = time.monotonic() + 90
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        assert b"MLflow" in answer.read()
                    return
                except OSError:
                    assert server.poll() is None, (folder / "server.log").read_text()
                    assert time.monotonic() < end, (folder / "server.log").read_text()
                    time.sleep(0.5)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("section", sections())
def test_commands_run_as_written(
    section: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if section == "On MNIST":
        request.getfixturevalue("mnist_root")
    seen = section != next(iter(sections()))
    for block in sections()[section]:
        if block.language == "python":
            commands = [[sys.executable, "-c", block.text]]
        elif block.note.startswith("a server"):
            serve(block.text.strip(), tmp_path)
            continue
        elif block.language == "bash":
            commands = [shlex.split(line) for line in lines(block)]
            if block.note == "in the repository":
                (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
        else:
            continue
        for words in commands:
            if words[:4] == ["python", "-m", "lenet_lab", "plan"]:  # saves a process and its imports
                assert plan(words[4:]) == 0, words
                continue
            env, ours = environment(tmp_path), words[:3] == ["python", "-m", "lenet_lab"]
            if ours and seen:  # the README's first starts Python, the others are forked where its imports are done
                done = command_line(words[3:], tmp_path, env, 600)
            else:
                done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
            seen = seen or ours
            assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def test_every_block_is_run_or_shown() -> None:
    for section, blocks in sections().items():
        for block in blocks:
            if block.language == "":
                assert block.text.startswith("make "), f"{section}: {block.text}"
            else:
                assert block.language in ("bash", "python", "text")
    assert README.count("```") == 2 * sum(len(blocks) for blocks in sections().values())


def test_every_command_is_named() -> None:
    for command in COMMANDS:
        assert f"| `{command}" in README, f"{command} is not in the table of commands"
        assert re.search(rf"\b{command}[,.\n]", HELP), f"{command} is not in what --help says"


def test_links_lead_somewhere() -> None:
    for page in (README, (REPOSITORY / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"\]\(([^)#]+)", page):
            assert target.startswith("https://") or (REPOSITORY / target).exists(), target
