"""Size, inversion and normalisation against torchvision and arithmetic by hand; the training order."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.transforms import functional as functional_v1
from torchvision.transforms import v2

from lenet_lab.data import Data, inputs
from lenet_lab.data.batches import chunks, order

MOMENTS = (0.1307, 0.3081)


@pytest.fixture
def images():
    return torch.randint(0, 256, (20, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seen(images, **keys):
    return Data(name="mnist", val_size=0, **keys).inputs(images, MOMENTS)


@pytest.mark.parametrize(("how", "mean", "std"), [("unit", 0.0, 1.0), ("standard", *MOMENTS), ("symmetric", 0.5, 0.5)])
def test_normalisation_is_torchvisions_bit_for_bit(images, how, mean, std):
    scaled = torch.stack([functional_v1.to_tensor(image[0].numpy()) for image in images])
    expected = functional_v1.normalize(scaled, [mean], [std])
    found = seen(images, normalize=how)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.equal(found, expected)


def test_noise_inverts_its_share_of_the_pixels_by_seed_and_index(images):
    index = torch.arange(100, 120)
    noisy = inputs.noise(images, index, 0.1, seed=3)
    changed = noisy != images
    assert torch.equal(noisy[changed], 255 - images[changed])
    assert changed.float().mean() == pytest.approx(0.1, abs=4 * (0.09 / images.numel()) ** 0.5)
    alone = inputs.noise(images[7:9], index[7:9], 0.1, seed=3)
    assert torch.equal(alone, noisy[7:9]), "an image's noise does not depend on its neighbours"
    assert not torch.equal(inputs.noise(images, index, 0.1, seed=4), noisy)
    assert inputs.noise(images, index, 0.0, seed=3) is images


def test_the_papers_input_scale():
    """LeCun et al. 1998, section II.B: background -0.1, foreground 1.175."""
    corners = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    found = inputs.normalize(corners, "lecun1998", *MOMENTS).flatten().tolist()
    assert found == pytest.approx([-0.1, 1.175])


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("how", ["unit", "standard", "symmetric", "lecun1998"])
def test_padding_is_background(images, how, invert):
    """The border has the value that a background pixel of the image itself has, inverted or not."""
    images[:, :, 0, 0] = 0
    found = seen(images, size=32, normalize=how, invert=invert)
    assert found.shape == (20, 1, 32, 32)
    background = found[0, 0, 2, 2]
    border = torch.ones(32, 32, dtype=torch.bool)
    border[2:30, 2:30] = False
    assert (found[:, 0, border] == background).all()
    assert torch.equal(found[:, :, 2:30, 2:30], seen(images, normalize=how, invert=invert))


def test_resizing_is_torchvisions(images):
    expected = v2.functional.resize(images.float(), [32, 32], v2.InterpolationMode.BILINEAR) / 255
    assert torch.allclose(seen(images, size=32, fit="resize", normalize="unit"), expected, atol=1e-6)


def test_inversion(images):
    dark = seen(images, normalize="unit", invert=True)
    assert torch.allclose(dark, 1 - seen(images, normalize="unit"), atol=1e-6)
    standard = seen(images, normalize="standard", invert=True)
    assert torch.allclose(standard, -seen(images, normalize="standard"), atol=1e-5)


def test_the_source_is_left_alone(images):
    before = images.clone()
    for how in ("unit", "standard", "symmetric", "lecun1998"):
        seen(images, normalize=how, invert=True, size=32)
        inputs.normalize(images.float(), how, *MOMENTS)
    assert torch.equal(images, before)


def test_enlarged_digits_are_bilinear():
    """Against the library's interpolation of the same grey values; rounding costs half a grey level."""
    from lenet_lab.data.digits import enlarge

    small = np.random.RandomState(0).randint(0, 17, (50, 8, 8))
    grey = torch.from_numpy(small * 255 / 16)[:, None]
    expected = functional.interpolate(grey, size=(28, 28), mode="bilinear", align_corners=False)[:, 0]
    found = enlarge(small)
    assert found.dtype == np.uint8
    assert (torch.from_numpy(found) - expected).abs().max() <= 0.5 + 1e-9
    assert enlarge(np.full((1, 8, 8), 16)).min() == 255


def test_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = order(1000, seed=3, epoch=2)
    assert first.dtype == torch.int64
    assert torch.equal(first.sort().values, torch.arange(1000))
    torch.manual_seed(1)
    assert torch.equal(order(1000, seed=3, epoch=2), first)
    assert not torch.equal(order(1000, seed=3, epoch=3), first)
    assert not torch.equal(order(1000, seed=4, epoch=2), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_chunks_cut_the_permutation():
    permutation = order(103, seed=0, epoch=0)
    pieces = chunks(permutation, batch_size=8, batches_per_chunk=4)
    assert [len(piece) for piece in pieces] == [32, 32, 32, 7]
    assert torch.equal(torch.cat(pieces), permutation)
