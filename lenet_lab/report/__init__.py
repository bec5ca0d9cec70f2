"""The comparison as a pure function of tracked runs: facts computed once, rendered many ways."""

from lenet_lab.report.facts import Facts, build
from lenet_lab.report.write import write

__all__ = ["Facts", "build", "write"]
