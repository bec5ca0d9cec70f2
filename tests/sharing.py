"""Fixtures that cost a sweep are made once for all of xdist's processes."""

import fcntl
import json
import os


def shared(tmp_path_factory, name, make):
    """`make(folder)`, called by the first process that asks; all get the folder and what it returned (plain values)."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / name
    folder.mkdir(exist_ok=True)
    result = root / f"{name}.json"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            result.write_text(json.dumps(make(folder)))
    return folder, json.loads(result.read_text())
