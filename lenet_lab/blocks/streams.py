"""Randomness as an argument: every draw is a function of the run's seed, a stream's name and counters.

The streams are `init`, `order`, `augment`, `dropout` and `curvature`; the global generator of torch is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

_HALF = (1 << 31) - 1
# SplitMix64's constants, as the negative int64 numbers of the same 64 bits; products wrap round modulo 2^64.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def derive(seed: int, stream: str, *counters: int | str) -> int:
    """A non-negative 63-bit integer, stable for ever: BLAKE2b over the words, separated by zero bytes.

    A counter is a step, an epoch, an index or a parameter's name.
    """
    words = "\0".join(str(word) for word in (seed, stream, *counters))
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, stream: str, *counters: int | str) -> torch.Generator:
    """A CPU generator seeded by `derive`, for draws that happen once (weights, permutations)."""
    return torch.Generator().manual_seed(derive(seed, stream, *counters))


def key(seed: int, stream: str, *counters: int | str) -> Tensor:
    """The two 31-bit halves of a derived number: int64 of shape (2,) on the CPU, the key of `uniform`."""
    return torch.tensor(halves(seed, stream, *counters), dtype=torch.int64)


def halves(seed: int, stream: str, *counters: int | str) -> tuple[int, int]:
    """The two 31-bit halves of a derived number, the low one first."""
    number = derive(seed, stream, *counters)
    return number & _HALF, (number >> 31) & _HALF


def uniform(key: Tensor, shape: Sequence[int], offset: int | Tensor = 0) -> Tensor:
    """Numbers in [0, 1) that depend on `key` and the element's row-major index alone: SplitMix64.

    Element `i` is the top 24 bits of output `i + offset` of the generator whose state is the key's 62 bits.
    Every key starts somewhere in the one cycle of 2^64 states, so the draws of two keys overlap with a
    probability of the order of their sizes over 2^62.
    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, doi
    10.1145/2660193.2660195; constants of its `mix64variant13`, as in S. Vigna's splitmix64.c.

    Args:
        key: int64 tensor of shape (2,), two numbers in [0, 2^31), the low half first.
        shape: shape of the result.
        offset: added to every element's index, so that a slice of a larger draw can be made by itself.

    Returns float32 of `shape` on the key's device, multiples of 2^-24, the same numbers on every device.
    Pure: no host synchronisation, and `torch.func.vmap` may batch `key` and `offset`.
    """
    low, high = key.unbind()
    state = torch.add(low, high, alpha=1 << 31)
    if isinstance(offset, Tensor) or offset:
        state = torch.add(state, offset, alpha=_GAMMA)
    index = torch.arange(1, math.prod(shape) + 1, device=key.device)
    return _mixed(torch.add(state, index, alpha=_GAMMA)).view(tuple(shape))


def uniform_rows(key: Tensor, rows: Tensor, width: int) -> Tensor:
    """Rows of one long draw, by number: row r is `uniform(key, (width,), r * width)`.

    `rows` is int64 (n,) on the key's device; returns float32 (n, width). Pure, as `uniform`.
    """
    low, high = key.unbind()
    starts = torch.add(torch.add(low, high, alpha=1 << 31), rows * width, alpha=_GAMMA)
    index = torch.arange(1, width + 1, device=key.device)
    return _mixed(torch.add(starts[:, None], index, alpha=_GAMMA))


def _mixed(bits: Tensor) -> Tensor:
    """The generator's outputs for states `bits`, which are overwritten, as numbers in [0, 1)."""
    bits.bitwise_xor_(_shift(bits, 30)).mul_(_MIX_1)
    bits.bitwise_xor_(_shift(bits, 27)).mul_(_MIX_2)
    # The generator's last step, bits ^= bits >> 31, does not reach the 24 highest bits.
    return _shift(bits, 40).to(torch.float32).mul_(2.0**-24)


def _shift(bits: Tensor, places: int) -> Tensor:
    """The logical right shift: torch's keeps the sign, so the copies of it are masked off."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)
