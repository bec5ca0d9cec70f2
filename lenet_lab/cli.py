"""The front door: the first word picks a command, anything else goes to Hydra."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Any

COMMANDS = {
    "plan": "what a sweep would do",
    "status": "sweeps and runs: finished, running, dead",
    "report": "the comparison, from the tracked runs alone",
    "claims": "published numbers, judged by tracked runs",
    "diff": "two runs or arms: what differs, the likeliest reason first",
    "rerun": "train a run again from its own record: bit-identical, or what differs",
    "ui": "browse the runs in MLflow",
    "export": "tracked runs as one file",
    "import": "bring the runs of such a file into a store",
    "layers": "a network layer by layer, with formulas",
    "predict": "what a tracked model says about one's own images",
    "evaluate": "a tracked model on another data set",
    "bench": "how fast training is here, and against what",
    "doctor": "what is wrong with this installation, store and machine, and what to do about it",
    "archive": "runs out of the way, and back",
    "gc": "free what finished and archived runs have left behind",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line; every mistake of the user's is one line and exit status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    from lenet_lab.records import LabError

    try:
        if words and words[0] in COMMANDS:
            module = words[0] + "_" * iskeyword(words[0])
            sys.exit(import_module(f"lenet_lab.commands.{module}").main(words[1:]))
        if words[:1] == ["--version"]:
            from lenet_lab import __version__

            print(f"lenet_lab {__version__}")
            return
        if argv is None:
            gc.set_threshold(100_000, 20, 50)  # looking for rubbish among what imports leave took a fifth of a start
        _check_command(words)
        _hydra(words)
    except LabError as error:
        sys.exit(_say(str(error)))
    except KeyboardInterrupt:  # before a run or a sweep has begun to listen to signals itself
        print("stopped by SIGINT before a job had begun; the same command starts again", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _check_command(words: Sequence[str]) -> None:
    """Refuse a first word that is neither a command nor anything that Hydra could mean."""
    from lenet_lab.records import LabError

    if not words or not words[0].isidentifier():
        return
    from difflib import get_close_matches

    near = get_close_matches(words[0], COMMANDS, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise LabError(f"{words[0]}: neither a command nor KEY=VALUE; {meant}commands: {', '.join(COMMANDS)}")


def _hydra(words: list[str]) -> None:
    """Hand the rest to Hydra, with numbers quoted, and turn its errors into one line each."""
    from lenet_lab.config.mode import ask_once
    from lenet_lab.config.numbers import quote
    from lenet_lab.config.paths import conf_dir, prepare

    os.environ["LENET_LAB_LAUNCH"] = f"{os.getpid()}-{os.urandom(2).hex()}"
    prepare()
    own_trace = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back as exceptions instead of being printed
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    ask_once(words, conf_dir())
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
        from lenet_lab.config.wording import one_line

        sys.exit(_say(one_line(error)))
    except OSError as error:  # a folder that cannot be written
        if own_trace or not error.filename:
            raise
        sys.exit(_say(f"{error.filename}: {error.strerror}"))


def _say(message: str) -> int:
    print(f"lenet_lab: {message}", file=sys.stderr)
    return 2
