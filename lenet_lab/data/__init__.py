"""Data sets in memory: found, verified, split and normalised. Importing this does not import torch."""

from lenet_lab.data.arrays import Arrays, Split
from lenet_lab.data.spec import Data, Spec

__all__ = ["Arrays", "Data", "Spec", "Split"]
