"""The native augmentation against plain NumPy, and each transform's own rule."""

from __future__ import annotations

import cnnext as cx
import numpy as np
import pytest
from cnnext import _C, data
from cnnext.data.prepare import prepared
from cnnext.train.segmentation import Canvases

RGB = np.random.default_rng(1).random((6, 3, 9, 7), dtype=np.float32)
LUMA = np.array([0.299, 0.587, 0.114])


def gen(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def reference(images, affine, size, bilinear):
    """Pixel by pixel, in float64."""
    n, channels, height, width = images.shape
    result = np.zeros((n, channels, *size))

    def at(i, row, column):
        inside = 0 <= row < height and 0 <= column < width
        return images[i, :, row, column].astype(np.float64) if inside else np.zeros(channels)

    for i, p, q in np.ndindex(n, *size):
        y, x = affine[i] @ (p, q, 1)
        if not bilinear:
            result[i, :, p, q] = at(i, int(np.floor(y + 0.5)), int(np.floor(x + 0.5)))
            continue
        row, column = int(np.floor(y)), int(np.floor(x))
        for r, c in np.ndindex(2, 2):
            share = abs(1 - r - (y - row)) * abs(1 - c - (x - column))
            result[i, :, p, q] += share * at(i, row + r, column + c)
    return result


@pytest.mark.parametrize("bilinear", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_maps(bilinear, dtype, channels):
    images = gen().integers(0, 256, (4, channels, 6, 5)).astype(dtype)
    affine = gen(1).normal(0, 0.5, (4, 2, 3)) + np.eye(2, 3)
    affine[:, :, 2] *= 3
    found = prepared(images, affine=affine, size=(7, 8), bilinear=bilinear, scale=0.5)
    assert (found.shape, found.dtype) == ((4, channels, 7, 8), np.float32)
    np.testing.assert_allclose(found, reference(images, affine, (7, 8), bilinear) / 2, atol=2e-5 * 255)
    assert (found != 0).any()


@pytest.mark.parametrize("direction", [1, -1])
def test_maps_of_whole_pixels(direction):
    """Flips and crops, which are copied row by row: to all sides of the picture and beyond."""
    images = gen().random((1, 2, 4, 5), dtype=np.float32)
    for top, left in np.ndindex(13, 15):
        affine = np.array([[[1, 0, top - 6], [0, direction, left - 7 + (direction < 0) * 4]]], float)
        found = prepared(images, affine=affine, size=(3, 6), bilinear=False, scale=0.5)
        np.testing.assert_array_equal(found, reference(images, affine, (3, 6), False) / 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("bilinear", [True, False])
def test_maps_that_lead_anywhere(value, bilinear):
    affine = np.tile(np.eye(2, 3), (6, 1, 1))
    affine[:, 1, 2] = value
    assert not prepared(RGB, affine=affine, bilinear=bilinear).any()


@pytest.mark.parametrize("shared", [True, False])
def test_colours(shared):
    pair = gen().normal(size=(1 if shared else 6, 3, 2)).astype(np.float32)
    expected = RGB * pair[:, :, 0, None, None] + pair[:, :, 1, None, None]
    np.testing.assert_allclose(prepared(RGB, color=pair), expected, atol=1e-6)
    matrix = gen().normal(size=(1 if shared else 6, 3, 4)).astype(np.float32)
    matrices = np.broadcast_to(matrix, (6, 3, 4))
    expected = np.einsum("nkc,nchw->nkhw", matrices[..., :3], RGB) + matrices[..., 3, None, None]
    np.testing.assert_allclose(prepared(RGB, color=matrix), expected, atol=1e-5)
    np.testing.assert_allclose(prepared(RGB, color=matrix, clamp=True), expected.clip(0, 1), atol=1e-5)


def test_rectangles():
    erase = np.array(
        [[[0, 0, 9, 7], [0, 0, 0, 0]], [[2, 3, 4, 2], [8, 6, 1, 1]], [[9, 7, 0, 0], [1, 0, 1, 7]]]
    )
    found = prepared(RGB[:3], erase=erase, erase_value=np.array([0.1, 0.2, 0.3]))
    expected = RGB[:3].copy()
    for i, rectangles in enumerate(erase):
        for top, left, height, width in rectangles:
            expected[i, :, top : top + height, left : left + width] = np.reshape([0.1, 0.2, 0.3], (3, 1, 1))
    np.testing.assert_array_equal(found, expected.astype(np.float32))


EYE = np.tile(np.eye(2, 3), (6, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"affine": EYE[:5]}, ValueError, r"affine has shape \(5, 2, 3\); it must be \(6, 2, 3\)"),
        ({"size": (3, 3)}, ValueError, "y's size is 3x3, x's 9x7; without affine"),
        ({"affine": EYE, "size": (-1, 3)}, ValueError, "height and width are -1 and 3"),
        ({"affine": EYE, "size": (2**40, 2**40)}, ValueError, r"height \* width"),
        ({"color": np.zeros((2, 3, 2))}, ValueError, r"color has shape \(2, 3, 2\)"),
        ({"color": np.zeros((6, 3, 3))}, ValueError, r"color has shape \(6, 3, 3\)"),
        ({"erase": np.zeros((6, 4))}, ValueError, r"erase has shape \(6, 4\); it must be \(6, R, 4\)"),
        (
            {"erase": np.full((6, 1, 4), [0, 1, 9, 7])},
            ValueError,
            r"erase\[0\] is 9x7 at \(0, 1\); it must lie",
        ),
        ({"erase": np.full((6, 1, 4), [-(2**63), 0, 1, 1])}, ValueError, r"erase\[0\] is 1x1 at \(-9"),
        ({"erase": np.full((6, 1, 4), [1, 0, 2**63 - 1, 1])}, ValueError, "it must lie inside 9x7"),
        ({"erase_value": np.zeros(2)}, ValueError, r"erase_value has shape \(2,\); it must be \(3,\)"),
        ({"scale": np.inf}, ValueError, "scale is inf"),
    ],
)
def test_what_does_not_fit(arguments, error, message):
    with pytest.raises(error, match=message):
        prepared(RGB, **arguments)


def test_kinds_that_do_not_fit():
    plain = (None, None, None, None, 0, 0, True, False, 1.0)
    with pytest.raises(TypeError, match="x has dtype float64; it must be uint8 or float32"):
        _C.augment(RGB.astype(np.float64), *plain)
    with pytest.raises(ValueError, match=r"images has shape \(3, 9, 7\)"):
        prepared(RGB[0])
    with pytest.raises(TypeError, match="partner has dtype float32; it must be int64"):
        _C.mix_images(RGB, np.zeros(6, np.float32), np.zeros(6, np.float32))
    for partner in (-1, 6):
        with pytest.raises(ValueError, match=rf"partner\[2\] is {partner}; it must lie between 0 and 5"):
            _C.mix_images(RGB, np.array([0, 1, partner, 0, 0, 0]), np.zeros(6, np.float32))


TRANSFORMS = [
    data.RandomCrop((6, 5), 2),
    data.RandomAffine(20, 2, (0.8, 1.2)),
    data.RandomRotation(15),
    data.RandomHorizontalFlip(),
    data.ColorJitter(0.4, 0.4, 0.4, 0.1),
    data.RandomGrayscale(0.5),
    data.RandomErasing(0.8, value=(0.1, 0.2, 0.3)),
    data.Cutout(4, 0.5),
    data.Normalize((0.4, 0.5, 0.6), 0.25),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda transform: type(transform).__name__)
def test_every_transform(transform):
    """Any strides and threads give the same bits, in a new array; uint8 is 0..255; a batch may be empty."""
    images = gen(3).random((9, 3, 33, 65), dtype=np.float32)
    before = images.copy()
    result = transform(images, gen())
    np.testing.assert_array_equal(images, before)
    assert result.dtype == np.float32
    assert not np.shares_memory(result, images)
    assert not np.array_equal(result, images)
    for threads in (1, 3):
        cx.set_num_threads(threads)
        np.testing.assert_array_equal(transform(images, gen()), result)
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(transform(last, gen()), result)
    backwards = np.ascontiguousarray(images[:, :, ::-1, ::-1])[:, :, ::-1, ::-1]
    np.testing.assert_array_equal(transform(backwards, gen()), result)
    pixels = (images * 255).astype(np.uint8)
    np.testing.assert_allclose(
        transform(pixels, gen()), transform(pixels / np.float32(255), gen()), atol=2e-6
    )
    assert len(transform(images[:0], gen())) == 0
    eval(repr(transform), vars(data))  # the configuration, as Python would take it


def test_the_loader_uses_them_in_its_threads():
    images = data.ImageSet(
        (RGB * 255).astype(np.uint8), np.arange(6), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)
    )
    transform = data.Compose(TRANSFORMS[:-1])
    how = {"shuffle": True, "transform": transform, "batch_transform": data.MixUp(0.4, num_classes=10)}
    for (a, p), (b, q) in zip(
        data.DataLoader(images, 4, **how), data.DataLoader(images, 4, num_workers=2, **how), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(p, q)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)


