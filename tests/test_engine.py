"""Training: the same numbers every time, resumed or not, on one process or two, and those of a plain PyTorch loop."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lenet_lab.cell import build, load
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.data.arrays import Arrays, Split
from lenet_lab.data.batches import order
from lenet_lab.engines import Diverged, evaluate
from lenet_lab.engines.checkpoints import VerifiedCheckpointIO, newest_valid, verified
from lenet_lab.engines.execution import NVML_CHECK, Execution, recorded
from lenet_lab.train import execution_of, train

REPOSITORY = Path(__file__).resolve().parent.parent
TIMES = ("time/epoch_s",)


def config_of(*words):
    return parse(compose_cell(["data=digits", "data.train_size=200", "trainer.threads=1", *words]).resolved)


def fit(config, folder=None, arrays=None, **how):
    return train(config, arrays or load(config.data), execution_of(config), folder, **how)[1]


def figures(trained):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in trained.log_book]


def same(one, two):
    """Whether two state dicts are equal bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("words", "layout"),
    [
        (["batch_size=32", "pool=max"], "channels_last"),
        (["batch_size=32", "pool=max", "trainer.threads=1"], "contiguous"),
        (["batch_size=8", "pool=max"], "contiguous"),
        (["batch_size=32", "pool=max", "norm=bn"], "contiguous"),
        (["batch_size=32", "pool=max", "norm=bn", "norm.place=fc"], "channels_last"),
        (["batch_size=32", "pool=max", "norm=gn"], "channels_last"),
        (["batch_size=32", "pool=avg"], "contiguous"),
        (["batch_size=32", "model=lenet5_1998"], "contiguous"),
        (["batch_size=32", "pool=conv"], "channels_last"),
    ],
)
def test_the_memory_format_is_the_fastest_measured(words, layout):
    assert execution_of(config_of("trainer.threads=2", *words)).memory_format == layout


SMALLEST, ONES = torch.full((2_000_000,), 1e-39), torch.ones(2_000_000)


def survivors():
    """Of two million products below the smallest normal float32, by all of torch's threads; counted by their bits."""
    return int(((SMALLEST * ONES).view(torch.int32) != 0).sum())


def test_subnormal_numbers_are_zero_on_every_thread_while_a_run_trains():
    before = torch.get_num_threads()
    for threads in (2, 1):
        torch.set_num_threads(2)
        assert survivors() == 2_000_000, "the threads are there already"
        with Execution(threads, "contiguous", True, flush_denormals=True).applied():
            assert survivors() == 0
        assert survivors() == 2_000_000
    torch.set_num_threads(2)
    with Execution(2, "contiguous", True, flush_denormals=True).exact():
        with Execution(2, "contiguous", True).applied():
            assert survivors() == 2_000_000, "as a record of an earlier version says"
        assert survivors() == 0
    torch.set_num_threads(before)


def test_an_update_does_not_search_the_disk_for_gpus(monkeypatch):
    """Lightning's variable makes torch's Adam do so before every update; it is back when the training is over."""
    monkeypatch.setenv(NVML_CHECK, "1")
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        with Execution(1, "contiguous", True).applied():
            assert (NVML_CHECK in os.environ) == gpu
        assert os.environ[NVML_CHECK] == "1"


def test_a_record_without_it_is_of_a_run_that_kept_subnormal_numbers():
    chosen = execution_of(config_of())
    assert chosen.flush_denormals
    assert not execution_of(config_of("model=knn")).flush_denormals
    record = chosen.as_dict()
    assert recorded(record) == chosen
    del record["flush_denormals"]
    assert recorded(record) == replace(chosen, flush_denormals=False)


class Killed(Exception):
    """Stands for the death of the process."""


def killer(after):
    """A sink that dies in the epoch after `after`: its figures are out, its checkpoint is not written."""

    def sink(values, step):
        if step > after:
            raise Killed

    return sink


# the same numbers


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    words = ["epochs=2", "dropout=0.3", "norm=bn", "pool=max"]
    config = config_of(*words)
    one = fit(config)
    torch.rand(7)  # what happens to the global generator is nobody's business
    two = fit(config)
    other = fit(config_of(*words, "seed=1"))
    assert same(one.last, two.last)
    assert same(one.best, two.best)
    assert figures(one) == figures(two)
    assert not same(one.last, other.last)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(config_of("epochs=1", "dropout=0.3", "init=orthogonal"))
    assert torch.equal(torch.rand(3), expected)


LONG = ("epochs=8", "dropout=0.4", "schedule=one_cycle", "lr=0.08", "norm=bn", "early_stopping=2")


