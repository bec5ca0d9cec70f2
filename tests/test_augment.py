"""Augmentation: torchvision on single images is the reference; draws depend on seed, epoch and position alone."""

import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from lenet_lab.blocks.streams import key
from lenet_lab.cell import load
from lenet_lab.config.compose import compose_cell
from lenet_lab.config.schema import parse
from lenet_lab.data.arrays import Split
from lenet_lab.data.augment import UNIT, Levels, NoAugmentation
from lenet_lab.data.augment.distortion import NUMBERS, Distortion
from lenet_lab.data.augment.warp import smooth
from lenet_lab.data.batches import order
from lenet_lab.data.module import TrainingChunks
from lenet_lab.engines import evaluate
from lenet_lab.records import LabError
from lenet_lab.train import execution_of, train

KEY = key(3, "augment", 0)
SIGNED = Levels(-1.0, 1.0, -1.0)
INVERTED = Levels(-0.5, 2.0, 2.0)  # ink dark: the ground is bright
EVERYTHING = Distortion(
    rotate=20, shift=0.1, scale=0.2, squeeze=0.2, shear=15, flip=0.5, alpha=20, brightness=0.3, contrast=0.3
)
EACH = {
    "rotate": Distortion(rotate=40),
    "shift": Distortion(shift=0.2),
    "shear": Distortion(shear=30),
    "scale": Distortion(scale=0.4),
    "all four": Distortion(rotate=30, shift=0.15, scale=0.3, shear=20),
}


def pictures(n, size=(28, 28), levels=UNIT):
    """Smooth blobs that reach the border, so that interior and border are both looked at."""
    noise = torch.rand(n, 1, *size, generator=torch.Generator().manual_seed(1))
    grey = smooth(noise, 1.5)
    grey = (grey - grey.amin()) / (grey.amax() - grey.amin())
    return levels.zero + (levels.one - levels.zero) * grey


FRAME = 28


def framed(image, ground):
    """With empty ground all round, so that the reference meets its own border nowhere.

    At the border torchvision multiplies by the share that lies inside twice, once too often: its blend with the fill
    darkens; see `_apply_grid_transform`.
    """
    return reference.pad(image, [FRAME] * 4, fill=ground)


def cropped(image):
    return image[..., FRAME:-FRAME, FRAME:-FRAME]


def places(n):
    return torch.arange(n) * 7 + 3


# each operation against torchvision, one image at a time


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("levels", [UNIT, INVERTED], ids=["unit", "inverted"])
def test_the_affine_warp_is_torchvisions(name, levels, mode):
    how = Distortion(**{**vars(EACH[name]), "interpolation": mode})
    images = pictures(12, levels=levels)
    ours, drawn = how.apply(images, KEY, places(12), levels), how.draw(KEY, places(12), (28, 28))
    for i, image in enumerate(images):
        theirs = reference.affine(
            framed(image, levels.ground),
            angle=math.degrees(drawn.angle[i]),
            translate=drawn.shift[i].tolist(),
            scale=float(drawn.wide[i]),
            shear=[math.degrees(math.atan(drawn.slant[i])), 0.0],
            interpolation=InterpolationMode(mode),
            fill=[levels.ground],
        )
        theirs = cropped(theirs)
        if mode == "bilinear":
            torch.testing.assert_close(ours[i], theirs, rtol=0, atol=2e-4)
        else:  # a pixel that lies between two may fall to either
            assert ((ours[i] - theirs).abs() > 1e-5).float().mean() < 0.005
    assert (ours - images).abs().amax(dim=(1, 2, 3)).median() > 0.3


