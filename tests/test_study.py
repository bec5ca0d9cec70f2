"""What a study says, and the presets: each composes, says in its header what it costs, and is soundly designed."""

from __future__ import annotations

import re
from types import MappingProxyType

import pytest
from conftest import REPOSITORY

from lenet_lab.cell import build, make_ready, params
from lenet_lab.config.compose import cell_of, composer, grid, quote_sweeper_params
from lenet_lab.config.paths import extended
from lenet_lab.config.schema import parse
from lenet_lab.records import LabError
from lenet_lab.stats import least_seeds
from lenet_lab.study import Study, loads, matches, read_study, select
from lenet_lab.sweeps import lint

PRESETS = sorted((REPOSITORY / "conf" / "experiment").glob("*.yaml"))
NODE = MappingProxyType({"name": "x", "baseline": "pool=avg norm=none", "factors": ["pool", "norm"]})
ARMS = {
    f"{pool}-{norm}": {"pool": pool, "pool.name": pool, "norm": norm, "lr": "0.001", "lr.value": "0.001", "seed": "0"}
    for pool in ("avg", "max")
    for norm in ("none", "bn")
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("pool=max", True),
        ("pool=max norm=bn", True),
        ("pool=avg norm=bn", False),
        ("lr=1e-3", True),
        ("lr=0.0010", True),
        ("lr=0.002", False),
        ("lr.value=0.001", True),
        ("head=linear", False),
    ],
)
def test_pairs_hold(text, holds):
    assert matches(ARMS["max-bn"], text) is holds


def test_one_arm_is_selected_or_the_line_says_what_to_add():
    assert select(ARMS, "pool=max norm=bn") == "max-bn"
    with pytest.raises(LabError, match=r"'pool=max': selects 2 arms; say also norm$"):
        select(ARMS, "pool=max")
    with pytest.raises(LabError, match="'pool=median': selects no arm; there are: pool=avg, pool=max"):
        select(ARMS, "pool=median")
    with pytest.raises(LabError, match="write pairs"):
        select(ARMS, "max")


def test_the_family():
    others = [("avg-bn", "avg-none"), ("max-none", "avg-none"), ("max-bn", "avg-none")]
    assert sorted(read_study(NODE).comparisons(ARMS)) == sorted(others)
    named = read_study({**NODE, "family": ["pool=max norm=none", "pool=max norm=bn vs pool=avg norm=bn"]})
    assert named.comparisons(ARMS) == [("max-none", "avg-none"), ("max-bn", "avg-bn")]
    assert loads(named.dumps()) == named == Study("x", NODE["baseline"], ("pool", "norm"), named.family)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"metrics": "x"}, "study.metrics=x: no such key; allowed: name, baseline, factors"),
        ({"metric": 3}, "study.metric=3: must be a text; allowed: the name of a metric, such as test/acc or val/acc"),
        ({"baseline": ""}, "study.baseline=: must be a text"),
        ({"baseline": "avg"}, "'avg': does not select arms; write pairs like `pool=max norm=bn`"),
        ({"factors": "pool"}, "study.factors=pool: must be a list of texts"),
        ({"family": ["pool=max vs avg"]}, "'avg': does not select arms; write pairs like `pool=max norm=bn`"),
        ({"difference": 2}, "study.difference=2: must be a share of the test images, between 0 and 1"),
    ],
)
def test_a_wrong_node_is_refused(more, line):
    with pytest.raises(LabError, match=re.escape(line)):
        read_study({**NODE, **more})


def test_a_tag_that_is_no_study_is_refused():
    for text in ("{", "[]", '"x"'):
        with pytest.raises(LabError, match="study"):
            loads(text)


def arms_of(*asked: str):
    """The grid of a sweep (words of every cell) and one ready cell an arm."""
    with composer() as compose:
        config = compose(asked, multirun=True)
        quote_sweeper_params(config)
        cells = grid(config)
        assert cells is not None
        first = {tuple(word for word in words if not word.startswith("seed=")): words for words in cells}
        ready = []
        for words in first.values():
            cfg = compose(words)
            ready.append(make_ready(cell_of(cfg, cfg.hydra.runtime.choices, words)))
    return cells, ready


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_a_sound_study(path):
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"# Command:  python -m lenet_lab -m experiment={path.stem}" in header
    assert re.search(r"^# Run time: about \d+ minutes on 2 cores", header, re.MULTILINE)
    assert re.search(r"^# Expect:   \w", header, re.MULTILINE)
    if extended(path.stem):  # composed with all the others of its study, below
        assert f"then: python -m lenet_lab report {extended(path.stem)}" in header
        return
    cells, ready = arms_of(f"experiment={path.stem}")
    assert f": {len(cells)} runs.\n" in header
    study = read_study(ready[0].cell.resolved["study"])
    assert study.name == path.stem
    arms = {one.arm: one for one in ready}
    assert len(arms) == len(ready), "two arms are one"
    texts = {arm: params(one) for arm, one in arms.items()}
    compared = study.comparisons(texts)
    assert all(factor in text for factor in study.factors for text in texts.values())
    assert len({tuple(text[factor] for factor in study.factors) for text in texts.values()}) == len(arms)
    seeds = {word for words in cells for word in words if word.startswith("seed=")}
    assert len(cells) == len(seeds) * len(arms)
    if path.stem != "demo":
        assert f"then: python -m lenet_lab report {path.stem}" in header
        assert len(seeds) >= least_seeds(0.95, max(1, len(compared))), "the family cannot reach the level"
    assert [*lint._idle(arms), *lint._confounded(arms)] == []


@pytest.mark.slow
def test_the_record_and_its_ablation_are_one_study_of_one_change_each():
    cells, ready = arms_of("experiment=glob(record*)", "seed=range(10)")
    study = read_study(ready[0].cell.resolved["study"])
    assert {one.cell.resolved["study"]["name"] for one in ready} == {"record"}
    texts = {one.arm: params(one) for one in ready}
    assert len(cells) == 10 * len(texts) == 10 * sum(path.stem.startswith("record") for path in PRESETS)
    whole = texts[ready[0].arm]
    assert [pair[1] for pair in study.comparisons(texts)] == [ready[0].arm] * (len(texts) - 1)
    for one in ready[1:]:
        text = texts[one.arm]
        changed = {key.partition(".")[0] for key in whole.keys() | text.keys() if whole.get(key) != text.get(key)}
        assert len(changed) == 1, one.name
    assert int(ready[0].config.epochs) <= 20
    assert layer_total(ready[0]) <= 62_000
    assert len(cells) // len(texts) >= least_seeds(0.95, len(texts) - 1)


def layer_total(ready):
    return sum(value.numel() for value in build(ready.config).parameters())


def test_the_node_changes_no_run():
    _, (one, *_) = arms_of("experiment=demo")
    plain = {key: value for key, value in one.cell.resolved.items() if key != "study"}
    again = make_ready(type(one.cell)(one.cell.overrides, plain, one.cell.choices))
    assert (again.key, again.arm, again.name) == (one.key, one.arm, one.name)
    assert params(again) == params(one)
    with pytest.raises(LabError, match=r"study.baseline=None"):
        parse({**plain, "study": {"name": "demo", "factors": []}})