def about_centre(angle, factor=None, shift=None):
    """The maps for RGB's size, image by image: output to input."""
    affine = np.zeros((6, 2, 3))
    for i, a in enumerate(angle):
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        turn = turn if factor is None else turn / factor[i]
        moved = (4, 3) if shift is None else (4, 3) + shift[:, i]
        affine[i] = np.column_stack([turn, (4, 3) - turn @ moved])
    return affine


def test_affine_and_rotation_are_what_numpy_computes():
    rng = gen(4)
    angle = np.deg2rad(rng.uniform(-30, 30, 6))
    affine = about_centre(angle, rng.uniform(0.7, 1.4, 6), rng.uniform(-2, 2, (2, 6)))
    found = data.RandomAffine(30, 2, (0.7, 1.4))(RGB, gen(4))
    np.testing.assert_allclose(found, reference(RGB, affine, (9, 7), True), atol=1e-5)
    affine = about_centre(np.deg2rad(gen(5).uniform(-10, 30, 6)))
    found = data.RandomRotation((-10, 30))(RGB, gen(5))
    np.testing.assert_allclose(found, reference(RGB, affine, (9, 7), True), atol=1e-5)


# ---- colour ----


def grey(images):
    return np.einsum("c,nchw->nhw", LUMA, images)


def jitter(images=RGB, seed=0, **how):
    """What ColorJitter gives, and what it drew."""
    rng = gen(seed)
    names = ("brightness", "contrast", "saturation")
    drawn = [rng.uniform(1 - how.get(name, 0), 1 + how.get(name, 0), len(images)) for name in names]
    turn = rng.uniform(-how.get("hue", 0), how.get("hue", 0), len(images))
    column = (slice(None), None, None, None)
    return data.ColorJitter(**how)(images, gen(seed)), *(value[column] for value in drawn), turn