def test_rotation_is_torchvisions_rotate_and_turns_about_the_centre():
    images = pictures(8)
    how = Distortion(rotate=60)
    ours, drawn = how.apply(images, KEY, places(8), UNIT), how.draw(KEY, places(8), (28, 28))
    for i, image in enumerate(images):
        degrees = -math.degrees(drawn.angle[i])
        theirs = reference.rotate(framed(image, 0.0), degrees, InterpolationMode.BILINEAR, fill=[0.0])
        torch.testing.assert_close(ours[i], cropped(theirs), rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", [(28, 28), (20, 32)])
def test_squeeze_and_all_else_is_pillows_affine_map(size):
    """Pillow takes the inverse map in pixels; it clamps at the border, so a frame is left out."""
    height, width = size
    how = Distortion(rotate=20, shift=0.1, scale=0.2, squeeze=0.3, shear=15)
    images = pictures(8, size)
    ours, drawn = how.apply(images, KEY, places(8), UNIT), how.draw(KEY, places(8), size)
    for i in range(8):
        cos, sin = math.cos(drawn.angle[i]), math.sin(drawn.angle[i])
        rotate = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
        shear = torch.tensor([[1, -float(drawn.slant[i])], [0, 1]], dtype=torch.float64)
        stretch = torch.diag(torch.tensor([float(drawn.wide[i]), float(drawn.high[i])], dtype=torch.float64))
        back = torch.linalg.inv(rotate @ shear @ stretch)
        centre = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        offset = centre - back @ (centre + drawn.shift[i].double())
        coefficients = torch.cat([back, offset[:, None]], 1).flatten().tolist()
        picture = Image.fromarray(images[i, 0].numpy())
        theirs = picture.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        theirs = torch.frombuffer(bytearray(theirs.tobytes()), dtype=torch.float32).view(height, width)
        inside = how.apply(torch.ones(8, 1, *size), KEY, places(8), UNIT)[i, 0] == 1
        assert 0.4 < inside.float().mean() < 1
        torch.testing.assert_close(ours[i, 0][inside], theirs[inside], rtol=0, atol=1e-3)
    squeezed = (drawn.wide / drawn.high).sqrt()
    assert squeezed.min() < 0.95
    assert squeezed.max() > 1.05


@pytest.mark.parametrize("sigma", [0.8, 4.0, 12.0])
def test_smoothing_is_scipys_gaussian_filter(sigma):
    noise = torch.rand(3, 2, 28, 20, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = ndimage.gaussian_filter(noise.numpy(), sigma, mode="constant", axes=(2, 3))
    torch.testing.assert_close(smooth(noise, sigma), torch.from_numpy(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [UNIT, INVERTED], ids=["unit", "inverted"])
def test_the_elastic_warp_is_torchvisions_with_the_same_displacement(levels):
    how, images = Distortion(alpha=34, sigma=4), pictures(10, levels=levels)
    ours, drawn = how.apply(images, KEY, places(10), levels), how.draw(KEY, places(10), (28, 28))
    for i, image in enumerate(images):
        field = ndimage.gaussian_filter(drawn.noise[i].numpy(), 4, mode="constant", axes=(1, 2)) * 34
        displacement = reference.pad(torch.from_numpy(field), [FRAME] * 4).movedim(0, -1)[None] * (2 / 84)
        theirs = reference.elastic_transform(
            framed(image, levels.ground), displacement, InterpolationMode.BILINEAR, [levels.ground]
        )
        torch.testing.assert_close(ours[i], cropped(theirs), rtol=0, atol=2e-4)
    assert (ours - images).abs().amax(dim=(1, 2, 3)).min() > 0.05


@pytest.mark.parametrize("levels", [UNIT, SIGNED, INVERTED], ids=["unit", "signed", "inverted"])
def test_colour_jitter_is_torchvisions_in_either_order(levels):
    how, images = Distortion(brightness=0.6, contrast=1.5), pictures(24, levels=levels)
    ours, drawn = how.apply(images, KEY, places(24), levels), how.draw(KEY, places(24), (28, 28))
    span = levels.one - levels.zero
    for i, image in enumerate((images - levels.zero) / span):
        steps = [
            (reference.adjust_brightness, float(drawn.brightness[i])),
            (reference.adjust_contrast, float(drawn.contrast[i])),
        ]
        theirs = image
        for step, factor in reversed(steps) if drawn.contrast_first[i] else steps:
            theirs = step(theirs, factor)
        torch.testing.assert_close(ours[i], theirs * span + levels.zero, rtol=0, atol=1e-5)
    assert 5 < drawn.contrast_first.sum() < 19
    low, high = sorted((levels.zero, levels.one))
    assert ours.min() >= low - 1e-5
    assert ours.max() <= high + 1e-5


def test_a_flip_is_torchvisions_and_exact():
    images = pictures(40)
    ours, flipped = (
        Distortion(flip=0.5).apply(images, KEY, places(40), UNIT),
        Distortion(flip=0.5).draw(KEY, places(40), (28, 28)).flip,
    )
    for i, image in enumerate(images):
        assert torch.equal(ours[i], reference.hflip(image) if flipped[i] else image)
    assert 8 < flipped.sum() < 32


# what is drawn


def test_draws_are_uniform_in_their_ranges_and_unrelated():
    how = Distortion(
        rotate=15, shift=0.1, scale=0.2, squeeze=0.3, shear=10, flip=0.25, alpha=1, brightness=0.2, contrast=1.5
    )
    n = 20000
    drawn = how.draw(KEY, torch.arange(n), (8, 10))
    grow = (drawn.wide * drawn.high).sqrt()
    uniform = {
        "angle": (drawn.angle.rad2deg(), -15, 15),
        "x": (drawn.shift[:, 0], -1, 1),
        "y": (drawn.shift[:, 1], -0.8, 0.8),
        "scale": (grow, 0.8, 1.2),
        "squeeze": (drawn.wide / grow, 0.7, 1.3),
        "shear": (drawn.slant.atan().rad2deg(), -10, 10),
        "brightness": (drawn.brightness, 0.8, 1.2),
        "contrast": (drawn.contrast, 0.0, 2.5),
        "noise x": (drawn.noise[:, 0, 3, 3], -1, 1),
        "noise y": (drawn.noise[:, 1, 3, 3], -1, 1),
        "noise beside": (drawn.noise[:, 1, 3, 4], -1, 1),
    }
    for name, (values, low, high) in uniform.items():
        assert stats.kstest(values.double(), stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
    assert float(drawn.flip.double().mean()) == pytest.approx(0.25, abs=0.02)
    assert float(drawn.contrast_first.double().mean()) == pytest.approx(0.5, abs=0.02)
    rows = [values for values, _, _ in uniform.values()] + [drawn.flip.float(), drawn.contrast_first.float()]
    correlation = torch.corrcoef(torch.stack(rows)).fill_diagonal_(0)
    assert correlation.abs().max() < 5 / math.sqrt(n)
    following = torch.corrcoef(torch.stack([drawn.angle[:-1], drawn.angle[1:]]))[0, 1]
    assert following.abs() < 5 / math.sqrt(n), "neighbours in the epoch's order"


def test_two_fields_come_out_of_one_draw_as_described():
    from lenet_lab.blocks.streams import uniform

    count = NUMBERS + 6
    drawn = Distortion(alpha=1).draw(KEY, torch.tensor([5]), (2, 3))
    bits = (uniform(KEY, (count,), 5 * count)[NUMBERS:].double() * 2**24).long().view(2, 3)
    expected = torch.stack([bits >> 12, bits & 4095]).double() / 2048 - 1 + 2**-12
    assert torch.equal(drawn.noise[0].double(), expected)


def test_another_epoch_or_seed_is_another_draw():
    images = pictures(6)
    seen = [
        EVERYTHING.apply(images, key(seed, "augment", epoch), places(6), UNIT)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for i in range(3):
        assert (seen[i] - seen[i - 1]).abs().amax(dim=(1, 2, 3)).min() > 0.05


# where a batch is cut does not matter


@pytest.mark.parametrize("how", [EVERYTHING, Distortion(alpha=34), Distortion(rotate=15, flip=0.5)])
def test_a_slice_of_a_batch_is_its_slice_of_the_distortions(how):
    """Bit for bit, whatever the neighbours: what a rank, a resumed run or another batch size sees."""
    images, where = pictures(300), places(300)
    whole = how.apply(images, KEY, where, UNIT)
    for part in (slice(0, 1), slice(5, 133), slice(131, 300), slice(299, 300)):
        assert torch.equal(how.apply(images[part], KEY, where[part], UNIT), whole[part])
    turned = torch.arange(299, -1, -1)
    assert torch.equal(how.apply(images[turned], KEY, where[turned], UNIT), whole[turned])


def test_the_images_are_left_as_they_were():
    images = pictures(5)
    before = images.clone()
    seen = EVERYTHING.apply(images, KEY, places(5), UNIT)
    assert torch.equal(images, before)
    assert (seen.shape, seen.dtype) == (images.shape, images.dtype)
    assert NoAugmentation().apply(images, KEY, places(5), UNIT) is images


def test_a_share_without_images_is_no_trouble():
    assert EVERYTHING.apply(pictures(5)[:0], KEY, places(5)[:0], UNIT).shape == (0, 1, 28, 28)


def test_replicas_under_vmap_see_what_each_sees_alone():
    images = torch.stack([pictures(6), pictures(6).flip(-2)])
    keys, where = torch.stack([KEY, key(9, "augment", 0)]), torch.stack([places(6), places(6) + 1])
    together = torch.func.vmap(lambda i, k, p: EVERYTHING.apply(i, k, p, UNIT))(images, keys, where)
    for r in range(2):
        torch.testing.assert_close(together[r], EVERYTHING.apply(images[r], keys[r], where[r], UNIT), rtol=0, atol=1e-5)


def feed(rank, world, epoch=0, how="shuffle", augment=EVERYTHING, batch_size=8, epochs=5):
    images = pictures(53)
    split = Split(images, torch.arange(53), torch.arange(53))
    chunks = TrainingChunks(
        split, batch_size, 4, rank, world, None, torch.contiguous_format, augment, UNIT, how, epochs
    )
    chunks.per_chunk = 3
    chunks.set_epoch(epoch)
    return [batch for chunk in chunks for batch in chunk.batches]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_what_one_process_sees(world):
    alone = feed(0, 1)
    shares = [feed(rank, world) for rank in range(world)]
    for number, whole in enumerate(alone):
        parts = [share[number] for share in shares]
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_positions_are_those_of_the_epochs_order():
    seen = torch.cat([batch.images for batch in feed(0, 1, epoch=2)])
    rows = order(53, 4, 2)
    assert torch.equal(seen, EVERYTHING.apply(pictures(53)[rows], key(4, "augment", 2), torch.arange(53), UNIT))


def test_the_last_epochs_see_the_images_as_they_are():
    augment = replace(EVERYTHING, clean_epochs=2)
    for epoch in range(5):
        seen = torch.cat([batch.images for batch in feed(0, 1, epoch, augment=augment)])
        assert torch.equal(seen, pictures(53)[order(53, 4, epoch)]) == (epoch >= 3)


def test_a_fixed_order_is_one_shuffled_order_with_new_distortions():
    fixed = [torch.cat([b.labels for b in feed(0, 1, epoch, "fixed")]) for epoch in range(3)]
    shuffled = [torch.cat([b.labels for b in feed(0, 1, epoch)]) for epoch in range(3)]
    assert torch.equal(fixed[0], order(53, 4, 0))
    assert torch.equal(fixed[0], fixed[1])
    assert torch.equal(fixed[0], fixed[2])
    assert not torch.equal(fixed[0], torch.arange(53))
    assert not torch.equal(shuffled[0], shuffled[1])
    one, two = (torch.cat([b.images for b in feed(0, 1, epoch, "fixed")]) for epoch in (0, 1))
    assert (one - two).abs().amax(dim=(1, 2, 3)).min() > 0.05


# in a run


def config_of(*words):
    return parse(compose_cell(["data=digits", "data.train_size=200", "trainer.threads=1", *words]).resolved)


class Killed(Exception):
    """Stands for the death of the process."""


@pytest.mark.parametrize("words", [("augment=elastic", "augment.alpha=20"), ("augment=affine", "order=fixed")])
def test_a_resumed_run_equals_an_uninterrupted_one(words, tmp_path):
    config = config_of(*words, "epochs=3")
    data, how = load(config.data), execution_of(config)

    def dies(values, step):
        if step > 1:
            raise Killed

    _, whole = train(config, data, how, None)
    with pytest.raises(Killed):
        train(config, data, how, tmp_path, sink=dies)
    _, resumed = train(config, data, how, tmp_path)
    assert resumed.resumed_from == 1
    assert all(torch.equal(value, resumed.last[name]) for name, value in whole.last.items())
    _, plain = train(config_of("epochs=3", *words[2:]), data, how, None)
    assert any(not torch.equal(value, plain.last[name]) for name, value in whole.last.items())


def test_evaluation_never_sees_it():
    """The validation figures of a run are those of its weights on the images as they are."""
    config = config_of("augment=rotate_shift", "epochs=1", "checkpoint=last")
    data = load(config.data)
    net, trained = train(config, data, execution_of(config), None)
    net.load_state_dict(trained.last)
    seen = evaluate(net, config.loss, data.val)
    assert trained.log_book[-1]["val/loss"] == pytest.approx(float(seen.losses.mean()), rel=1e-5)


@pytest.mark.parametrize(
    "word", ["augment.rotate=181", "augment.shift=-0.1", "augment.shift=2", "augment.interpolation=cubic"]
)
def test_what_is_out_of_range_is_refused_in_one_line(word):
    name, _, value = word.partition("=")
    with pytest.raises(LabError, match=rf"^{name}={value}: ") as error:
        config_of("augment=rotate_shift", word)
    assert "\n" not in str(error.value)
