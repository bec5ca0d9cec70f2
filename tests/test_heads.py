"""Radial outputs and their codes: the formulas written as loops, the bitmaps, codes from images."""

import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image

from lenet_lab.blocks.codes import HEIGHT, NEAREST, WIDTH, codes_for, digits, from_folder, hamming, nearest
from lenet_lab.blocks.head import GaussianHead, RbfHead
from lenet_lab.blocks.init import Init
from lenet_lab.cell import build, make_ready
from lenet_lab.config.compose import compose_cell
from lenet_lab.objectives import MeanSquaredError
from lenet_lab.records import LabError


def inputs(n=3, features=84):
    return torch.randn(n, features, generator=torch.Generator().manual_seed(2))


# outputs


@pytest.mark.parametrize("trainable", [False, True])
def test_distances_are_the_sum_of_squares(trainable):
    head, x, codes = RbfHead(trainable=trainable).build(84, 10), inputs(), digits().tolist()
    expected = [[sum((a - b) ** 2 for a, b in zip(row, code, strict=True)) for code in codes] for row in x.tolist()]
    torch.testing.assert_close(head(x), torch.tensor(expected))
    torch.testing.assert_close(head(digits()).diagonal(), torch.zeros(10))
    assert torch.equal(head(digits()), 4.0 * hamming(digits())), "four times the bits between two codes"


def test_fixed_codes_are_no_parameters_and_travel_with_the_weights():
    fixed, trained = RbfHead().build(84, 10), RbfHead(trainable=True).build(84, 10)
    assert not list(fixed.parameters())
    assert sum(p.numel() for p in trained.parameters()) == 840
    assert torch.equal(fixed.state_dict()["weight"], digits())
    Init("he_normal").apply(trained, seed=0)
    assert torch.equal(trained.weight.detach(), digits()), "an initialisation rule leaves codes alone"


def test_gaussians_are_their_formula_over_centres_from_a_standard_normal():
    head, x = GaussianHead().build(3, 4).requires_grad_(False), inputs(5, 3)
    Init("default").apply(head, seed=7)
    for row, values in zip(x.tolist(), head(x).tolist(), strict=True):
        for centre, value in zip(head.weight.tolist(), values, strict=True):
            d = math.dist(row, centre)
            assert value == pytest.approx(math.exp(-d * d / 2), rel=1e-5)
    big = GaussianHead().build(84, 100).requires_grad_(False)
    Init("default").apply(big, seed=0)
    assert abs(float(big.weight.mean())) < 5 / math.sqrt(8400)
    assert float(big.weight.std()) == pytest.approx(1, abs=0.03)
    Init("xavier_uniform").apply(big, seed=1)
    assert float(big.weight.max()) > 3, "whatever the rule for weights"


def test_gaussians_learn_once_the_start_is_near():
    """With 84 features they start on a plateau; with 4 they learn like any other unit."""
    head = GaussianHead().build(4, 3)
    Init("default").apply(head, seed=0)
    x, targets, objective = torch.eye(4)[:3] * 2, torch.arange(3), MeanSquaredError()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        objective.loss(head(x), targets).mean().backward()
        optimizer.step()
    assert objective.predict(head(x)).tolist() == [0, 1, 2]
    assert float(objective.loss(head(x), targets).detach().mean()) < 0.01
    start = GaussianHead().build(84, 10).requires_grad_(False)
    Init("default").apply(start, seed=0)
    assert float(start(torch.zeros(1, 84)).max()) < 1e-9


# the bitmaps


def test_digits_are_as_far_apart_as_stated():
    codes = digits()
    assert codes.shape == (10, WIDTH * HEIGHT) == (10, 84)
    assert codes.unique().tolist() == [-1, 1]
    pairs = {(a, b): sum(x != y for x, y in zip(codes[a], codes[b], strict=True)) for a in range(10) for b in range(a)}
    assert int(min(pairs.values())) == nearest(codes) == NEAREST == 30
    assert torch.equal(hamming(codes), hamming(codes).T)
    assert "30 apart" in RbfHead().build(84, 10).extra_repr()


