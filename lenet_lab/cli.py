"""The front door: the first word picks a command, anything else goes to Hydra."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

COMMANDS = {
    "plan": "what a sweep would do",
    "status": "sweeps and runs: finished, running, dead",
    "report": "the comparison, from the tracked runs alone",
    "ui": "browse the runs in MLflow",
    "layers": "a network layer by layer, with formulas",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line; every mistake of the user's is one line and exit status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    from lenet_lab.records import LabError

    try:
        if words and words[0] in COMMANDS:
            sys.exit(import_module(f"lenet_lab.commands.{words[0]}").main(words[1:]))
        if words[:1] == ["--version"]:
            from lenet_lab import __version__

            print(f"lenet_lab {__version__}")
            return
        _hydra(words)
    except LabError as error:
        sys.exit(_say(str(error)))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _hydra(words: list[str]) -> None:
    """Hand the rest to Hydra, with numbers quoted, and turn its errors into one line each."""
    from lenet_lab.config.numbers import quote
    from lenet_lab.config.paths import conf_dir, prepare

    os.environ["LENET_LAB_LAUNCH"] = f"{os.getpid()}-{os.urandom(2).hex()}"
    prepare()
    own_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back as exceptions instead of being printed
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    flags = [word for word in words if word in ("-m", "--multirun")]  # argparse wants the overrides in one piece
    words = flags[:1] + [word for word in words if word not in flags]
    sys.argv = [
        sys.argv[0],
        *(quote(word) if "=" in word and not word.startswith("-") else word for word in words),
    ]

    @hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
    def job(cfg: Any) -> Any:
        from lenet_lab.sweeps.job import work

        return work(cfg)

    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        if own_trace:
            raise
        sys.exit(_say(one_line(error)))


def one_line(error: BaseException) -> str:
    """Hydra's message on one line; for an unknown option, the options there are."""
    options, missing = getattr(error, "options", None), getattr(error, "missing_cfg_file", None)
    if missing:
        from lenet_lab.config.numbers import NUMBER_GROUPS

        group, _, option = str(missing).partition("/")
        allowed = [*sorted(options or []), *(["any number"] if group in NUMBER_GROUPS else [])]
        return f"{group}={option}: no such option; allowed: {', '.join(allowed) or 'none'}"
    text = " ".join(str(error).split())
    unknown = re.match(r"Could not override '([^']+)'\. To append to your config use \+(\S+)", text)
    if unknown:
        return f"{unknown[2]}: no such key; `python -m lenet_lab --cfg job` shows those there are"
    return text


def _say(message: str) -> int:
    print(f"lenet_lab: {message}", file=sys.stderr)
    return 2
