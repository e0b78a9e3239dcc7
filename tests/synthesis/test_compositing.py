"""Compositing against a loop over pixels, forward and gradient; windows."""

import math

import pytest
import torch

from detbalance.synthesis._compositing import Placement, composite, feathered, window

G = torch.Generator().manual_seed(0)
IMAGE = torch.rand(3, 11, 14, dtype=torch.float64, generator=G)
PIXELS = torch.rand(3, 7, 6, dtype=torch.float64, generator=G)
MASKS = torch.rand(2, 7, 6, dtype=torch.float64, generator=G)
CENTRE = (2.5, 3.0)
SETTINGS = {
    "as it is": (7.0, 5.0, 1.0, 0.0, 1.0, (0.0, 0.0, 0.0)),
    "turned, larger, another colour": (6.3, 5.2, 1.7, 0.4, 0.8, (0.05, -0.1, 0.02)),
    "at the edge, smaller": (0.4, 10.2, 0.6, -0.5, 1.4, (0.0, 0.1, 0.0)),
    "outside": (90.0, 5.0, 1.0, 0.0, 1.0, (0.0, 0.0, 0.0)),
}


def placement(x, y, *rest):
    *numbers, colour = rest
    as_tensor = [torch.tensor(v, dtype=torch.float64) for v in numbers]
    return Placement(torch.tensor([x, y], dtype=torch.float64), *as_tensor, torch.tensor(colour, dtype=torch.float64))


def by_pixel(image, pixels, masks, centre, where):
    """The formulas, pixel by pixel."""
    _, high, wide = pixels.shape
    mean = [sum((pixels[c] * masks[0]).flatten()) / masks[0].sum() for c in range(3)]
    made, moved = image.clone(), torch.zeros(len(masks), *image.shape[-2:], dtype=image.dtype)
    cos, sin = math.cos(where.angle), math.sin(where.angle)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            dx, dy = x + 0.5 - where.centre[0], y + 0.5 - where.centre[1]
            u = (cos * dx + sin * dy) / where.scale + centre[0] - 0.5
            v = (-sin * dx + cos * dy) / where.scale + centre[1] - 0.5
            read, alphas = [0.0] * 3, [0.0] * len(masks)
            for j in (math.floor(v), math.floor(v) + 1):
                for i in (math.floor(u), math.floor(u) + 1):
                    if 0 <= j < high and 0 <= i < wide:
                        share = (1 - abs(u - i)) * (1 - abs(v - j))
                        for m in range(len(masks)):
                            alphas[m] = alphas[m] + share * masks[m, j, i]
                        for c in range(3):
                            colour = mean[c] + where.colour[c] + where.contrast * (pixels[c, j, i] - mean[c])
                            read[c] = read[c] + share * masks[0, j, i] * min(max(float(colour), 0.0), 1.0)
            for m in range(len(masks)):
                moved[m, y, x] = alphas[m]
            for c in range(3):
                made[c, y, x] = (1 - alphas[0]) * image[c, y, x] + read[c]
    return made, moved


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_pixel_by_pixel(settings):
    where = placement(*settings)
    made, moved = composite(IMAGE, PIXELS, MASKS, CENTRE, where)
    expected, masks = by_pixel(IMAGE, PIXELS, MASKS, CENTRE, where)
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved, masks, rtol=1e-9, atol=1e-9)
    if settings[0] > 14:
        assert made.equal(IMAGE)


def test_as_it_is_at_whole_pixels_it_is_copied():
    where = placement(2.5 + 3, 3.0 + 2, 1.0, 0.0, 1.0, (0.0, 0.0, 0.0))
    made, _ = composite(IMAGE, PIXELS, torch.ones(1, 7, 6, dtype=torch.float64), CENTRE, where)
    torch.testing.assert_close(made[:, 2:9, 3:9], PIXELS)
    torch.testing.assert_close(made[:, :2], IMAGE[:, :2])
    torch.testing.assert_close(made[:, :, 9:], IMAGE[:, :, 9:])


def test_gradient_in_every_decision():
    def made(centre, scale, angle, contrast, colour):
        return composite(IMAGE, PIXELS * 0.4 + 0.3, MASKS, CENTRE, Placement(centre, scale, angle, contrast, colour))

    where = placement(*SETTINGS["turned, larger, another colour"])
    decisions = [getattr(where, n).requires_grad_() for n in ("centre", "scale", "angle", "contrast", "colour")]
    assert torch.autograd.gradcheck(made, decisions)
    for gradient in torch.autograd.grad(made(*decisions)[0].square().sum(), decisions):
        assert gradient.abs().min() > 0


def test_feathered():
    mask = torch.zeros(5, 6)
    mask[1:4, 2:5] = 1
    soft = feathered(mask)
    assert soft[2, 3] == 1
    torch.testing.assert_close(soft[0, 1], torch.tensor(1 / 9))
    torch.testing.assert_close(soft[2, 1], torch.tensor(1 / 3))
    assert soft.shape == mask.shape


def test_window():
    image = torch.rand(3, 12, 20, dtype=torch.float64, generator=G)
    torch.testing.assert_close(window(image, torch.tensor([4.0, 2, 10, 8]), 6, 1.0), image[:, 2:8, 4:10])
    torch.testing.assert_close(window(image, torch.tensor([6.0, 4, 8, 6]), 6, 3.0), image[:, 2:8, 4:10])
    beyond = window(image, torch.tensor([0.0, 0, 4, 4]), 8, 2.0)
    torch.testing.assert_close(beyond[:, 2:, 2:], image[:, :6, :6])
    torch.testing.assert_close(beyond[:, 0, 2:], image[:, 0, :6])
