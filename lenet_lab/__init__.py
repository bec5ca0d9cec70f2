"""lenet_lab: a research harness for LeNet-5 ablations that a person can trust."""

__version__ = "0.1.0"
