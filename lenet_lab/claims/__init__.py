"""Published numbers put to the test: the ledger of claims, and the judge."""

from lenet_lab.claims.evidence import Evidence
from lenet_lab.claims.judge import Judged, Verdict, judge
from lenet_lab.claims.ledger import Arm, Cell, Source, Statement, load, names

__all__ = ["Arm", "Cell", "Evidence", "Judged", "Source", "Statement", "Verdict", "judge", "load", "names"]