def test_contrast_is_about_the_mean_grey():
    found, _, contrast, _, _ = jitter(contrast=0.8)
    mean = grey(RGB).mean((1, 2))[:, None, None, None]
    np.testing.assert_allclose(found, ((RGB - mean) * contrast + mean).clip(0, 1), atol=1e-5)


def test_saturation_is_about_the_pixels_grey():
    found, _, _, saturation, _ = jitter(saturation=0.9)
    own = grey(RGB)[:, None]
    np.testing.assert_allclose(found, ((RGB - own) * saturation + own).clip(0, 1), atol=1e-5)


def test_all_four_are_one_after_another():
    muted = RGB * 0.2 + 0.4  # so that nothing reaches 0 or 1
    found, bright, contrast, saturation, turn = jitter(
        muted, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1
    )
    images = muted * bright
    mean = grey(images).mean((1, 2))[:, None, None, None]
    images = (images - mean) * contrast + mean
    images = (images - grey(images)[:, None]) * saturation + grey(images)[:, None]
    # Luma stays; chroma (I, Q) as a complex number is turned.
    np.testing.assert_allclose(grey(found), grey(images), atol=1e-4)
    iq = np.array([0.5959 + 0.2115j, -0.2746 - 0.5227j, -0.3213 + 0.3112j])
    before, after = (np.einsum("c,nchw->nhw", iq, pixels) for pixels in (images, found))
    np.testing.assert_allclose(after, before * np.exp(2j * np.pi * turn)[:, None, None], atol=1e-4)


def test_hue_keeps_greys():
    greys = np.repeat(RGB[:, :1], 3, axis=1)
    np.testing.assert_allclose(data.ColorJitter(hue=0.5)(greys, gen()), greys, atol=1e-5)


def test_one_channel_has_no_colour():
    one = RGB[:, :1]
    np.testing.assert_array_equal(data.ColorJitter(0, 0, 0.5, 0.5)(one, gen()), one)
    np.testing.assert_array_equal(data.RandomGrayscale(1.0)(one, gen()), one)
    for transform in (data.ColorJitter(hue=0.1), data.RandomGrayscale()):
        with pytest.raises(ValueError, match="images have 2 channels"):
            transform(RGB[:, :2], gen())


def test_grayscale():
    found = data.RandomGrayscale(0.5)(RGB, gen())
    chosen = gen().random(6) < 0.5
    assert 0 < chosen.sum() < 6
    np.testing.assert_allclose(found[chosen], np.repeat(grey(RGB)[chosen, None], 3, 1), atol=1e-6)
    np.testing.assert_array_equal(found[~chosen], RGB[~chosen])