@pytest.fixture(scope="module")
def stopped_early():
    """A configuration that stops early after more than four epochs; of which seed, the processor's last bits decide."""
    for seed in range(1, 40):
        words = (*LONG, f"seed={seed}")
        trained = fit(config_of(*words))
        if 4 < len(trained.log_book) == trained.best_epoch + 2 < 8:
            return words, trained
    raise AssertionError("none of 39 seeds stops early")


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(after, stopped_early, tmp_path):
    """Dropout, a schedule by update, batch norm, early stopping and the best weights: all of it travels."""
    words, uninterrupted = stopped_early
    config = config_of(*words)
    with pytest.raises(Killed):
        fit(config, tmp_path, sink=killer(after))
    resumed = fit(config, tmp_path)
    assert resumed.resumed_from == after
    assert figures(resumed) == figures(uninterrupted)
    assert resumed.best_epoch == uninterrupted.best_epoch
    assert same(resumed.last, uninterrupted.last)
    assert same(resumed.best, uninterrupted.best)


def test_a_finished_checkpoint_is_not_trained_again(stopped_early, tmp_path):
    """Stopped early or at the last epoch: there is nothing left to do."""
    for words in (stopped_early[0], ("epochs=2",), ("epochs=2", "data.val_size=0")):
        folder, config, seen = tmp_path / str(len(words)), config_of(*words), []
        first = fit(config, folder)
        again = fit(config, folder, sink=lambda values, step, seen=seen: seen.append(step))
        assert again.resumed_from == len(first.log_book)
        assert seen == []
        assert same(again.last, first.last)
        assert same(again.best, first.best)
        assert (figures(again), again.best_epoch) == (figures(first), first.best_epoch)


# checkpoints


def test_updates_are_counted_and_checkpoints_are_written(tmp_path):
    config = config_of("epochs=3", "batch_size=32")
    fit(config, tmp_path)
    kept = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert kept == ["epoch-00002.ckpt", "epoch-00003.ckpt"], "two generations"
    for path, epochs in zip(sorted(tmp_path.glob("*.ckpt")), (2, 3), strict=True):
        saved = VerifiedCheckpointIO().load_checkpoint(path)
        assert saved["global_step"] == epochs * 7, "200 images are 7 batches of 32"
        assert saved["epoch"] == epochs - 1
    assert not list(tmp_path.glob("*.part"))


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    path.write_bytes(content)
    if how == "no digest":
        path.with_name(path.name + ".sha256").unlink()


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "no digest"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(how, tmp_path):
    config = config_of("epochs=4", "schedule=cosine")
    whole = fit(config)
    with pytest.raises(Killed):
        fit(config, tmp_path, sink=killer(3))
    damage(tmp_path / "epoch-00003.ckpt", how)
    assert newest_valid(tmp_path) == tmp_path / "epoch-00002.ckpt"
    resumed = fit(config, tmp_path)
    assert resumed.resumed_from == 2
    assert same(resumed.last, whole.last)
    verified(tmp_path / "epoch-00004.ckpt")


def test_without_a_valid_checkpoint_the_run_starts_afresh(tmp_path):
    config = config_of("epochs=2")
    whole = fit(config)
    with pytest.raises(Killed):
        fit(config, tmp_path, sink=killer(1))
    damage(tmp_path / "epoch-00001.ckpt", "flipped")
    resumed = fit(config, tmp_path)
    assert resumed.resumed_from == 0
    assert same(resumed.last, whole.last)


def test_a_checkpoint_cannot_execute_code(tmp_path):
    """Its digest may be right, written by whoever wrote the file: a pickle in it is still not run."""

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    target = tmp_path / "epoch-00001.ckpt"
    VerifiedCheckpointIO().save_checkpoint({"state_dict": Bomb()}, target)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        VerifiedCheckpointIO().load_checkpoint(target)
    assert not (tmp_path / "executed").exists()


# early stopping, penalties, divergence


@pytest.mark.parametrize(("monitor", "patience"), [("val/loss", 2), ("val/acc", 1)])
def test_early_stopping_stops_when_it_should(monitor, patience):
    """The rule, applied by hand to the figures of a run without it, gives the epoch at which it stops."""
    words = ["epochs=12", "lr=0.06", f"early_stopping.monitor={monitor}"]
    scores = [row[monitor] * (1 if monitor == "val/acc" else -1) for row in figures(fit(config_of(*words)))]
    best, since, expected = -float("inf"), 0, 12
    for epoch, score in enumerate(scores, 1):
        best, since = (score, 0) if score > best else (best, since + 1)
        if since == patience:
            expected = epoch
            break
    stopped = fit(config_of(*words, f"early_stopping={patience}"))
    assert 2 < expected < 12, "this configuration must stop early, else it tests nothing"
    assert len(stopped.log_book) == expected
    assert stopped.best_epoch == 1 + max(range(expected), key=lambda i: (scores[i], -i))


