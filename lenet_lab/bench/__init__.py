"""How fast training is here: this harness against bare loops and against Lightning as tutorials use it."""

from lenet_lab.bench.cases import BATCHED, CASES, SIZED, Asked, run_case
from lenet_lab.bench.rows import Row, judged
from lenet_lab.bench.words import markdown, text

__all__ = ["BATCHED", "CASES", "SIZED", "Asked", "Row", "judged", "markdown", "run_case", "text"]
