"""KL loss and variance voting: formulas and algorithm written out, alone and in the detector."""

import copy
import math

import pytest
import torch
from torchvision.ops import batched_nms

from detbalance import Recipe, Stage, attach, recipes
from detbalance.adapters.variance import CornerCoder
from detbalance.detectors import build
from detbalance.losses import KLLoss, SmoothL1Loss
from detbalance.suppressions import VarianceVoting

TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 80, 56]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
]
IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]


def model(recipe, detector="faster_rcnn"):
    torch.manual_seed(0)
    made = build(detector, classes=3, image_size=(64, 96)).train()
    torch.nn.init.normal_(made.roi_heads.box_predictor.bbox_pred.weight, std=0.1)
    return attach(made, recipe)


# ---- the loss -----------------------------------------------------------------------------------------------------


def test_loss_and_gradients_by_the_formula():
    torch.manual_seed(0)
    predicted, alpha = ((2 * torch.randn(30, 4, dtype=torch.float64)).requires_grad_() for _ in range(2))
    target = torch.randn(30, 4, dtype=torch.float64)
    loss = KLLoss()(predicted, target, alpha)
    found = torch.autograd.grad(loss.sum(), (predicted, alpha))
    for i in range(30):
        total = 0.0
        for j in range(4):
            d, a = float(predicted[i, j].detach() - target[i, j]), float(alpha[i, j].detach())
            distance, slope = (d * d / 2, d) if abs(d) <= 1 else (abs(d) - 0.5, math.copysign(1, d))
            total += math.exp(-a) * distance + a / 2
            assert float(found[0][i, j]) == pytest.approx(math.exp(-a) * slope)
            assert float(found[1][i, j]) == pytest.approx(0.5 - math.exp(-a) * distance)
        assert float(loss[i].detach()) == pytest.approx(total)


def test_variance_of_one_is_smooth_l1():
    predicted, target = 3 * torch.randn(20, 4), torch.randn(20, 4)
    torch.testing.assert_close(KLLoss()(predicted, target), SmoothL1Loss(beta=1.0)(predicted, target))
    torch.testing.assert_close(KLLoss()(predicted, target, torch.zeros(20, 4)), KLLoss()(predicted, target))


def test_best_variance_is_the_squared_error():
    """d loss / d alpha = 0 at sigma^2 = d^2: the deviation that is learnt is the error that is to be expected."""
    error = torch.tensor([[0.3, -0.7, 0.05, 1.0]], dtype=torch.float64)
    alpha = error.square().log().requires_grad_()
    (gradient,) = torch.autograd.grad(KLLoss()(error, 0 * error, alpha).sum(), alpha)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("value", [1e4, -1e4, 0.0])
def test_extremes_are_finite(dtype, value):
    alpha = torch.full((3, 4), value, dtype=dtype, requires_grad=True)
    predicted = torch.tensor([[1e4], [0.0], [-1e4]], dtype=dtype).expand(3, 4).clone().requires_grad_()
    loss = KLLoss()(predicted, torch.zeros(3, 4, dtype=dtype), alpha)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert predicted.grad.isfinite().all() or dtype == torch.float16  # e^20 is beyond float16
    assert alpha.grad.isfinite().all()


# ---- the voting ---------------------------------------------------------------------------------------------------


def detections(count=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * 30
    boxes = torch.cat((corner, corner + 20 + 15 * torch.rand(count, 2, generator=g)), 1)
    scores, labels = torch.rand(count, generator=g), torch.randint(1, 3, (count,), generator=g)
    return boxes, scores, labels, 0.2 + torch.rand(count, 4, generator=g)


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("sigma", [0.02, 0.5])
def test_voting_one_after_another(iou, sigma, voted):
    given = detections()
    expected = voted(*given, iou, sigma)
    boxes, rows = VarianceVoting(sigma=sigma)(*given, iou=iou, limit=100)
    assert rows.tolist() == [row for row, _ in expected]
    torch.testing.assert_close(boxes, torch.tensor([place for _, place in expected]), rtol=1e-5, atol=1e-4)
    fewer, first = VarianceVoting(sigma=sigma)(*given, iou=iou, limit=3)
    assert torch.equal(first, rows[:3])
    torch.testing.assert_close(fewer, boxes[:3])


def test_towards_no_votes_it_is_plain_suppression():
    boxes, scores, labels, deviations = detections()
    found, rows = VarianceVoting(sigma=1e-9)(boxes, scores, labels, deviations, iou=0.5, limit=100)
    assert torch.equal(rows, batched_nms(boxes, scores, labels, 0.5))
    torch.testing.assert_close(found, boxes[rows])


def test_nothing_and_boxes_without_area():
    boxes, scores, labels, deviations = detections(0)
    found, rows = VarianceVoting()(boxes, scores, labels, deviations, iou=0.5, limit=10)
    assert found.shape == (0, 4)
    assert rows.shape == (0,)
    flat = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5]])
    found, _ = VarianceVoting()(flat, scores.new_ones(2), labels.new_ones(2), torch.zeros(2, 4), iou=0.5, limit=10)
    assert found.isfinite().all()


def test_refuses():
    with pytest.raises(ValueError, match="sigma"):
        VarianceVoting(sigma=0)
    boxes, scores, labels, _ = detections()
    with pytest.raises(TypeError, match="deviations"):
        VarianceVoting()(boxes, scores, labels, None, iou=0.5, limit=10)
    with pytest.raises(ValueError, match="KLLoss"):
        model(Recipe(name="x", stages=Stage(suppress=VarianceVoting())))
    with pytest.raises(ValueError, match="a variance for box_loss"):
        attach(build("yolov2", classes=2), Recipe(name="x", stages=Stage(box_loss=KLLoss())))
    for stage, message in ((Stage(box_loss=KLLoss()), "a variance"), (Stage(suppress=VarianceVoting()), "suppress")):
        with pytest.raises(ValueError, match=message):
            attach(build("faster_rcnn", classes=2), Recipe(name="x", proposals=stage))


