"""The random streams: stable numbers, published reference values, uniform and uncorrelated draws."""

import pytest
import torch
from scipy import stats

from lenet_lab.blocks import streams

WORD = (1 << 64) - 1


def splitmix64(state: int, count: int) -> list[int]:
    """The generator as in Vigna's splitmix64.c, in Python's exact integers."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        outputs.append(z ^ (z >> 31))
    return outputs


def test_derived_numbers_never_change():
    """As `printf '0\\0init\\0conv1.weight' | b2sum -l 64` has them, less the last bit."""
    assert streams.derive(0, "init", "conv1.weight") == 808792845411671538
    assert streams.derive(0, "order", 1) == 7770329341107549510
    assert streams.derive(2**40, "dropout", 7, 1) == 4354499536072143835


def test_every_word_counts():
    words = [(0, "init"), (1, "init"), (0, "order"), (0, "init", 0), (0, "init", 0, 0), (0, "init", 1)]
    words += [(1, "order", 23), (12, "order", 3), (1, "order", 2, 3), (1, "order2", 3)]
    numbers = [streams.derive(*w) for w in words]
    assert len(set(numbers)) == len(words)
    assert all(0 <= n < 2**63 for n in numbers)


def test_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    torch.rand(3, generator=streams.generator(0, "init"))
    streams.uniform(streams.key(0, "dropout"), (5,))
    assert torch.equal(before, torch.random.get_rng_state())


def test_generators_repeat_and_differ():
    draws = [torch.rand(4, generator=streams.generator(3, "order", epoch)) for epoch in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_key_holds_the_derived_number():
    number = streams.derive(5, "dropout", 9)
    low, high = streams.key(5, "dropout", 9).tolist()
    assert low + (high << 31) == number & ((1 << 62) - 1)
    assert 0 <= low < 2**31
    assert 0 <= high < 2**31


def test_uniform_is_splitmix64_as_published():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == published
    drawn = streams.uniform(torch.tensor([1234567, 0]), (4,))
    assert (drawn.double() * 2**24).long().tolist() == [n >> 40 for n in published]


@pytest.mark.parametrize("counter", range(5))
def test_uniform_equals_exact_integers_for_any_key(counter):
    key = streams.key(0, "dropout", counter)
    low, high = key.tolist()
    expected = [n >> 40 for n in splitmix64(low + (high << 31), 1000)]
    drawn = streams.uniform(key, (10, 100))
    assert drawn.dtype == torch.float32
    assert (drawn.double() * 2**24).long().flatten().tolist() == expected


def test_offset_gives_a_slice_of_the_larger_draw():
    key = streams.key(1, "dropout", 4)
    whole = streams.uniform(key, (12, 7))
    assert torch.equal(streams.uniform(key, (4, 7), offset=5 * 7), whole[5:9])
    assert torch.equal(streams.uniform(key, (4, 7), offset=torch.tensor(5 * 7)), whole[5:9])


def test_vmap_over_keys_and_offsets_equals_one_at_a_time():
    keys = torch.stack([streams.key(seed, "dropout", 3) for seed in range(6)])
    offsets = torch.arange(6) * 11
    together = torch.func.vmap(lambda k, o: streams.uniform(k, (3, 4), o))(keys, offsets)
    single = torch.stack([streams.uniform(k, (3, 4), int(o)) for k, o in zip(keys, offsets, strict=True)])
    assert torch.equal(together, single)


def test_draws_are_uniform():
    drawn = streams.uniform(streams.key(0, "dropout", 0), (200_000,)).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-4
    bits = (drawn * 2**24).long()
    for place in range(24):
        ones = float(((bits >> place) & 1).double().mean())
        assert abs(ones - 0.5) < 5 * 0.5 / 200_000**0.5, f"bit {place}"


@pytest.mark.parametrize("near", ["derived", "numbered"])
def test_neighbours_are_uncorrelated(near):
    """Keys of consecutive steps, raw keys that differ by one, and elements side by side."""
    make = {"derived": lambda i: streams.key(0, "dropout", i), "numbered": lambda i: torch.tensor([i, 0])}[near]
    draws = torch.stack([streams.uniform(make(i), (2000,)) for i in range(60)]).double() - 0.5
    limit = 5 / draws[1:].numel() ** 0.5
    assert abs(float((draws[1:] * draws[:-1]).mean() * 12)) < limit
    assert abs(float((draws[:, 1:] * draws[:, :-1]).mean() * 12)) < limit
    across = torch.corrcoef(draws) - torch.eye(60)
    assert across.abs().max() < 6 / 2000**0.5


def test_rows_of_a_long_draw_are_that_draws():
    key, rows = streams.key(4, "augment", 1), torch.tensor([5, 0, 2**40])
    drawn = streams.uniform_rows(key, rows, 7)
    for row, values in zip(rows, drawn, strict=True):
        assert torch.equal(values, streams.uniform(key, (7,), int(row) * 7))
    assert streams.uniform_rows(key, rows[:0], 7).shape == (0, 7)
