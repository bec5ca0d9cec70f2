"""Replicas: a run in a pack is the run alone."""

import itertools
import json
import os
import random
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping
from torch._inductor.runtime.cache_dir_utils import default_cache_dir
from torch.utils._python_dispatch import TorchDispatchMode

from lenet_lab.cell import build, load, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.data import packs
from lenet_lab.data.arrays import Split
from lenet_lab.data.augment import UNIT, NoAugmentation
from lenet_lab.data.augment.distortion import Distortion
from lenet_lab.data.module import TrainingChunks
from lenet_lab.data.packs import PackChunks
from lenet_lab.engines import Execution, Hardware, Recipe, compiling, fit, recorded
from lenet_lab.engines.fates import Fate
from lenet_lab.engines.pack import Replica, fit_pack
from lenet_lab.engines.replicas import ReplicaNetworks
from lenet_lab.engines.single import Diverged, SingleNetwork
from lenet_lab.engines.stack import Stack
from lenet_lab.optim import EarlyStopping
from lenet_lab.records import LabError
from lenet_lab.run import _execution
from lenet_lab.train import execution_of

HARDWARE = Hardware("cpu", precision="64-true")
EXECUTION = Execution(1, "contiguous", False)
IN_TURN = Execution(1, "channels_last", True, stacked=False)
EVERYTHING = Distortion(rotate=20, shift=0.1, scale=0.2, shear=15, flip=0.5, alpha=20, brightness=0.3, contrast=0.3)
both = pytest.mark.parametrize("execution", [EXECUTION, IN_TURN], ids=["as one", "in turn"])


def setting(*words):
    """The configuration, its small splits in double precision, its recipe without seed, rate and decay."""
    config = parse(compose_cell(["data=digits", "data.train_size=150", "epochs=4", *words]).resolved)
    arrays = load(config.data)
    return config, arrays


