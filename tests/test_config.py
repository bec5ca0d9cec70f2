"""Configuration: numbers as options, the schema's refusals, run keys, and every file under `conf/`."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hydra.errors import HydraException
from PIL import Image
from sharing import shared

from lenet_lab import blocks, optim
from lenet_lab.cell import build, load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.keys import arm_key, run_key, sweep_id
from lenet_lab.config.mode import may_be_configured
from lenet_lab.config.numbers import NUMBER_GROUPS, quote, quote_params
from lenet_lab.config.paths import conf_dir, extended
from lenet_lab.config.schema import GROUPS, parse
from lenet_lab.config.wording import one_line
from lenet_lab.records import LabError
from lenet_lab.sweeps.plan import compose_multirun
from lenet_lab.train import execution_of, learn, train

REPOSITORY = Path(__file__).resolve().parent.parent
CONF = REPOSITORY / "conf"
SMALL = ("data=digits", "data.train_size=64", "epochs=1", "tracking.artifacts=minimal")


def resolved(*words):
    return compose_cell([*SMALL, *words]).resolved


# numbers


@pytest.mark.parametrize(
    ("written", "quoted"),
    [
        ("lr=0.001", "lr='0.001'"),
        ("lr=1e-3", "lr='0.001'"),
        ("batch_size=32", "batch_size='32'"),
        ("lr=0.001,0.0042", "lr='0.001','0.0042'"),
        ("lr=paper,0.1", "lr=paper,'0.1'"),
        ("early_stopping=none,10", "early_stopping=none,'10'"),
        ("lr=choice(0.1,0.2)", "lr='0.1','0.2'"),
        ("batch_size=range(8,33,8)", "batch_size='8','16','24','32'"),
        ("lr='0.001'", "lr='0.001'"),
        ("lr=-1", "lr='-1'"),
        ("lr=nan", "lr='nan'"),
        ("dropout=none", "dropout=none"),
        ("seed=1,2", "seed=1,2"),
        ("pool=avg", "pool=avg"),
        ("lr.value=0.1", "lr.value=0.1"),
        ("~lr", "~lr"),
        ("lr=(", "lr=("),
    ],
)
def test_numbers_are_quoted_where_an_option_is_expected(written, quoted):
    assert quote(written) == quoted
    assert quote(quoted) == quoted, "quoting twice changes nothing"


def test_an_interval_is_refused_in_one_line():
    with pytest.raises(LabError, match=r"^lr=interval\(0,1\): a grid cannot visit an interval; list the values"):
        quote("lr=interval(0,1)")


def test_sweeper_params_take_yaml_lists_and_numbers():
    params = {"lr": [0.001, 0.0042], "batch_size": "8,32", "pool": "avg,max", "seed": [0, 1], "dropout": 0.5}
    assert quote_params(params) == {
        "lr": "'0.001','0.0042'",
        "batch_size": "'8','32'",
        "pool": "avg,max",
        "seed": "0,1",
        "dropout": "'0.5'",
    }


@pytest.mark.parametrize("group", NUMBER_GROUPS)
def test_every_number_group_serves_numbers(group):
    value = {"batch_size": 7, "early_stopping": 3}.get(group, 0.0042)
    cell = compose_cell([f"{group}={value}"])
    assert cell.resolved[group]["value"] == value
    assert type(cell.resolved[group]["value"]) is type(value)
    assert cell.choices[group] == str(value), "the parameter a table shows"


@pytest.mark.parametrize(
    "spellings",
    [
        ("lr=0.001", "lr=1e-3", "lr='0.001'", "lr=0.0010"),
        ("lr=1", "lr=1.0", "lr.value=1"),
        ("dropout=none", "dropout=0", "dropout=0.0"),
        ("dropout=fc", "dropout=0.5"),
        ("weight_decay=none", "weight_decay=0"),
        ("weight_decay=l2", "weight_decay=1e-4"),
    ],
)
def test_two_spellings_of_a_cell_are_one_run(spellings):
    assert len({run_key(resolved(spelling), "digest") for spelling in spellings}) == 1


def test_a_number_comes_with_the_other_keys_of_its_group():
    """As the schema has them where nothing is said, so that they can be set beside it."""
    defaults = {**optim.DEFAULTS, **blocks.DEFAULTS}
    for group, others in NUMBER_GROUPS.items():
        fields = dataclasses.fields(defaults[group])
        assert others == {field.name: field.default for field in fields if field.name != "value"}
    assert resolved("dropout=0.3", "dropout.place=conv")["dropout"] == {"value": 0.3, "place": "conv"}


def test_a_sweep_over_numbers_and_options_is_a_grid():
    """What `-m lr=0.001,0.0042 batch_size=8,32 seed=range(3)` stands for, each cell once."""
    words = [*SMALL, *(quote(word) for word in ("lr=0.001,0.0042", "batch_size=8,32", "seed=range(3)"))]
    cells = compose_multirun(words)
    found = {(c.config.lr.value, c.config.batch_size.value, c.config.seed) for c in cells}
    assert found == {(lr, size, seed) for lr in (0.001, 0.0042) for size in (8, 32) for seed in range(3)}
    assert len({c.key for c in cells}) == len(cells) == 12
    assert len({c.arm for c in cells}) == 4


def test_a_glob_stands_for_the_options_that_it_matches():
    cells = compose_multirun([*SMALL, "augment=glob(rotate_shift*)"])
    assert [c.cell.choices["augment"] for c in cells] == ["rotate_shift", "rotate_shift_flip"]
    with pytest.raises(LabError, match=r"^lr=glob\(\*\): a glob matches options by their names; list the values"):
        quote("lr=glob(*)")


def test_an_unknown_option_of_a_number_group_answers_with_the_options():
    with pytest.raises(HydraException) as caught:
        compose_cell(["weight_decay=fast"])
    assert one_line(caught.value) == "weight_decay=fast: no such option; allowed: l1, l2, none, any number"


# refusals: key, value, and what is allowed

BAD = [
    # an option that is not there, a key that is not there
    (["pool=mean"], ["pool=mean", "avg, conv, max"]),
    (["lr=fast"], ["lr=fast", "any number"]),
    (["poool=avg"], ["poool=avg", "no such key", "did you mean pool?"]),
    (["data.valsize=9"], ["data.valsize=9", "no such key", "did you mean data.val_size?"]),
    (["model.ordr=conv-act-pool"], ["model.ordr=", "no such key", "did you mean model.order?"]),
    (["augment=affine", "augment.rotate=7"], ["augment.rotate=7", "of another", "+augment.rotate=7"]),
    (["lr.vale=1"], ["lr.vale=1", "did you mean lr.value?"]),
    (["unheard.of=1"], ["unheard.of=1", "no such key; `python -m lenet_lab --cfg job`"]),
    # what Hydra's grammar does not take, and what it takes for a sweep
    (["pool=avg,"], ["pool=avg,: cannot be read", "KEY=VALUE", "without spaces"]),
    (["pool=[avg"], ["pool=[avg: cannot be read", "every bracket closed"]),
    (["pool=avg", "max"], ["max: cannot be read", "without spaces"]),
    (["pool=avg,max"], ["pool=avg,max: several values are a sweep", "-m"]),
    (["seed=range(3)"], ["seed=range(3): several values are a sweep", "-m"]),
    (["seed=range(0,a)"], ["seed=range(0,a): range(0,a) cannot be worked out", "range(STOP)"]),
    (["name=it's"], ["name=it's: cannot be read", "in quotes"]),
    (["pool = avg"], ["pool = avg: cannot be read", "KEY=VALUE"]),
    (["=5"], ["=5: nothing before the equals sign", "KEY=VALUE"]),
    (["pool=null"], ["pool=null: no such option", "avg, conv, max"]),
    (["loss={a:1}"], ["loss={a:1}", "loss.KEY=VALUE"]),
    (["pool.nme=avg"], ["pool.nme=avg", "no such key"]),
    (["+pool.size=3"], ["pool.size=3", "no such key", "name"]),
    (["+extra=1"], ["extra=1", "no such key", "seed"]),
    # out of range
    (["lr=-1"], ["lr=-1", "greater than 0"]),
    (["lr=0"], ["lr=0", "greater than 0"]),
    (["lr=nan"], ["lr=nan", "finite"]),
    (["lr=inf"], ["lr=inf", "finite"]),
    (["lr.value=-1"], ["lr=-1", "greater than 0"]),
    (["loss.label_smoothing=nan"], ["loss.label_smoothing=nan", "finite"]),
    (["batch_size=0"], ["batch_size=0", "greater than or equal to 1"]),
    (["seed=-1"], ["seed=-1", "greater than or equal to 0"]),
    (["epochs=0"], ["epochs=0", "greater than or equal to 1"]),
    (["dropout=1.5"], ["dropout=1.5", "less than 1"]),
    (["weight_decay=-1"], ["weight_decay=-1", "greater than or equal to 0"]),
    (["early_stopping=0"], ["early_stopping=0", "greater than or equal to 1"]),
    (["optimizer.betas=[0.9,2]"], ["optimizer.betas", "=2", "less than 1"]),
    (["data.val_size=99999"], ["data.val_size=99999", "0 to"]),
    (["sweep.workers=0"], ["sweep.workers=0", "greater than or equal to 1"]),
    # of the wrong type
    (["batch_size=2.5"], ["batch_size=2.5", "integer"]),
    (["seed=1.5"], ["seed=1.5", "integer"]),
    (["epochs=two"], ["epochs=two", "integer"]),
    (["seed=[1,2]"], ["seed=[1, 2]", "integer"]),
    (["lr.value=abc"], ["lr=abc", "number"]),
    (["test_curve=maybe"], ["test_curve=maybe", "boolean"]),
    (["checkpoint=worst"], ["checkpoint=worst", "'best' or 'last'"]),
    (["name=[1]"], ["name=[1]", "string"]),
    (["early_stopping.monitor=test/acc"], ["early_stopping.monitor=test/acc", "'val/loss' or 'val/acc'"]),
    # allowed each, and not together
    (["batch_size=5000"], ["batch_size=5000", "1 to 64"]),
    (["norm=gn", "norm.groups=5"], ["norm.groups=5", "6 and 16", "1, 2"]),
    (["early_stopping=3", "data.val_size=0"], ["early_stopping=3", "validation split", "early_stopping=none"]),
    (["trainer=ddp_cpu", "batch_size=33"], ["batch_size=33", "multiples of 2"]),
    (
        ["augment=affine", "augment.clean_epochs=1"],
        ["augment.clean_epochs=1", "no epoch of 1 is left; allowed: 0"],
    ),
    (["model.kernel=99"], ["model.kernel=99", "at most"]),
    (["norm=bn", "norm.place=fc", "batch_size=63"], ["batch_size=63", "batch of one image", "leave 1 of 64"]),
    (["head=rbf_fixed"], ["CrossEntropy reads logits", "distances", "loss=rbf_mse, loss=map", "head=linear"]),
    (["optimizer=sdlm", "norm=gn"], ["curvature=gauss_newton", "GroupNorm", "optimizer.curvature=hutchinson"]),
    (["model=lenet5_1998", "data.size=28"], ["data.size=28", "32x32", "allowed: 32"]),
    (["norm=bn", "trainer=ddp_cpu"], ["norm=bn", "several processes on the CPU"]),
    (["~pool"], ["pool", "no option chosen"]),
    # a class is looked up among the group's own, and nothing else is imported or called
    (["model._target_=os.system"], ["model._target_=os.system", "not a class of lenet_lab"]),
    (["model._target_=lenet_lab.cell.build"], ["model._target_=lenet_lab.cell.build", "not a Model"]),
    (["norm._target_=lenet_lab.blocks.pool.StridedConvolution"], ["norm._target_=", "not a Normalization"]),
    (["norm._target_=lenet_lab.blocks.norm.Nothing"], ["norm._target_=", "no such class"]),
    (["+name={_target_:os.system}"], ["name=", "string"]),
    # where things are
    (["tracking.uri=sqlite:////nowhere/at/all.db"], ["tracking.uri=sqlite:////nowhere/at/all.db", "folder is missing"]),
    (["tracking.uri=ftp://host/x"], ["tracking.uri=ftp://host/x", "sqlite:///FILE.db"]),
    (["tracking.uri=http://me:geheim@127.0.0.1:9"], ["tracking.uri=[redacted]", "MLFLOW_TRACKING_PASSWORD"]),
    (["tracking.uri=http://127.0.0.1:9"], ["tracking.uri=http://127.0.0.1:9", "does not answer"]),
    (["data=mnist", "data.root=/nowhere", "data.train_size=null"], ["data.root=/nowhere", "MNIST/raw"]),
]
IDS = [" ".join(words) for words, _ in BAD]

ASK = """
import contextlib, io, json, os, sys
from lenet_lab.cli import main

