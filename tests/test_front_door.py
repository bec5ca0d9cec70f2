"""Whatever is thrown at the front door is either refused in one line before any work, or runs."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from lenet_lab.cell import build, load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.paths import conf_dir
from lenet_lab.config.wording import one_line
from lenet_lab.engines import Diverged
from lenet_lab.records import LabError
from lenet_lab.train import execution_of, train

GROUPS = ("pool", "norm", "activation", "init", "dropout", "optimizer", "schedule", "weight_decay", "early_stopping")
OPTIONS = {group: sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")) for group in GROUPS}
KEYS = (
    "lr",
    "batch_size",
    "weight_decay",
    "dropout",
    "early_stopping",
    "seed",
    "epochs",
    "data.val_size",
    "data.train_size",
    "data.per_class",
    "data.size",
    "data.fit",
    "data.normalize",
    "norm.groups",
    "norm.place",
    "model.maps",
    "model.units",
    "model.padding",
    "model.kernel",
    "model.order",
    "pool.name",
    "loss.label_smoothing",
    "trainer.precision",
    "trainer.devices",
    "checkpoint",
    "tracking.uri",
    "nothing.of.the.kind",
)
VALUES = st.one_of(
    st.integers(-3, 200).map(str),
    st.floats(allow_nan=True, allow_infinity=True, width=32).map(str),
    st.sampled_from(
        ["true", "null", "none", "''", "[]", "[6,16]", "[1]", "{a: 1}", "pad", "resize", "conv", "fc", "all", "unit"]
    ),
    st.sampled_from(
        ["conv-norm-act-pool", "conv-pool-act-norm", "bf16-mixed", "16-mixed", "last", "avg", "${seed}", "${nothing}"]
    ),
    st.text(max_size=12),
)
CHOICES = st.sampled_from(GROUPS).flatmap(
    lambda group: st.sampled_from(OPTIONS[group]).map(lambda option: f"{group}={option}")
)
OVERRIDES = st.lists(st.one_of(CHOICES, st.builds("{}={}".format, st.sampled_from(KEYS), VALUES)), max_size=4)
SMALL = ["data=digits", "data.train_size=120", "trainer=fast_dev", "trainer.accelerator=cpu", "trainer.threads=1"]


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(OVERRIDES)
@example(["lr=nan"])
@example(["batch_size=0"])
@example(["norm=gn", "norm.groups=5"])
@example(["early_stopping=3", "data.val_size=0"])
@example(["pool=max", "norm=bn", "optimizer=adamw"])
def test_an_override_is_refused_in_one_line_or_runs(overrides):
    """No other exception than a refusal comes out of the checks; what they let through trains."""
    try:
        ready = make_ready(compose_cell([*SMALL, *overrides]))
    except LabError as error:
        assert str(error).strip()
        assert "\n" not in str(error)
        return
    except (HydraException, OmegaConfBaseException) as error:
        assert "\n" not in one_line(error)
        return
    config = ready.config
    assert build(config) is not None
    if config.trainer.world_size > 1:
        return
    try:
        _, trained = train(config, load(config.data), execution_of(config), None)
    except Diverged:
        return  # an outcome, not a failure
    assert len(trained.log_book) == 1