def test_a_loss_that_is_not_finite_is_a_divergence():
    with pytest.raises(Diverged, match="not finite in epoch 1"):
        fit(config_of("epochs=2", "lr=1e30", "optimizer=sgd", "activation=relu"))


# an independent reference


class PlainLeNet(nn.Module):
    """LeNet-5 written down once more, by hand."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = nn.functional.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = nn.functional.avg_pool2d(torch.tanh(self.conv2(x)), 2).flatten(1)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


def plain_loop(net, data, seed, epochs, batch, optimizer, rate=None, l1=0.0):
    """The textbook loop; returns the mean training loss and the validation loss and accuracy of each epoch."""
    book, step = [], 0
    for epoch in range(epochs):
        total = 0.0
        net.train()
        for rows in order(len(data.train), seed, epoch).split(batch):
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(data.train.images[rows]), data.train.labels[rows])
            (loss + l1 * sum(p.abs().sum() for p in net.parameters())).backward()
            optimizer.step()
            total += loss.item() * len(rows)
            step += 1
        net.eval()
        with torch.no_grad():
            out = net(data.val.images)
            val = float(nn.functional.cross_entropy(out, data.val.labels))
            acc = float((out.argmax(1) == data.val.labels).double().mean())
        book.append((total / len(data.train), val, acc))
    return book


REFERENCES = {
    "adam": (["lr=0.001"], lambda p: torch.optim.Adam(p, 0.001), {}),
    "adam, small batches": (["batch_size=8"], lambda p: torch.optim.Adam(p, 0.001), {"batch": 8}),
    "momentum, halved each epoch": (
        ["optimizer=momentum", "lr=0.05", "schedule=step", "schedule.step_size=1"],
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
        {"rate": lambda step: 0.05 * 0.5 ** (step // 7)},
    ),
    "l2": (["optimizer=sgd", "lr=0.1", "weight_decay=0.01"], lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01), {}),
    "adam, l2": (["weight_decay=0.01"], lambda p: torch.optim.Adam(p, 0.001, weight_decay=0.01), {}),
    "adamw": (
        ["optimizer=adamw", "weight_decay=0.1"],
        lambda p: torch.optim.AdamW(p, 0.001, weight_decay=0.1),
        {},
    ),
    "l1": (
        ["optimizer=sgd", "lr=0.1", "weight_decay=l1", "weight_decay.value=0.001"],
        lambda p: torch.optim.SGD(p, 0.1),
        {"l1": 0.001},
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_training_equals_a_plain_loop(name):
    """The same first weights and batches, and nothing else of the package: the same numbers to float tolerance."""
    words, optimizer, how = REFERENCES[name]
    config = config_of("epochs=2", "init.bias=0.05", *words)
    data = load(config.data)
    plain = PlainLeNet()
    first = dict(zip(plain.state_dict(), build(config).state_dict().values(), strict=True))
    plain.load_state_dict(first)
    options = {"batch": 32, **how}
    book = plain_loop(plain, data, config.seed, 2, optimizer=optimizer(plain.parameters()), **options)
    trained = fit(config)
    for (loss, val, acc), row in zip(book, trained.log_book, strict=True):
        assert row["train/loss"] == pytest.approx(loss, rel=1e-4)
        assert row["val/loss"] == pytest.approx(val, rel=1e-4)
        assert row["val/acc"] == pytest.approx(acc, abs=1 / 200)
    moved = 0.0
    for reference, weight, start in zip(
        plain.state_dict().values(), trained.last.values(), first.values(), strict=True
    ):
        torch.testing.assert_close(weight, reference, rtol=2e-3, atol=2e-4)
        moved = max(moved, float((weight - start).abs().max()))
    assert moved > 0.01, "weights that did not move would agree with anything"


def test_the_penalty_is_not_in_the_loss_that_is_shown():
    plain, decayed = (fit(config_of("epochs=1", "lr=1e-9", f"weight_decay={name}")) for name in ("none", "l1"))
    assert decayed.log_book[0]["train/loss"] == pytest.approx(plain.log_book[0]["train/loss"], abs=1e-6)


# the test set


def with_other_test(data):
    """The same splits with a test split of noise."""
    noise = torch.randn(data.test.images.shape, generator=torch.Generator().manual_seed(1))
    test = Split(noise, data.test.labels.roll(1), data.test.index)
    return Arrays(data.train, data.val, test, data.classes, data.digest, data.name)


def test_the_test_set_does_not_influence_training():
    config = config_of("epochs=3", "early_stopping=1", "lr=0.02", "dropout=0.2")
    data = load(config.data)
    one, two = fit(config), fit(config, arrays=with_other_test(data))
    assert same(one.last, two.last)
    assert same(one.best, two.best)
    assert figures(one) == figures(two)


def test_a_test_curve_is_shown_and_steers_nothing():
    words = ("epochs=3", "early_stopping=1", "lr=0.02", "dropout=0.2", "norm=bn")
    config = config_of(*words, "test_curve=true")
    quiet, shown = fit(config_of(*words)), fit(config)
    assert same(quiet.last, shown.last)
    assert same(quiet.best, shown.best)
    assert len(quiet.log_book) == len(shown.log_book)
    data = load(config.data)
    net = build(config)
    net.load_state_dict(shown.last)
    seen = evaluate(net, config.loss, data.test)
    accuracy = float((seen.predicted == seen.labels).double().mean())
    assert shown.log_book[-1]["test_curve/acc"] == pytest.approx(accuracy)
    assert not any(key.startswith("test") for row in quiet.log_book for key in row)


def test_evaluation_is_of_the_whole_split_in_evaluation_mode():
    """Metrics of the epoch come from the weights that are kept, with dropout off and norms as learned."""
    config = config_of("epochs=2", "dropout=0.4", "norm=bn", "checkpoint=last")
    data, trained = load(config.data), fit(config)
    net = build(config)
    net.load_state_dict(trained.last)
    seen = evaluate(net, config.loss, data.val)
    row = trained.log_book[-1]
    assert row["val/loss"] == pytest.approx(float(seen.losses.mean()), rel=1e-5)
    assert row["val/acc"] == pytest.approx(float((seen.predicted == seen.labels).double().mean()))
    assert net.training, "the mode is put back"


# two processes

RANKS = """
import os, sys
from pathlib import Path

