"""`ui`: MLflow's browser on the store, bound to this machine and to named hosts."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

from lenet_lab.commands.common import parser


def main(words: Sequence[str]) -> int:
    """Become MLflow's server; ends with Ctrl-C."""
    args = parser("ui", "Browse the tracked runs in MLflow's UI; only this machine can reach it.")
    args.add_argument("--port", type=int, default=5000, help="default: %(default)s")
    args.add_argument("--host", default="127.0.0.1", help="interface to listen on; default: %(default)s")
    args.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a host name by which browsers may ask for it"
    )
    chosen = args.parse_args(words)
    from lenet_lab.records import LabError
    from lenet_lab.tracking import open_store
    from lenet_lab.tracking.store import public
    from lenet_lab.tracking.view import prepare_view

    store = open_store(chosen.store, create=False)
    if store.uri.startswith("http"):
        raise LabError(f"ui: the store is a server already; open {public(store.uri)} in a browser")
    _check_port(chosen.host, chosen.port)
    names = ["localhost", "127.0.0.1", *chosen.allow_host]
    hosts = ",".join(f"{name}:{chosen.port}" for name in names)
    origins = ",".join(f"http://{name}:{chosen.port}" for name in names)
    view = prepare_view(store)
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.uri  # a password in it is nobody's to see among the processes
    command = [sys.executable, "-m", "mlflow", "server", "--host", chosen.host]
    command += [
        "--port",
        str(chosen.port),
        "--workers",
        "1",
        "--allowed-hosts",
        hosts,
        "--cors-allowed-origins",
        origins,
    ]
    command += ["--x-frame-options", "DENY"]
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")  # browsing needs none of its job runners
    os.environ.setdefault("PYTHONWARNINGS", "ignore::DeprecationWarning,ignore::UserWarning")  # of its own libraries
    page = f"http://{'127.0.0.1' if chosen.host == '0.0.0.0' else chosen.host}:{chosen.port}"
    print(f"{page}/#/experiments/{store.experiment_id}/runs{view}  (Ctrl-C ends it)", flush=True)
    os.execv(sys.executable, command)


def _check_port(host: str, port: int) -> None:
    from lenet_lab.records import LabError

    if not 1 <= port <= 65535:
        raise LabError(f"--port={port}: allowed are 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LabError(f"--port={port}: cannot listen on {host} there ({error.strerror}); choose another") from None
