"""Statistics of replicated runs: seeds are the unit of replication."""

from lenet_lab.stats.intervals import Interval, binomial_se, mean, sample_sd, t_interval

__all__ = ["Interval", "binomial_se", "mean", "sample_sd", "t_interval"]