def ask(words):
    os.environ.pop("HYDRA_FULL_ERROR", None)
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
        status = 0
    except SystemExit as end:
        status = end.code
    return [status, err.getvalue()]

if __name__ == "__main__":
    lines = json.load(sys.stdin)
    json.dump([ask(words) for words in lines], sys.stdout)
"""


# in a sweep, beside a good value: these start nothing either
IN_A_SWEEP = ["lr=-1", "lr=fast", "pool=mean", "poool=avg", "epochs=two", "batch_size=5000", "norm=gn norm.groups=5"]


@pytest.fixture(scope="session")
def answers(tmp_path_factory):
    """What the command line answers to each bad line. One process answers all: imports cost more than answers."""

    def ask(folder):
        (folder / "ask.py").write_text(ASK)
        alone = [[*SMALL, *words] for words, _ in BAD]
        sweeps = [["-m", *SMALL, "seed=0,1", *word.split()] for word in IN_A_SWEEP]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
        result = subprocess.run(
            [sys.executable, "ask.py"],
            cwd=folder,
            env={**clean, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / "cache")},
            input=json.dumps([*alone, *sweeps]),
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        said = json.loads(result.stdout)
        return dict(zip([*IDS, *(f"-m {word}" for word in IN_A_SWEEP)], said, strict=True))

    return shared(tmp_path_factory, "bad-input", ask)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "fragments"), BAD, ids=IDS)
def test_bad_input_is_one_line_and_status_2(words, fragments, answers):
    line = " ".join(words)
    for status, said in [answers[1][line], answers[1].get(f"-m {line}", answers[1][line])]:
        assert said.count("\n") == 1, said
        assert said.startswith("lenet_lab: ")
        missing = [fragment for fragment in fragments if fragment not in said]
        assert not missing, said
        assert "geheim" not in said
        assert status == 2


@pytest.mark.slow
def test_bad_input_opens_no_store(answers):
    folder = answers[0]
    assert {path.name for path in folder.iterdir()} <= {"ask.py", "multirun", "cache"}


def test_the_refusal_comes_from_the_check_itself():
    """The same without the command line, for those who debug one: the schema alone refuses a value."""
    good = resolved()
    parse(json.loads(json.dumps(good)))
    for key, value in {"seed": True, "epochs": "5", "test_curve": "true"}.items():
        with pytest.raises(LabError, match=f"^{key}="):
            parse({**good, key: value})
    with pytest.raises(LabError, match=r"^lr="):
        parse({**good, "lr": {"value": "0.1"}})
    with pytest.raises(LabError, match=r"^data.split_seed="):
        parse({**good, "data": {**good["data"], "split_seed": None}})


@pytest.mark.parametrize("word", ["seed=range(0)", "seed=range(3,1)", "lr=range(1,0)"])
def test_a_sweep_over_nothing_is_refused(word):
    with pytest.raises(LabError, match=r"range\(.*: no value at all; allowed: ranges and lists of one or more"):
        compose_multirun([quote(word)])


def test_a_long_or_ugly_value_is_shown_short_and_on_one_line():
    with pytest.raises(LabError) as caught:
        parse({**resolved(), "seed": "two\nlines\x1b[31m" + "x" * 500})
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 200


# names of runs


def test_where_things_are_written_is_not_in_the_key():
    same = [
        ("name=hello",),
        ("sweep.workers=3", "sweep.retries=2"),
        ("tracking.uri=sqlite:///elsewhere.db",),
        ("tracking.artifacts=full",),
        ("data.root=/elsewhere", "data.download=false"),
        ("trainer=cpu", "trainer.threads=3"),
        ("trainer=ddp_cpu", "trainer.devices=1"),
        ("trainer.strategy=ddp",),
    ]
    base = run_key(resolved(), "digest")
    assert {" ".join(words): run_key(resolved(*words), "digest") for words in same} == {
        " ".join(words): base for words in same
    }


def test_what_is_trained_is_in_the_key():
    different = [
        ("pool=max",),
        ("lr=0.002",),
        ("seed=1",),
        ("epochs=2",),
        ("data.train_size=65",),
        ("data.split_seed=1",),
        ("checkpoint=last",),
        ("test_curve=true",),
        ("trainer.precision=bf16-mixed",),
        ("trainer=ddp_cpu",),
        ("trainer.fast_dev=true",),
        ("early_stopping=3",),
        ("init.bias=0.1",),
    ]
    keys = {run_key(resolved(*words), "digest") for words in [(), *different]}
    assert len(keys) == len(different) + 1
    assert run_key(resolved(), "other") not in keys, "the data's digest is in the key"


def test_world_size_counts_and_not_how_it_is_made():
    two_devices = run_key(resolved("trainer.devices=2"), "digest")
    assert run_key(resolved("trainer.nodes=2"), "digest") == two_devices
    assert run_key(resolved("trainer.devices=4"), "digest") != two_devices


def test_an_arm_is_a_cell_without_its_seed():
    one, two, other = resolved("seed=1"), resolved("seed=2"), resolved("seed=1", "pool=max")
    assert arm_key(one, "d") == arm_key(two, "d") != arm_key(other, "d")
    assert run_key(one, "d") != run_key(two, "d")


def test_the_key_is_stable_and_does_not_see_the_order_of_keys():
    cell = resolved()
    shuffled = dict(reversed([(k, dict(reversed(v.items())) if isinstance(v, dict) else v) for k, v in cell.items()]))
    assert run_key(shuffled, "digest") == run_key(cell, "digest")
    assert sweep_id(["b", "a", "a"]) == sweep_id(["a", "b"])


def test_the_resolved_configuration_rebuilds_the_run():
    """What `config.yaml` of a run holds, read back, is the same run."""
    cell = resolved("norm=gn", "lr=0.0042", "early_stopping=3", "optimizer=momentum")
    again = yaml.safe_load(yaml.safe_dump(cell, sort_keys=False))
    assert parse(again) == parse(cell)
    assert run_key(again, "digest") == run_key(cell, "digest")


def test_a_run_is_named_after_what_sets_it_apart():
    ready = make_ready(
        compose_cell(["data=digits", "pool=max", "lr=1e-3", "seed=3", "tracking.artifacts=minimal", "trainer=cpu"])
    )
    assert ready.name.endswith("seed=3")
    for word in ("data=digits", "pool=max", "lr="):
        assert word in ready.name
    assert "tracking" not in ready.name
    assert "strategy" not in make_ready(compose_cell(["data=digits", "trainer.strategy=ddp"])).name
    assert make_ready(compose_cell(["experiment=demo"])).name == "experiment=demo seed=0"
    assert make_ready(compose_cell(["experiment=demo", "pool=max"])).name == "pool=max seed=0"


# every file under conf/

FILES = sorted(
    path.relative_to(CONF).with_suffix("").as_posix()
    for path in CONF.rglob("*.yaml")
    if path.relative_to(CONF).parts[0] in GROUPS
)
MANY_DEVICES = {"trainer/ddp", "trainer/nodes", "trainer/ddp_cpu"}
PARTNERS = {
    "head/rbf_fixed": ["loss=rbf_mse"],
    "head/rbf_trainable": ["loss=map"],
    "head/rbf_gaussian": ["loss=mse", "weight_decay=1e-4"],  # what ends its plateau
    "loss/rbf_mse": ["head=rbf_fixed"],
    "augment/light": ["epochs=2"],  # the last of them is clean
    "augment/light_elastic": ["epochs=2"],
    "loss/map": ["head=rbf_fixed"],
    "model/kmeans": ["model.clusters=16"],
}
GPU = {"trainer/gpu", "trainer/fp16", *MANY_DEVICES}


def test_every_group_has_its_files():
    assert {file.split("/")[0] for file in FILES} | {"lr", "batch_size"} == set(GROUPS)
    folders = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert folders <= {*GROUPS, "experiment", "hydra"}, "a folder that stands for nothing"


def own_images(file, folder):
    """What names files of one's own, of two classes, for the options that have no others."""
    if file == "data/table":
        header = ",".join(["label", *(f"p{i}" for i in range(4))])
        (folder / "own.csv").write_text("\n".join([header, *["a,0,9,0,9", "b,9,0,9,0"] * 40]))
        return [f"data.train={folder / 'own.csv'}"]
    if file != "data/image_folder":
        return []
    for number in range(80):
        (folder / "own" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), number).save(folder / "own" / "ab"[number % 2] / f"{number}.png")
    return [f"data.root={folder / 'own'}"]


