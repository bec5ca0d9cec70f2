"""Simulated runs whose truth is known: how often the tests and intervals of `lenet_lab.stats` say what they promise."""