if "LENET_LAB_PARENT_PID" not in os.environ:  # rank 0 starts the other; that one comes here by the same file
    import subprocess
    import lenet_lab.distributed as distributed

    real = subprocess.Popen
    def popen(command, **how):
        return real([sys.executable, __file__, "rank", command[-1]], **how)
    distributed.subprocess = type("Patched", (), {"Popen": staticmethod(popen), "DEVNULL": subprocess.DEVNULL})

from safetensors.torch import save_file
import lenet_lab.train as training
from lenet_lab.cell import load
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse

if sys.argv[1] == "rank":  # as `python -m lenet_lab.rank` does, and the weights are written down at the end
    import lenet_lab.rank as rank
    train = training.train
    def watched(*args, **how):
        net, trained = train(*args, **how)
        save_file(dict(trained.last), "rank-1.safetensors")
        return net, trained
    training.train = watched
    sys.argv[1:] = sys.argv[2:]
    rank.main()
else:
    cell = compose_cell(sys.argv[1:])
    config = parse(cell.resolved)
    how = training.execution_of(config)
    with distributed.Ranks(cell.resolved, config.trainer, how) as ranks:
        net, trained = training.train(config, load(config.data), how, Path("checkpoints").absolute())
        ranks.join()
    save_file(dict(trained.last), "rank-0.safetensors")
    assert "MASTER_PORT" not in os.environ, "nothing is left behind"
"""


@pytest.mark.slow
def test_two_processes_equal_one_on_the_joined_batches(tmp_path):
    """Dropout, distortions and the l1 penalty too; the last batch is of 5, shared out as 3 and 2."""
    words = ["data=digits", "data.train_size=101", "batch_size=8", "epochs=2", "dropout=0.3", "schedule=cosine"]
    words += ["weight_decay=l1", "lr=0.05", "optimizer=momentum", "trainer.threads=1", "augment=affine"]
    (tmp_path / "ranks.py").write_text(RANKS)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_", "LENET_LAB_"))}
    result = subprocess.run(
        [sys.executable, "ranks.py", *words, "trainer=ddp_cpu"],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    zero, one = load_file(tmp_path / "rank-0.safetensors"), load_file(tmp_path / "rank-1.safetensors")
    assert same(zero, one), "ranks that differ have trained two networks"
    config = config_of(*words)
    alone = fit(config)
    assert not same(dict(alone.last), build(config).state_dict())
    for key, value in alone.last.items():
        torch.testing.assert_close(zero[key], value, rtol=1e-3, atol=1e-4)
    saved = VerifiedCheckpointIO().load_checkpoint(newest_valid(tmp_path / "checkpoints"))
    assert saved["global_step"] == 2 * 13