# ---- in the detector ----------------------------------------------------------------------------------------------


def test_code_of_corners():
    coder = CornerCoder((10.0, 20.0, 10.0, 5.0))
    proposals = torch.tensor([[0.0, 10, 40, 30], [5, 5, 10, 25]])
    truth = torch.tensor([[4.0, 8, 42, 30], [5, 5, 9, 20]])
    code = coder.encode([truth], [proposals])[0]
    torch.testing.assert_close(code[0], torch.tensor([10 * 4 / 40, 20 * -2 / 20, 10 * 2 / 40, 0.0]))
    torch.testing.assert_close(coder.decode(code, [proposals])[:, 0], truth)
    torch.testing.assert_close(coder.decode(code.repeat(1, 3), [proposals])[:, 2], truth)


def test_training_step_by_the_formula():
    """Each positive's loss from what the head predicts, averaged as torchvision's over the sampled rows."""
    detector = model(recipes.kl_loss("rcnn"))
    layer = detector.roi_heads.log_variance
    assert 0 < layer.weight.std() < 3e-4
    assert not layer.bias.any()
    layer.bias.data.uniform_(-1, 1)
    seen, inputs = [], []
    detector.roi_heads.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(samples))
    detector.roi_heads.box_predictor.register_forward_hook(lambda m, x, output: inputs.append((x[0], output[1])))
    losses = detector(IMAGES, copy.deepcopy(TARGETS))
    (samples,), ((x, regression),) = seen, inputs
    alphas, total = torch.nn.functional.linear(x, layer.weight, layer.bias), 0.0
    for row in samples.positive.nonzero().flatten().tolist():
        at = 4 * int(samples.labels[row])
        box, truth = samples.boxes[row].tolist(), samples.truth[row].tolist()
        sizes = 2 * [box[2] - box[0], box[3] - box[1]]
        for k in range(4):
            d = abs(float(regression[row, at + k].detach()) - 10 * (truth[k] - box[k]) / sizes[k])
            alpha = float(alphas[row, at + k].detach())
            total += math.exp(-alpha) * (d * d / 2 if d <= 1 else d - 0.5) + alpha / 2
    assert float(losses["loss_box_reg"].detach()) == pytest.approx(total / len(samples.labels), rel=1e-4)
    sum(losses.values()).backward()
    assert layer.weight.grad.any()


def test_detections_are_voted_with_deviations_in_pixels(voted):
    recipe = Recipe(name="x", stages=Stage(box_loss=KLLoss(), suppress=VarianceVoting(), score_threshold=0.05))
    detector = model(recipe).eval()
    heads, seen = detector.roi_heads, {}
    heads.log_variance.bias.data.uniform_(-2, 2)
    heads.box_predictor.register_forward_hook(lambda m, x, output: seen.update(x=x[0], out=output))
    heads.box_roi_pool.register_forward_hook(lambda m, x, output: seen.update(proposals=x[1][0]))
    with torch.no_grad():
        found = detector(IMAGES[:1])[0]
        (logits, regression), alphas = seen["out"], heads.log_variance(seen["x"])
    scores, boxes, deviations, labels = [], [], [], []
    for row, proposal in enumerate(seen["proposals"].tolist()):
        sizes = 2 * [proposal[2] - proposal[0], proposal[3] - proposal[1]]
        for k in (1, 2, 3):
            code, alpha = regression[row, 4 * k : 4 * k + 4].tolist(), alphas[row, 4 * k : 4 * k + 4].tolist()
            box = [p + c / 10 * s for p, c, s in zip(proposal, code, sizes)]
            box = [min(max(v, 0), limit) for v, limit in zip(box, (96, 64, 96, 64))]
            score = float(logits[row].softmax(0)[k])
            if score > 0.05 and min(box[2] - box[0], box[3] - box[1]) > 0.01:
                boxes.append(box)
                scores.append(score)
                labels.append(k)
                deviations.append([math.exp(a / 2) / 10 * s for a, s in zip(alpha, sizes)])
    expected = voted(torch.tensor(boxes), scores, labels, torch.tensor(deviations), 0.5, 0.02)[:100]
    assert len(expected) > 5
    assert found["labels"].tolist() == [labels[row] for row, _ in expected]
    torch.testing.assert_close(found["boxes"], torch.tensor([p for _, p in expected]), rtol=1e-3, atol=2e-2)
    assert not hasattr(heads, "_seen")


def test_suppression_that_votes_for_nothing_is_torchvisions():
    class Plain(VarianceVoting):
        needs_deviations = False

        def __call__(self, boxes, scores, labels, deviations, *, iou, limit):
            rows = batched_nms(boxes, scores, labels, iou)[:limit]
            return boxes[rows], rows

    plain, ours = model(recipes.baseline("rcnn")).eval(), model(Recipe(name="x", stages=Stage(suppress=Plain()))).eval()
    with torch.no_grad():
        for one, other in zip(plain(IMAGES), ours(IMAGES)):
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_in_a_cascade():
    detector = model(recipes.kl_loss("rcnn"), "cascade_rcnn")
    losses = detector(IMAGES, copy.deepcopy(TARGETS))
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)
    assert all(head.log_variance is not None for head in (detector.roi_heads, *detector.roi_heads.later))
    with torch.no_grad():
        assert all(found["boxes"].isfinite().all() for found in detector.eval()(IMAGES))
