"""Training, through Lightning; classical models through scikit-learn."""

from lenet_lab.engines.classical import Taught, ask, teach
from lenet_lab.engines.execution import Execution, choose, recorded
from lenet_lab.engines.fit import FAST_DEV_BATCHES, Hardware, Trained, fit, put
from lenet_lab.engines.single import Diverged, Evaluation, Recipe, evaluate

__all__ = [
    "FAST_DEV_BATCHES",
    "Diverged",
    "Evaluation",
    "Execution",
    "Hardware",
    "Recipe",
    "Taught",
    "Trained",
    "ask",
    "choose",
    "evaluate",
    "fit",
    "put",
    "recorded",
    "teach",
]