def recipe(config, arrays, seed, lr=None, decay=None, execution=EXECUTION):
    steps = -(-len(arrays.train) // config.batch_size.value)
    return Recipe(
        objective=config.loss,
        optimizer=config.optimizer,
        schedule=config.schedule,
        lr=config.lr if lr is None else replace(config.lr, value=lr),
        weight_decay=config.weight_decay if decay is None else replace(config.weight_decay, value=decay),
        seed=seed,
        epochs=config.epochs,
        steps_per_epoch=steps,
        execution=execution,
        augment=config.augment,
        order=config.order,
    )


def net(config, seed):
    return build(replace(config, seed=seed))


def alone(config, arrays, asked, folder=None, **more):
    return fit(
        net(config, asked.seed),
        asked,
        arrays,
        config.batch_size.value,
        config.early_stopping,
        HARDWARE,
        folder,
        test_curve=config.test_curve,
        **more,
    )


def packed(config, arrays, several, folders=None, sinks=None):
    replicas = [
        Replica(net(config, asked.seed), asked, None if folders is None else folders[i], sinks and sinks[i])
        for i, asked in enumerate(several)
    ]
    return fit_pack(
        replicas,
        arrays,
        config.batch_size.value,
        config.early_stopping,
        HARDWARE,
        test_curve=config.test_curve,
    )


def same(one, other, tolerance=1e-9):
    assert one.best_epoch == other.best_epoch
    assert one.last.keys() == other.last.keys()
    for weights, others in ((one.last, other.last), (one.best, other.best)):
        for name, value in weights.items():
            torch.testing.assert_close(value, others[name], rtol=0, atol=tolerance, msg=name)
    assert len(one.log_book) == len(other.log_book)
    for row, others in zip(one.log_book, other.log_book, strict=True):
        figures = {name: value for name, value in row.items() if not name.startswith("time/")}
        assert figures == pytest.approx({name: others[name] for name in figures}, abs=1e-8)


@both
# 150 images in batches of 32: five updates an epoch, the last of them smaller, twenty in four epochs
@pytest.mark.parametrize(
    "words",
    [
        # small rates: Adam blows the rounding of a zero gradient, that of a bias before batch norm, up to steps of 1e-8
        # of the rate
        ("optimizer=adam", "norm=bn", "dropout=0.3", "augment=affine", "lr=0.0002"),
        ("optimizer=momentum", "norm=bn", "dropout=0.3", "augment=affine", "augment.clean_epochs=1"),
        ("dropout=flatten", "weight_decay=0.001"),
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (
                ("optimizer=sgd", "weight_decay=0.01", "schedule=one_cycle", "test_curve=true"),
                ("optimizer=nesterov", "weight_decay=l1", "norm=gn", "pool=max", "activation=relu"),
                ("optimizer=adamw", "weight_decay=0.1", "schedule=cosine", "pool=conv", "dropout=conv", "order=fixed"),
                ("optimizer=rmsprop", "norm=ln", "norm.place=all", "data.val_size=0"),
                ("model=lenet5_1998", "optimizer.patterns=20", "weight_decay=0.001", "batch_size=32"),
                ("optimizer=amsgrad", "norm=in", "init=he_normal", "loss.label_smoothing=0.1"),
            )
        ),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("one_rate", [False, True], ids=["rates", "a rate"])
def test_a_run_in_a_pack_is_the_run_alone(words, execution, one_rate):
    config, arrays = setting(*words)
    rates = [times * config.lr.value for times in (2, 2, 2 if one_rate else 10)]
    execution = replace(execution, one_rate=one_rate)
    several = [recipe(config, arrays, seed, rate, execution=execution) for seed, rate in enumerate(rates)]
    for asked, together in zip(several, packed(config, arrays, several), strict=True):
        same(alone(config, arrays, asked), together)


@pytest.mark.parametrize("rates", [(0.001, 0.002, 0.001), (0.001,) * 3], ids=["rates", "a rate"])
@pytest.mark.parametrize(
    "execution", [EXECUTION, replace(IN_TURN, memory_format="contiguous")], ids=["as one", "in turn"]
)
def test_a_run_of_a_pack_is_the_same_in_a_pack_of_one_bit_for_bit(monkeypatch, execution, rates):
    """By its record, which says whether its pack had one rate: what `rerun` does, and a run that goes on alone."""
    monkeypatch.setattr(sys.modules[__name__], "HARDWARE", Hardware("cpu"))
    config, arrays = setting("activation=tanh", "batch_size=40", "epochs=2", "data.normalize=standard")
    execution = replace(execution, one_rate=len(set(rates)) == 1)
    several = [recipe(config, arrays, seed, rate, execution=execution) for seed, rate in enumerate(rates)]
    for asked, together in zip(several, packed(config, arrays, several), strict=True):
        (again,) = packed(config, arrays, [asked])
        assert all(torch.equal(value, again.last[name]) for name, value in together.last.items())
        assert [row["val/loss"] for row in together.log_book] == [row["val/loss"] for row in again.log_book]


def test_replicas_of_several_rates_have_no_common_one():
    config, arrays = setting()
    several = [recipe(config, arrays, 0, rate, execution=replace(EXECUTION, one_rate=True)) for rate in (0.1, 0.2)]
    with pytest.raises(ValueError, match="several rates"):
        packed(config, arrays, several)


def test_a_pack_has_no_scaler_of_gradients():
    """Which 16-mixed is about: an overflow in one run would hold the others up."""
    config, arrays = setting()
    one = recipe(config, arrays, 0)
    with pytest.raises(LabError, match=r"^trainer\.precision=16-mixed: .*; allowed in a pack: 32-true, 64-true, bf16"):
        fit_pack([Replica(net(config, 0), one)], arrays, 32, config.early_stopping, Hardware("gpu", 1, 1, "16-mixed"))


@both
def test_a_pack_in_sixteen_bits_is_near_the_run_alone(execution, monkeypatch):
    """bf16 has 8 bits of mantissa, and each engine rounds in its own places."""
    config, arrays = setting("optimizer=momentum", "lr=0.02", "epochs=3", "norm=bn")
    several = [recipe(config, arrays, seed, execution=execution) for seed in range(2)]
    whole = packed(config, arrays, several)
    monkeypatch.setattr(sys.modules[__name__], "HARDWARE", Hardware("cpu", precision="bf16-mixed"))
    for asked, exact, together in zip(several, whole, packed(config, arrays, several), strict=True):
        single = alone(config, arrays, asked)
        assert together.last["fc1.weight"].dtype == torch.float32
        precise, near, losses = ([row["train/loss"] for row in one.log_book] for one in (exact, single, together))
        assert losses == pytest.approx(near, rel=1e-3)
        assert losses != pytest.approx(precise, rel=5e-6), "32 bits are as near as 1e-7"
        assert losses[0] - losses[-1] > 0.5


def test_replicas_have_a_decay_each():
    config, arrays = setting("optimizer=momentum", "lr=0.01")
    several = [recipe(config, arrays, 3, decay=decay) for decay in (0.0, 0.1)]
    together = packed(config, arrays, several)
    for asked, one in zip(several, together, strict=True):
        same(alone(config, arrays, asked), one)
    assert together[1].last["fc1.weight"].norm() < 0.95 * together[0].last["fc1.weight"].norm()


def test_a_diverging_replica_leaves_its_neighbours_alone():
    config, arrays = setting("optimizer=sgd", "activation=relu")
    several = [recipe(config, arrays, seed, lr) for seed, lr in ((0, 0.05), (1, 1e30), (2, 0.05))]
    first, second, third = packed(config, arrays, several)
    assert isinstance(second, Diverged)
    same(alone(config, arrays, several[0]), first)
    same(alone(config, arrays, several[2]), third)


@pytest.mark.slow
@both
def test_replicas_stop_early_each_by_itself(execution):
    config, arrays = setting("early_stopping=1", "epochs=30", "dropout=0.2")
    several = [
        recipe(config, arrays, seed, lr, execution=execution) for seed, lr in enumerate((0.002, 0.005, 0.01, 0.02))
    ]
    together = packed(config, arrays, several)
    lengths = [len(one.log_book) for one in together]
    assert len(set(lengths)) > 1
    assert max(lengths) < 30
    for asked, one in zip(several, together, strict=True):
        same(alone(config, arrays, asked), one, tolerance=1e-7)


@pytest.mark.parametrize("monitor", ["val/acc", "val/loss"])
@pytest.mark.parametrize("min_delta", [0.0, 0.001])
def test_a_replica_has_the_patience_of_a_run_alone(monitor, min_delta):
    """Which is Lightning's, on curves whose steps are whole images of 5,000 and often `min_delta` itself."""
    draw, mode = random.Random(0), "max" if monitor == "val/acc" else "min"
    for _ in range(200):
        right = itertools.accumulate(draw.choices([-10, -5, 0, 5, 5, 10], k=30), initial=4500)
        curve = [(count if mode == "max" else 5000 - count) / 5000 for count in right]
        single = LightningEarlyStopping(monitor, min_delta, patience=3, mode=mode)
        stops = [single._evaluate_stopping_criteria(torch.tensor(value))[0] for value in curve]
        fate = Fate(EarlyStopping(3, monitor, min_delta), None, None)
        goes_on = [fate.judge(i, {"train/loss": 1.0, monitor: value}, 0.0, dict) for i, value in enumerate(curve)]
        last = stops.index(True) if True in stops else None
        assert last == (goes_on.index(False) if False in goes_on else None)


class Cut(BaseException):
    """The process is gone."""


class Full(OSError):
    """A disk."""


def test_a_replica_whose_sink_or_checkpoint_fails_leaves_its_neighbours_alone(tmp_path, monkeypatch):
    config, arrays = setting("optimizer=momentum", "epochs=3")
    several = [recipe(config, arrays, seed) for seed in range(4)]
    folders = [tmp_path / str(i) for i in range(4)]
    save = Fate.save

    def full(fate, epoch, *rest):
        if fate.folder == folders[2] and epoch == 2:
            raise Full
        save(fate, epoch, *rest)

    def taken_over(figures, step):
        if step == 2:
            raise LookupError

    monkeypatch.setattr(Fate, "save", full)
    first, second, third, fourth = packed(config, arrays, several, folders, [None, taken_over, None, None])
    assert (type(second), type(third)) == (LookupError, Full)
    same(alone(config, arrays, several[0]), first)
    same(alone(config, arrays, several[3]), fourth)
    monkeypatch.undo()
    monkeypatch.setattr(Fate, "_load", lambda fate: None if fate.folder == folders[0] else 1 / 0)
    ends = packed(config, arrays, several[:2], folders[:2])
    assert type(ends[1]) is ZeroDivisionError
    same(ends[0], first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "when", "resumed", "tolerance", "execution"),
    [  # a pack of other replicas rounds otherwise
        (0, 4, [3, 3, 3], 0.0, EXECUTION),
        (1, 3, [3, 2, 2], 1e-9, EXECUTION),
        (1, 3, [3, 2, 2], 1e-9, IN_TURN),
    ],
)
def test_a_pack_that_was_cut_off_goes_on(who, when, resumed, tolerance, execution, tmp_path):
    words = ("optimizer=momentum", "norm=bn", "dropout=0.3", "epochs=6", "augment=rotate_shift")
    config, arrays = setting(*words)
    several = [recipe(config, arrays, seed, execution=execution) for seed in range(3)]
    whole = packed(config, arrays, several)
    folders = [tmp_path / str(i) for i in range(3)]

    def cut(figures, step):
        if step == when:
            raise Cut

    with pytest.raises(Cut):
        packed(config, arrays, several, folders, [cut if i == who else None for i in range(3)])
    points = []
    went_on = packed(config, arrays, several, folders, [None, lambda figures, step: points.append(step), None])
    assert points == list(range(resumed[1] + 1, 7))
    assert [one.resumed_from for one in went_on] == resumed
    for one, other in zip(whole, went_on, strict=True):
        same(one, other, tolerance)


@pytest.mark.parametrize("fused", [True, False])
def test_an_optimizer_that_counts_its_steps_goes_on(fused, tmp_path):
    config, arrays = setting("optimizer=adam", "epochs=3")
    asked = recipe(config, arrays, 0, execution=replace(EXECUTION, fused=fused))
    (whole,) = packed(config, arrays, [asked])

    def cut(figures, step):
        if step == 3:
            raise Cut

    with pytest.raises(Cut):
        packed(config, arrays, [asked], [tmp_path], [cut])
    (went_on,) = packed(config, arrays, [asked], [tmp_path])
    assert went_on.resumed_from == 2
    same(whole, went_on, 0.0)


def test_buffers_of_the_base_are_not_shared():
    config, arrays = setting("norm=bn")
    several = [recipe(config, arrays, seed) for seed in range(2)]
    one, two = packed(config, arrays, several)
    assert not torch.equal(one.last["conv1_norm.running_mean"], two.last["conv1_norm.running_mean"])
    assert int(one.last["conv1_norm.num_batches_tracked"]) == 20


class Readings(TorchDispatchMode):
    """Counts what a GPU would have to be waited for: values read by the host, and shapes that depend on values."""

    WAITS = tuple(
        getattr(torch.ops.aten, name).default
        for name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero")
    )

    def __init__(self):
        super().__init__()
        self.calls, self.found = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        if func in self.WAITS:
            self.found.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("engine", [ReplicaNetworks, SingleNetwork])
def test_no_update_waits_for_the_device(engine, monkeypatch):
    """With the updates that a GPU gets: fused, and all replicas as one."""
    config, arrays = setting("optimizer=adam", "norm=bn", "dropout=0.3", "augment=affine", "epochs=1")
    several = [recipe(config, arrays, seed, execution=Execution(1, "contiguous", True)) for seed in range(2)]
    readings, step = Readings(), engine.training_step

    def watched(self, *batch):
        with readings:
            step(self, *batch)

    monkeypatch.setattr(engine, "training_step", watched)
    if engine is ReplicaNetworks:
        packed(config, arrays, several)
    else:
        alone(config, arrays, several[0])
    assert readings.calls > 100
    assert readings.found == []
    with readings:
        torch.ones(1).item()
    assert len(readings.found) == 1, "a reading is seen"


class Copies(TorchDispatchMode):
    """Counts copies to another device: how many wait, and how many do not."""

    def __init__(self):
        super().__init__()
        self.waits, self.others = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device:
            self.waits += not kwargs.get("non_blocking")
            self.others += bool(kwargs.get("non_blocking"))
        return func(*args, **kwargs)


@pytest.mark.parametrize("augment", [NoAugmentation(), EVERYTHING], ids=["as they are", "distorted"])
@pytest.mark.parametrize("several", [True, False], ids=["a pack", "one network"])
def test_the_feed_of_a_device_waits_for_no_copy(augment, several):
    """Images on another device, here one without values: a pack's orders go there once an epoch."""
    split = Split(torch.rand(50, 1, 12, 12), torch.arange(50) % 10, torch.arange(50)).to(torch.device("meta"))
    if several:
        chunks = PackChunks(split, 8, [3, 5], 2, None, augment, UNIT, "shuffle", 9)
    else:
        chunks = TrainingChunks(split, 8, 3, 0, 1, None, torch.contiguous_format, augment, UNIT, "shuffle", 9)
    chunks.per_chunk = 2
    with Copies() as copies:
        fed = list(chunks)
        torch.ones(1).to("meta")
    assert len(fed) == 4
    assert copies.waits == 1, "the last one, which is no feed's, is seen"
    assert 0 < copies.others <= (2 if several else 9)


def test_distorted_images_leave_room_for_what_distorts_them(monkeypatch):
    """A chunk of a device is a share of its free memory, by what is held beside the images."""
    split = Split(torch.rand(50, 1, 12, 12), torch.arange(50) % 10, torch.arange(50)).to(torch.device("meta"))
    monkeypatch.setattr(packs, "GPU_FEED_BYTES", 50_000_000)
    plain, distorted = (
        PackChunks(split, 8, range(64), 0, None, augment, UNIT, "shuffle").per_chunk
        for augment in (NoAugmentation(), EVERYTHING)
    )
    image = 4 * 12 * 12
    assert (plain, distorted) == (50_000_000 // image // 2 // 512, 50_000_000 // image // 12 // 512)
    assert distorted > 1


@pytest.mark.parametrize("augment", [NoAugmentation(), EVERYTHING], ids=["as they are", "distorted"])
def test_a_gpu_gets_the_images_that_a_cpu_gets(augment):
    """All replicas' at once there, a replica's at a time here; both in one layout."""
    images = torch.rand(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(50) % 10, torch.arange(50))
    fed = []
    for together in (False, True):
        chunks = PackChunks(split, 8, [3, 5], 2, None, augment, UNIT, "shuffle", 9)
        chunks.together, chunks.per_chunk = together, 4
        fed.append([batch for chunk in chunks for batch in chunk.batches])
    assert [len(labels[0]) for _, labels in fed[0]] == [8, 8, 8, 8, 8, 8, 2]
    for (images, labels), (others, truths) in zip(*fed, strict=True):
        assert torch.equal(labels, truths)
        assert torch.equal(images, others)
        assert not torch.equal(images[0], images[1])
        assert images.is_contiguous()
        assert others.is_contiguous()
        assert labels.is_contiguous()


@pytest.mark.parametrize("engine", [ReplicaNetworks, SingleNetwork])
def test_a_warm_up_leaves_nothing_behind(engine, monkeypatch):
    """A GPU's libraries are loaded by a pass over the first batch; here it is asked for on the CPU."""
    config, arrays = setting("optimizer=momentum", "norm=bn", "dropout=0.3", "epochs=2")
    several = [recipe(config, arrays, seed) for seed in range(2)]

    def runs():
        return packed(config, arrays, several) if engine is ReplicaNetworks else [alone(config, arrays, several[0])]

    before, warmed = runs(), []

    def warm(self):
        data = self.trainer.datamodule
        self._warm_up(*((data.train, data.batch_size) if engine is ReplicaNetworks else ()))
        warmed.append(True)

    monkeypatch.setattr(engine, "on_train_start", warm)
    for one, other in zip(before, runs(), strict=True):
        same(one, other, tolerance=0)
    assert warmed == [True]


def test_convolutions_of_a_gpu_are_of_32_bits_and_the_same_again():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    with EXECUTION.applied():
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
    assert (cudnn.allow_tf32, cudnn.deterministic) == before


# compiled


@contextmanager
def compiles(at_least=1):
    """What is inside is compiled: so many graphs."""
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    yield
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= before + at_least


def a_compiled_pack_is_its_runs(config, arrays):
    """Two runs as they are against a compiled pack of them; the recipes of both."""
    plain = [recipe(config, arrays, seed) for seed in range(2)]
    several = [replace(one, execution=replace(EXECUTION, compiled=True)) for one in plain]
    with compiles():
        together = packed(config, arrays, several)
    for asked, one in zip(plain, together, strict=True):
        same(alone(config, arrays, asked), one)
    return plain, several


@pytest.fixture
def traced(monkeypatch):
    """What is compiled is only traced and differentiated: seconds, and as good for what these tests ask."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "words",
    [
        ("optimizer=momentum", "norm=bn", "augment=affine"),  # of its 150 images the last batch is a smaller one
        pytest.param(("model=lenet5_1998", "optimizer.patterns=20", "batch_size=32"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_a_compiled_run_alone_or_in_a_pack_is_the_run_as_it_is(words):
    config, arrays = setting(*words)
    plain, several = a_compiled_pack_is_its_runs(config, arrays)
    with compiles():
        single = alone(config, arrays, several[0])
    same(alone(config, arrays, plain[0]), single)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("replicas", [1, 2])
def test_all_is_compiled_before_the_first_epochs_clock_starts(replicas, monkeypatch):
    """For the whole batches and the smaller last one; alone a replica's slices are as contiguous as they are wide."""
    config, arrays = setting("optimizer=sgd", "epochs=1", "batch_size=64")
    compiled = replace(EXECUTION, compiled=True)
    several = [recipe(config, arrays, seed, execution=compiled) for seed in range(replicas)]
    graphs, start = [], ReplicaNetworks.on_train_start

    def counted(self):
        start(self)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    monkeypatch.setattr(ReplicaNetworks, "on_train_start", counted)
    packed(config, arrays, several)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs[0] > 0


@pytest.mark.usefixtures("traced")
def test_a_replica_leaves_a_compiled_pack():
    config, arrays = setting("optimizer=sgd", "activation=relu")
    compiled = replace(EXECUTION, compiled=True)
    several = [recipe(config, arrays, seed, lr, execution=compiled) for seed, lr in ((0, 0.05), (1, 1e30), (2, 0.05))]
    with compiles(at_least=2):
        first, second, third = packed(config, arrays, several)
    assert isinstance(second, Diverged)
    for asked, one in ((several[0], first), (several[2], third)):
        same(alone(config, arrays, replace(asked, execution=EXECUTION)), one)


@pytest.mark.slow
def test_the_compiler_itself_gives_the_same_numbers():
    assert compiling.why_not("cpu") is None, "torch needs a C++ compiler and Python's headers"
    config, arrays = setting("data.train_size=20", "batch_size=1", "epochs=1", "model=mlp", "optimizer=sgd")
    a_compiled_pack_is_its_runs(config, arrays)


def test_what_is_compiled_lies_in_a_private_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for before, after in ((None, tmp_path), (default_cache_dir(), tmp_path), ("/elsewhere", Path("/elsewhere"))):
        monkeypatch.delenv(compiling.FOLDER, raising=False)
        if before is not None:
            monkeypatch.setenv(compiling.FOLDER, before)
        compiling.compiled(torch.sin)
        assert Path(os.environ[compiling.FOLDER]).is_relative_to(after)
    assert (tmp_path / "lenet_lab" / "compiled").stat().st_mode & 0o777 == 0o700


def test_long_packs_on_single_images_are_compiled(monkeypatch):
    monkeypatch.setattr(compiling, "why_not", lambda device: None)

    def chosen(*words, packed=True):
        return execution_of(parse(compose_cell(["data=digits", *words]).resolved), packed).compiled

    long = ("batch_size=1", "epochs=200")  # 1,437 images
    assert chosen(*long)
    assert not chosen(*long, packed=False)
    assert not chosen(*long, "trainer.precision=bf16-mixed")
    assert not chosen(*long, "trainer.fast_dev=true")
    assert not chosen("batch_size=1", "epochs=100"), "too short"
    assert not chosen("batch_size=2", "epochs=400")
    assert not chosen(*long, "dropout=0.1")
    assert not chosen(*long, "early_stopping=3")
    assert not chosen(*long, "trainer.compile=false")
    assert chosen("trainer.compile=true", "epochs=1")
    record = execution_of(parse(compose_cell(["data=digits", *long]).resolved), packed=True).as_dict()
    assert recorded(record).compiled
    del record["compiled"]
    assert not recorded(record).compiled, "a record of an earlier version"
    monkeypatch.setattr(compiling, "why_not", lambda device: "no compiler")
    assert not chosen(*long)


def test_the_record_says_how_a_pack_lies_in_memory(monkeypatch):
    """As one it is contiguous, also on a GPU, where a network alone is not."""

    def chosen(device, *words, packed):
        monkeypatch.setattr("lenet_lab.train.device_of", lambda trainer: torch.device(device))
        config = parse(compose_cell(["data=digits", "trainer.compile=false", *words]).resolved)
        how = execution_of(config, packed)
        stack = Stack([net(config, 0)], how.layout, not how.stacked)
        return how.memory_format, how.stacked, "channels_last" if stack.last else "contiguous"

    assert chosen("cuda", packed=False)[0] == "channels_last"
    assert chosen("cuda", packed=True) == ("contiguous", True, "contiguous")
    assert chosen("cpu", "batch_size=8", packed=True) == ("contiguous", True, "contiguous")
    two = ("batch_size=32", "pool=max", "trainer.threads=2")
    assert chosen("cpu", *two, packed=True) == ("channels_last", False, "channels_last")
    assert chosen("cpu", *two, "norm=bn", packed=True) == ("contiguous", False, "contiguous")


def test_a_run_that_was_compiled_goes_on_where_nothing_can_be(monkeypatch):
    """Its record says so; what it has learned is not lost for want of a compiler."""
    config = parse(compose_cell(["data=digits"]).resolved)
    begun = {"lenet.execution": json.dumps(replace(EXECUTION, compiled=True).as_dict())}
    tracked = SimpleNamespace(before=begun)
    monkeypatch.setattr("lenet_lab.run.why_not", lambda device: None)
    assert _execution(config, tracked, True) == replace(EXECUTION, compiled=True)
    unasked = replace(config, trainer=replace(config.trainer, compile=False))
    assert _execution(unasked, tracked, True) == EXECUTION
    for one_rate in (True, False):
        new = _execution(config, SimpleNamespace(before={}), True, one_rate)
        assert recorded(new.as_dict()).one_rate == one_rate
    monkeypatch.setattr("lenet_lab.run.why_not", lambda device: "no compiler")
    assert _execution(config, tracked, True) == EXECUTION


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["dropout=0.1"], "dropout"),
        (["model=knn"], "no gradient steps"),
        (["trainer=ddp_cpu"], "DistributedDataParallel"),
        (["early_stopping=3"], "stops early"),
        ([], "no compiler"),
    ],
)
def test_what_cannot_be_compiled_is_refused(words, why, monkeypatch):
    monkeypatch.setattr(compiling, "why_not", lambda device: "no compiler")
    with pytest.raises(LabError, match=f"^trainer.compile=true: .*{why}.*allowed: null, false$"):
        make_ready(compose_cell(["data=digits", "trainer.compile=true", *words]))
