"""The order of the training images: a function of seed and epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from lenet_lab.blocks.streams import generator


def order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation of `n` training images in one epoch: int64 (n,), from the stream `order`.

    A fixed order is that of epoch 0 throughout.
    """
    return torch.randperm(n, generator=generator(seed, "order", epoch))


def chunks(permutation: Tensor, batch_size: int, batches_per_chunk: int) -> list[Tensor]:
    """`permutation` (n,) cut into consecutive pieces of `batches_per_chunk` batches.

    Returns index tensors of batch_size * batches_per_chunk rows; the last may be shorter, its last batch too.
    """
    return list(permutation.split(batch_size * batches_per_chunk))