def test_every_digit_is_one_stroke_that_fills_its_box():
    """Connected by sides or corners, and as tall and wide as the box: a pixel lost in editing shows here."""
    for digit, code in enumerate(digits().reshape(10, HEIGHT, WIDTH)):
        ink = {(int(y), int(x)) for y, x in (code > 0).nonzero()}
        rows, columns = zip(*ink, strict=True)
        assert (min(rows), max(rows), min(columns)) == (0, HEIGHT - 1, 0), digit
        assert max(columns) == WIDTH - 1, digit
        reached, todo = set(), [min(ink)]
        while todo:
            y, x = todo.pop()
            reached.add((y, x))
            around = {(y + dy, x + dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2)}
            todo += list((around & ink) - reached)
        assert reached == ink, digit


@pytest.mark.parametrize(
    ("classes", "bits", "message"),
    [
        (10, 100, r"head\.codes=null: .* 84 pixels, the last hidden layer 100 units; allowed: "),
        (12, 84, r"head\.codes=null: .* 12 classes; allowed: a folder"),
    ],
)
def test_digits_that_do_not_fit_are_refused(classes, bits, message):
    with pytest.raises(LabError, match=message):
        codes_for(None, classes, bits)
    assert torch.equal(codes_for(None, 4, 84), digits()[:4])


# a folder of images


def save(path, code, ink=(0, 127, 128, 255), width=7):
    grey = np.where(code.reshape(-1, width) > 0, ink[3], ink[0]).astype(np.uint8)
    grey.flat[0] = ink[2] if code.flatten()[0] > 0 else ink[1]
    Image.fromarray(grey).save(path)


def test_codes_from_a_folder_are_its_images_in_the_order_of_their_numbers(tmp_path):
    codes = torch.cat([digits(), -digits()[:2]])
    for number, code in enumerate(codes):
        save(tmp_path / f"class {number}.{['png', 'bmp', 'gif'][number % 3]}", code)
    (tmp_path / "README.txt").write_text("no image")
    (tmp_path / "sub").mkdir()
    assert torch.equal(from_folder(tmp_path, 12, 84), codes)


def test_codes_take_any_mode_and_shape_of_as_many_pixels(tmp_path):
    for number, code in enumerate(digits()[:3]):
        save(tmp_path / f"{number}.png", code, width=12)
        with Image.open(tmp_path / f"{number}.png") as image:
            image.convert("RGB").save(tmp_path / f"{number}.png")
    assert torch.equal(from_folder(tmp_path, 3, 84), digits()[:3])


def folder_with(path, what):
    if what != "missing":
        path.mkdir()
    names = {"empty": 0, "missing": 0, "nine": 9}.get(what, 10)
    for number in range(names):
        save(path / f"{number}.png", digits()[number])
    if what == "size":
        Image.new("L", (8, 12)).save(path / "3.png")
    elif what == "huge":  # refused by the size in its header: nothing is decoded
        Image.new("1", (4000, 4000)).save(path / "3.png")
    elif what == "text":
        (path / "3.png").write_text("not an image")
    elif what == "cut":
        content = (path / "3.png").read_bytes()
        (path / "3.png").write_bytes(content[: len(content) // 2])
    elif what == "twice":
        save(path / "3.png", digits()[8])


@pytest.mark.parametrize(
    ("what", "fragments"),
    [
        ("missing", ["no such folder", "allowed: a folder"]),
        ("empty", ["no images", "allowed: 10"]),
        ("nine", ["9 images", "allowed: 10"]),
        ("size", ["3.png", "8x12 pixels", "allowed: 84"]),
        ("huge", ["3.png", "4000x4000 pixels", "allowed: 84"]),
        ("text", ["3.png", "no image that can be read"]),
        ("cut", ["3.png", "no image that can be read"]),
        ("twice", ["3.png", "8.png", "same code"]),
    ],
)
def test_a_folder_that_gives_no_codes_is_refused_in_one_line(what, fragments, tmp_path):
    folder_with(tmp_path / "codes", what)
    words = ["data=digits", "head=rbf_fixed", "loss=map", f"head.codes={tmp_path / 'codes'}"]
    with pytest.raises(LabError) as refusal:
        make_ready(compose_cell(words))
    said = str(refusal.value)
    assert "\n" not in said
    assert said.startswith("head.codes")
    assert not [fragment for fragment in fragments if fragment not in said], said


def test_a_network_takes_codes_from_a_folder(tmp_path):
    for number, code in enumerate(digits()):
        save(tmp_path / f"{number}.png", -code)
    ready = make_ready(compose_cell(["data=digits", "head=rbf_trainable", "loss=rbf_mse", f"head.codes={tmp_path}"]))
    assert torch.equal(build(ready.config).get_parameter("head.weight").detach(), -digits())
