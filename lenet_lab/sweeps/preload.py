"""What every job needs, imported once in the server that jobs are forked from.

Imports, and what a run states of the code imported: no tensor is made and no thread started, so that a fork is as clean
as a new process. The list is what one whole run imports; a name that a later version of a library lacks is passed over,
and costs the jobs its import. The modules that decide a run's numbers are imported all, so that a job trains with those
whose digest it states, whatever is edited while the sweep runs.
"""

import atexit
import gc
import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from lenet_lab import provenance

NAMES = (
    "lenet_lab.run",
    "lenet_lab.sweeps.job",
    "lenet_lab.sweeps.worker",
    "lenet_lab.data.inputs",
    "lenet_lab.tracking.models",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "matplotlib.image",
    "mlflow.pytorch",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "PIL.PngImagePlugin",
    "pytorch_lightning",
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
    "torch.export._trace",
    "torch._export.serde.serialize",
    "torch.export.pt2_archive",
    "torch.export.pt2_archive._package",
    "torch._inductor.codecache",
    "torch._inductor.ir",
    "torch._inductor.loop_body",
    "sympy.combinatorics",
    "torch.utils.serialization.config",
    "torch.fx.experimental.symbolic_shapes",
    "networkx",
)


def _name(path: Path) -> str:
    """A module's name by its file."""
    name = path.relative_to(provenance.PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


gc.disable()  # looking for rubbish among what stays takes a fifth of the time
with suppress(Exception):  # what cannot be told here is asked again in the job, whose failure is said
    provenance.code_digest()
for name in (*NAMES, *map(_name, provenance.training_files())):
    with suppress(Exception):  # a job that needs a module that is broken says so
        import_module(name)
for fact in (provenance.git, provenance.versions, provenance.environment):
    with suppress(Exception):
        fact()
with suppress(Exception):
    if provenance.code_digest.__wrapped__() != provenance.code_digest():  # edited while it was imported
        provenance.code_digest.cache_clear()
gc.freeze()  # and would make every fork copy the pages that it looks at
gc.enable()


def _end(server: int = os.getpid()) -> None:
    """Leave without taking the libraries apart, which some of them complain about on the terminal; not in a fork."""
    if os.getpid() == server:
        os._exit(0)


atexit.register(_end)
