"""Everything that talks to MLflow."""

from lenet_lab.tracking.claims import begun_by, bury, claim, counts, deliver_pending, execution_record, find, search
from lenet_lab.tracking.read import read_curves, read_runs, record
from lenet_lab.tracking.runs import Busy, TakenOver, TrackedRun
from lenet_lab.tracking.store import Store, open_store

__all__ = [
    "Busy",
    "Store",
    "TakenOver",
    "TrackedRun",
    "begun_by",
    "bury",
    "claim",
    "counts",
    "deliver_pending",
    "execution_record",
    "find",
    "open_store",
    "read_curves",
    "read_runs",
    "record",
    "search",
]
