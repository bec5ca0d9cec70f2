"""What several commands share."""

from __future__ import annotations

import argparse


def parser(name: str, about: str, epilog: str = "") -> argparse.ArgumentParser:
    """A command's argument parser, with `--store`."""
    made = argparse.ArgumentParser(f"python -m lenet_lab {name}", description=about, epilog=epilog)
    made.add_argument(
        "--store",
        metavar="URI",
        help="MLflow tracking URI; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the current folder",
    )
    return made


def human(size: float) -> str:
    """Bytes as people say them: `3.2 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
