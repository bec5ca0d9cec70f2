"""The comparison as a pure function of tracked runs: facts computed once, rendered many ways."""

from lenet_lab.report.build import build
from lenet_lab.report.facts import Facts
from lenet_lab.report.question import Question
from lenet_lab.report.write import write

__all__ = ["Facts", "Question", "build", "write"]
