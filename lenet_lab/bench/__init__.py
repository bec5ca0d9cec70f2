"""How fast training is here: this harness against bare loops and against Lightning as tutorials use it."""

from lenet_lab.bench.cases import CASES, Asked, Row, run_case
from lenet_lab.bench.words import markdown, text

__all__ = ["CASES", "Asked", "Row", "markdown", "run_case", "text"]
