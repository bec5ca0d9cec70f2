"""Statistics of replicated runs: seeds are the unit of replication, and arms are paired by seed."""

from lenet_lab.stats.best import indistinguishable_from_best
from lenet_lab.stats.bootstrap import bootstrap_t_interval
from lenet_lab.stats.factorial import Effect, Factorial, Interaction, Joint, Main, factorial
from lenet_lab.stats.intervals import Interval, binomial_se, mean, sample_sd, t_interval
from lenet_lab.stats.mcnemar import McNemar, mcnemar
from lenet_lab.stats.multiplicity import holm
from lenet_lab.stats.paired import Comparison, compare, sign_flip_p
from lenet_lab.stats.power import least_seeds, seeds_needed, smallest_detectable, t_power
from lenet_lab.stats.prediction import prediction_interval

__all__ = [
    "Comparison",
    "Effect",
    "Factorial",
    "Interaction",
    "Interval",
    "Joint",
    "Main",
    "McNemar",
    "binomial_se",
    "bootstrap_t_interval",
    "compare",
    "factorial",
    "holm",
    "indistinguishable_from_best",
    "least_seeds",
    "mcnemar",
    "mean",
    "prediction_interval",
    "sample_sd",
    "seeds_needed",
    "sign_flip_p",
    "smallest_detectable",
    "t_interval",
    "t_power",
]