def fits(config):
    """A classical model learns the few images that it is given."""
    arrays = load(config.data)
    fitted = learn(config, arrays, execution_of(config), None)
    assert (fitted.evaluate(arrays.train).predicted == arrays.train.labels).double().mean() > 0.5


@pytest.mark.parametrize("file", FILES)
def test_each_group_file_composes_parses_builds_and_trains_a_step(file, tmp_path):
    """A new file is found by itself. What needs files or devices that a test has not is built only."""
    group, option = file.split("/")
    own = [f"{group}={option}", *own_images(file, tmp_path)]
    set_of_files = group == "data" and option != "digits"
    small = [] if set_of_files else ["data=digits", "data.train_size=32", "batch_size=32"]
    cell = compose_cell([*small, *own, "epochs=1", *PARTNERS.get(file, [])])
    assert cell.choices[group] == option
    config = parse(cell.resolved)
    if config.model.engine != "gradient":
        fits(config)
        return
    net = build(config)
    if set_of_files or file in GPU:
        images = torch.zeros(2, *config.data.in_shape)
        assert net.eval()(images).shape == (2, len(config.data.classes))
        return
    before = {key: value.clone() for key, value in net.state_dict().items()}
    _, trained = train(config, load(config.data), execution_of(config), None)
    assert trained.last.keys() == before.keys()
    assert all(torch.isfinite(value).all() for value in trained.last.values())
    assert any(not torch.equal(value, before[key]) for key, value in trained.last.items())
    assert trained.log_book[-1]["train/loss"] > 0


EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_is_a_checked_sweep_with_a_header(name):
    """Its header says how to run it, how long that takes and what to expect."""
    head = [line for line in (CONF / "experiment" / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    for word in (f"experiment={name}", "Run time:", "Expect:"):
        assert any(word in line for line in head), f"no {word!r} in its header"
    words = [f"experiment={name}", *(["seed=0,1"] if extended(name) else [])]  # ten seeds of each take long
    cells = compose_multirun(words)
    assert len({cell.key for cell in cells}) == len(cells) > 1


def test_every_option_says_what_it_is():
    """The first comment of a file is what a reader of `conf/` sees."""
    silent = [file for file in FILES if not (CONF / f"{file}.yaml").read_text().startswith("# ")]
    assert not silent


@pytest.mark.slow
def test_hydra_shows_the_job(lab):
    shown = lab("--cfg", "job", "pool=max", "lr=0.0042", "seed=7")
    assert shown.returncode == 0, shown.stderr
    config = yaml.safe_load(shown.stdout)
    assert (config["pool"], config["lr"], config["seed"]) == ({"name": "max"}, {"value": 0.0042}, 7)
    assert parse(config).lr.value == 0.0042


@pytest.mark.parametrize("word", ["statsu", "lr"])
def test_a_word_that_is_no_command_and_no_override_is_refused(word, capsys):
    from lenet_lab.cli import main

    with pytest.raises(SystemExit) as end:
        main([word, "=", "0.1"])
    assert end.value.code == 2
    meant = "did you mean status? " if word == "statsu" else ""
    assert capsys.readouterr().err.startswith(
        f"lenet_lab: {word}: neither a command nor KEY=VALUE; {meant}commands: plan, status,"
    )


@pytest.mark.parametrize(
    ("words", "file", "asked"),
    [
        (["pool=max", "norm=bn"], "", False),
        (["hydra.mode=MULTIRUN"], "", True),
        (["+hydra.mode=MULTIRUN"], "", True),
        (["--config-dir", "mine"], "", True),
        (["pool=max"], "hydra:\n  mode: MULTIRUN\n", True),
        (["pool=max"], "# mode: MULTIRUN\nmodel: {a_mode_of: 1}\n", False),
    ],
)
def test_hydra_composes_once_where_nothing_names_a_mode(tmp_path, words, file, asked):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(file)
    assert may_be_configured(words, tmp_path) == asked
    assert not may_be_configured(["pool=max"], conf_dir()), "no file of ours names one"


@pytest.mark.slow
@pytest.mark.parametrize(("words", "composed"), [((), 1), (("hydra.mode=RUN",), 2)])
def test_a_run_is_composed_once(tmp_path, words, composed):
    code = (
        "import sys\n"
        "from hydra._internal.hydra import Hydra\n"
        "own, count = Hydra.compose_config, []\n"
        "Hydra.compose_config = lambda *a, **k: (count.append(1), own(*a, **k))[1]\n"
        f"sys.argv = ['lenet_lab', 'data=digits', 'trainer.fast_dev=true', 'epochs=1', *{words}]\n"
        "from lenet_lab.cli import main\n"
        "main()\n"
        "print('composed', len(count))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert f"composed {composed}" in done.stdout, done.stdout + done.stderr
    assert "leaked" not in done.stdout + done.stderr, "a library's complaint at the end"
