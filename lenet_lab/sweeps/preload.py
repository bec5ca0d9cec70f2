"""What every job needs, imported once in the server that jobs are forked from.

Imports alone: no tensor is made and no thread started, so that a fork is as clean as a new process.
"""

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import mlflow.pytorch  # noqa: F401
import pytorch_lightning  # noqa: F401
import torch
import torch.export  # noqa: F401

import lenet_lab.run
import lenet_lab.sweeps.job  # noqa: F401
