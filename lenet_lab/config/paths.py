"""Where the configuration lies: inside the wheel, or `conf/` of the repository."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """The absolute configuration directory.

    Raises:
        FileNotFoundError: the installation carries no configuration.
    """
    for candidate in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"no configuration beside {PACKAGE}: reinstall lenet_lab")


@cache
def extended(experiment: str) -> str | None:
    """The experiment file that this one is with something changed, in its study: its defaults begin with the name.

    None of a file that names a study of its own.
    """
    import yaml

    file = conf_dir() / "experiment" / f"{experiment}.yaml"
    node = yaml.safe_load(file.read_text()) if file.is_file() else {}
    first = (node.get("defaults") or [None])[0]
    return first if isinstance(first, str) and "name" not in (node.get("study") or {}) else None


def prepare() -> None:
    """Make Hydra ready for this package; call it before Hydra starts.

    The parent of the package's own `hydra_plugins` is appended to `sys.path` (Hydra looks for plugins nowhere else,
    and appending leaves other installed plugins where they are), and the variables that `conf/config.yaml` reads
    get a value.
    """
    path = str(PACKAGE / "plugins")
    if path not in sys.path:
        sys.path.append(path)
    os.environ.setdefault("LENET_LAB_SWEEP", "")
    os.environ.setdefault("LENET_LAB_PARENT", "")
    os.environ.setdefault("LENET_LAB_LAUNCH", f"{os.getpid()}-{os.urandom(2).hex()}")
    _share_the_config_store()


def _share_the_config_store() -> None:
    """Hydra copies its one store of plugins' configurations for every question about a group, 145 times for a `--help`.

    It copies what it hands out, so the copies of its sources can share it; that saves half a second.
    """
    from hydra.core.config_store import ConfigStore

    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