def test_normalize():
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 1.0, 2.0])
    expected = (RGB - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    np.testing.assert_allclose(data.Normalize(tuple(mean), tuple(std))(RGB), expected, atol=1e-6)
    np.testing.assert_allclose(data.Normalize(0.5, 0.25)(RGB), (RGB - 0.5) / 0.25, atol=1e-6)


# ---- parts ----


def test_erasing_fills_rectangles_of_the_asked_size():
    images = np.ones((400, 2, 20, 30), np.float32)
    found = data.RandomErasing(0.5, (0.1, 0.2), (0.5, 2.0), value=(0.0, 0.5))(images, gen())
    hit = (found != 1).any((1, 2, 3))
    assert 150 < hit.sum() < 250
    for image in found[hit]:
        rows, columns = np.nonzero(image[0] != 1)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width  # one whole rectangle
        assert 0.08 < height * width / 600 < 0.23
        assert 0.4 < height / width < 2.4
        assert np.unique(image[1]).tolist() == [0.5, 1.0]
    assert len({tuple(np.argwhere(image[0] != 1)[0]) for image in found[hit]}) > 50


def test_cutout_is_cut_off_at_the_border():
    images = np.ones((500, 1, 6, 8), np.float32)
    holes = 1 - data.Cutout(3)(images, gen())[:, 0]
    places = {tuple(np.argwhere(hole)[[0, -1]].ravel()) for hole in holes}
    assert places == {
        (max(r - 1, 0), max(c - 1, 0), min(r + 1, 5), min(c + 1, 7)) for r in range(6) for c in range(8)
    }


# ---- mixup ----


def test_mixup_blends_images_and_labels_alike():
    labels = np.array([0, 3, 1, 2, 2, 3])
    images, soft = data.MixUp(1.0, num_classes=4)(RGB, labels, gen(1))
    rng = gen(1)
    partner, share = rng.permutation(6), rng.beta(1.0, 1.0, 6)
    column = share[:, None, None, None]
    np.testing.assert_allclose(images, column * RGB + (1 - column) * RGB[partner], atol=1e-6)
    expected = share[:, None] * np.eye(4)[labels] + (1 - share[:, None]) * np.eye(4)[labels[partner]]
    np.testing.assert_allclose(soft, expected, atol=1e-6)
    assert soft.dtype == images.dtype == np.float32
    loss = cx.nn.functional.cross_entropy(cx.Tensor(np.zeros((6, 4), np.float32)), cx.Tensor(soft))
    assert loss.item() == pytest.approx(np.log(4))
    with pytest.raises(ValueError, match=r"labels span 0\.\.3; the rule is 0\.\.2"):
        data.MixUp(num_classes=3)(RGB, labels, gen())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.RandomRotation(-1), "degrees is -1"),
        (lambda: data.RandomRotation((3, 2)), r"degrees is \(3, 2\)"),
        (lambda: data.RandomRotation(np.nan), "degrees is nan"),
        (lambda: data.RandomRotation((-np.inf, 2)), "degrees is -inf"),
        (lambda: data.RandomAffine(degrees=np.nan), "degrees is nan; the rule is a finite degrees >= 0"),
        (lambda: data.RandomAffine(translate=np.inf), "translate is inf"),
        (lambda: data.RandomAffine(translate=-1), "translate is -1"),
        (lambda: data.RandomAffine(scale=(0.5, np.inf)), "scale is inf"),
        (lambda: data.RandomAffine(scale=(0.0, 1.0)), r"scale is \(0\.0, 1\.0\)"),
        (lambda: data.RandomCrop(0), "size is 0"),
        (lambda: data.RandomCrop((2, 3, 4)), r"size is \(2, 3, 4\)"),
        (lambda: data.RandomCrop(2, -1), "padding is -1"),
        (lambda: data.RandomTranslate(-1), "pixels is -1"),
        (lambda: data.RandomHorizontalFlip(np.nan), "p is nan; the rule is 0 <= p <= 1"),
        (lambda: data.ColorJitter(brightness=np.inf), "brightness is inf"),
        (lambda: data.Normalize(np.nan, 1.0), "mean is nan"),
        (lambda: data.Normalize((), 1.0), "mean is "),
        (lambda: data.Normalize(0, (1.0, np.inf)), "std is"),
        (lambda: data.RandomErasing(ratio=(1, np.inf)), "ratio is inf"),
        (lambda: data.RandomErasing(value=np.nan), "value is nan"),
        (lambda: data.Cutout(3, value=[[1.0]]), "value is"),
        (lambda: data.MixUp(num_classes=3)(RGB, np.zeros(5, int), gen()), r"the rule is \(6,\)"),
        (lambda: data.ColorJitter(hue=0.6), "hue is 0.6; the rule is 0 <= hue <= 0.5"),
        (lambda: data.ColorJitter(saturation=-1), "saturation is -1"),
        (lambda: data.RandomGrayscale(2), "p is 2"),
        (lambda: data.Normalize(0, 0), "std is 0"),
        (lambda: data.Normalize((1, 2), 1)(RGB), r"mean is \(1, 2\); the rule is one number, or 3"),
        (lambda: data.RandomErasing(scale=(0.5, 0.1)), "scale is"),
        (lambda: data.RandomErasing(ratio=(0, 1)), "ratio is"),
        (lambda: data.RandomErasing(1.0, value=(1, 2))(RGB, gen()), r"value is \(1, 2\)"),
        (lambda: data.Cutout(0), "size is 0"),
        (lambda: data.MixUp(0, num_classes=3), "alpha is 0"),
        (lambda: data.MixUp(np.inf, num_classes=3), "alpha is inf; the rule is a finite alpha > 0"),
        (lambda: data.MixUp(np.nan, num_classes=3), "alpha is nan"),
        (lambda: data.MixUp(num_classes=0), "num_classes is 0"),
        (lambda: data.MixUp(num_classes=3)(RGB, np.eye(6, dtype=int), gen()), r"labels have shape \(6, 6\)"),
        (lambda: data.ImageSet(RGB, np.arange(6), mean=(1.0, 2.0)), "mean is"),
        (lambda: data.ImageSet(RGB, np.arange(6), std=0.0), "std is 0"),
        (lambda: data.ImageSet(RGB, np.arange(6), class_names=("a",)), "class_names has 1 names"),
        (lambda: data.ImageSet(RGB, np.arange(6), mean=np.nan), "mean is nan"),
        (lambda: data.ImageSet(RGB, np.arange(6), std=np.inf), "std is inf"),
        (lambda: data.ImageSet(RGB, np.arange(6), max_value=0.0), "max_value is 0.0; the rule is a finite n"),
        (lambda: data.ImageSet(RGB, np.arange(6), max_value=np.nan), "max_value is nan"),
        (lambda: data.ImageSet(RGB[:0], np.arange(0), classes=0), "classes is 0; the rule is classes >= 1"),
        (lambda: Canvases(RGB, np.zeros((6, 9, 7), int), mean=np.inf), "mean is inf"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.RandomRotation("9"), "degrees is '9'"),
        (lambda: data.RandomRotation(True), "degrees is True"),
        (
            lambda: data.RandomAffine(scale=0.5),
            "scale is 0.5; the rule is 0 < smallest <= largest, two numbers",
        ),
        (lambda: data.RandomAffine(scale=(1, 1, 1)), r"scale is \(1, 1, 1\)"),
        (lambda: data.RandomCrop(2.5), "size is 2.5; the rule is an integer"),
        (lambda: data.RandomTranslate(1.5), "pixels is 1.5"),
        (lambda: data.RandomHorizontalFlip(None), "p is None"),
        (lambda: data.ColorJitter("much"), "brightness is 'much'"),
        (lambda: data.Normalize("0", 1), "mean is '0'"),
        (lambda: data.RandomErasing(value=None), "value is None"),
        (lambda: data.Cutout(True), "size is True"),
        (lambda: data.Compose([data.RandomHorizontalFlip, 3]), r"transforms\[1\] is 3"),
        (lambda: data.MixUp("1", num_classes=3), "alpha is '1'"),
        (lambda: data.MixUp(num_classes=3.0), r"num_classes is 3\.0"),
        (lambda: data.MixUp(num_classes=3)(RGB, np.zeros(6), gen()), "labels have dtype float64"),
        (lambda: data.DataLoader(RGB, 2), "dataset is ndarray"),
        (lambda: data.DataLoader(data.digits(), 2.0), "batch_size is 2.0"),
        (lambda: data.DataLoader(data.digits(), True), "batch_size is True"),
        (lambda: data.DataLoader(data.digits(), transform=3), "transform is 3"),
    ],
)
def test_arguments_of_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("transform", [*TRANSFORMS, data.RandomTranslate(1)], ids=lambda t: type(t).__name__)
def test_images_that_are_none(transform):
    for images, error, message in (
        (RGB[0], ValueError, r"images has shape \(3, 9, 7\)"),
        (RGB.tolist(), TypeError, "images is list"),
        (RGB.astype(complex), TypeError, "images has dtype complex128"),
        (RGB.astype(object), TypeError, "images has dtype object"),
    ):
        with pytest.raises(error, match=message):
            transform(images, gen())
