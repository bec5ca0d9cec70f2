"""Where the time of a training epoch goes, by torch's own profiler."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from lenet_lab.bench.contenders import Work, harness
from lenet_lab.bench.starts import Measured

# the beginnings of operators' names, most special first; what no row names is "other operators"
PARTS = (
    (
        "convolution, backward",
        ("aten::convolution_backward", "aten::mkldnn_convolution_backward", "aten::_slow_conv2d_b"),
    ),
    (
        "convolution, forward",
        ("aten::mkldnn_convolution", "aten::_slow_conv2d", "aten::thnn_conv2d", "aten::_convolution"),
    ),
    ("tanh", ("aten::tanh", "aten::to_mkldnn", "aten::_to_dense", "aten::to_dense")),
    ("pooling", ("aten::avg_pool2d",)),
    ("linear layers", ("aten::addmm", "aten::mm", "aten::linear")),
    ("optimizer", ("aten::_fused_adam",)),
    ("loss", ("aten::_log_softmax", "aten::nll", "aten::cross_entropy")),
    ("order and gather", ("aten::index", "aten::randperm")),
)
POOLS = ("_Mean", "_MeanBackward", "_Largest", "_LargestBackward")  # lenet_lab.blocks
REST, PYTHON = "other operators", "Python, autograd's engine, Lightning"


def profile(rounds: int, say: Callable[[str], None]) -> Iterator[Measured]:
    """For each batch size the share of an epoch's time in each part, in percent, one thread."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    os.environ["OMP_NUM_THREADS"] = "1"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in (8, 32, 128):
            say(f"profile, batch {batch}")
            epoch = harness(Work(batch, 1600 if batch == 8 else 6400, 1))
            epoch()
            shares: dict[str, list[float]] = {}
            for _ in range(rounds):
                with profiler(activities=[ProfilerActivity.CPU]) as seen:
                    begun = time.perf_counter()
                    epoch()
                    whole = (time.perf_counter() - begun) * 1e6
                spent = {name: 0.0 for name, _ in PARTS} | {REST: 0.0}
                for event in seen.key_averages():
                    if event.key.startswith("aten::"):
                        spent[_part(event.key)] += event.self_cpu_time_total
                    elif event.key in POOLS:  # of several operators, which are counted with the others
                        inside = event.cpu_time_total - event.self_cpu_time_total
                        spent["pooling"] += event.cpu_time_total
                        spent[REST] -= inside
                spent[PYTHON] = max(0.0, whole - sum(spent.values()))
                for name, value in spent.items():
                    shares.setdefault(name, []).append(100 * value / whole)
            yield f"batch {batch}, 1 thread", "%", shares, []
    finally:
        torch.set_num_threads(before)


def _part(operator: str) -> str:
    return next((part for part, names in PARTS if operator.startswith(names)), REST)
