"""Dynamic R-CNN: threshold and beta against algorithm 1 written out, over steps, checkpoints and processes."""

import copy
import statistics

import pytest
import torch
import torch.distributed as dist

from detbalance import Recipe, Stage, attach, recipes
from detbalance.assigners import DynamicAssigner, MaxIoUAssigner
from detbalance.boxes import box_iou
from detbalance.detectors import build
from detbalance.losses import DynamicSmoothL1Loss, SmoothL1Loss
from detbalance.types import Samples

TARGET = {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 80, 56]]), "labels": torch.tensor([1, 2])}
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}


def proposals(seed, count=40):
    """Boxes about the objects."""
    g = torch.Generator().manual_seed(seed)
    base = TARGET["boxes"][torch.randint(2, (count,), generator=g)]
    return base + 12 * torch.randn(count, 4, generator=g).clamp(-1, 1)


def table(seed, images=2, positives=30):
    """What trains in one step, in as much as is looked at."""
    g = torch.Generator().manual_seed(seed)
    codes = torch.randn(positives + 5, 4, generator=g) / 3
    labels = torch.cat((torch.ones(positives, dtype=torch.long), torch.zeros(5, dtype=torch.long)))
    image = torch.arange(len(labels)) % images
    nothing = torch.zeros(len(labels))
    return Samples(codes[:, :2], labels, codes, codes, codes, codes, nothing, image, image, nothing)


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_threshold_step_by_step():
    """Algorithm 1: the mean of each image's K-th best IoU over the last steps, not below where it starts."""
    assign, threshold, history = DynamicAssigner(initial=0.3, top=5, interval=3).double(), 0.3, []
    changed = set()
    for step in range(9):
        for image in range(2):
            boxes = proposals(10 * step + image, count=3 if step == 4 else 40).double()
            best = sorted((max(overlap(b, t) for t in TARGET["boxes"].tolist()) for b in boxes.tolist()), reverse=True)
            history.append(best[min(5, len(best)) - 1])
            matched = assign(boxes, TARGET)
            for box, row in zip(boxes.tolist(), matched.tolist()):
                ious = [overlap(box, t) for t in TARGET["boxes"].tolist()]
                assert row == (ious.index(max(ious)) if max(ious) >= threshold else -1)
        assign(proposals(step).double(), EMPTY)
        assign.after_step()
        if step % 3 == 2:
            threshold, history = max(0.3, statistics.mean(history)), []
            changed.add(round(threshold, 6))
        assert float(assign.threshold) == pytest.approx(threshold, rel=1e-9)
    assert len(changed) == 3
    assert min(changed) > 0.3


def test_threshold_never_falls_below_its_start_and_only_training_counts():
    assign = DynamicAssigner(initial=0.9, top=5, interval=1)
    assign(proposals(0), TARGET)
    assign.after_step()
    assert assign.threshold == 0.9
    assign = DynamicAssigner(interval=1).eval()
    assign(proposals(0), TARGET)
    assert assign.images == 0
    assign.after_step()  # nothing was recorded
    assert float(assign.threshold) == pytest.approx(0.4)


def test_before_the_first_change_it_is_a_plain_threshold():
    boxes = proposals(1)
    plain = MaxIoUAssigner(positive=0.4, negative=0.4, low_quality=False)
    assert torch.equal(DynamicAssigner()(boxes, TARGET), plain(boxes, TARGET))
    assert box_iou(boxes, TARGET["boxes"]).amax(1).min() < 0.4


def test_beta_step_by_step():
    """Algorithm 1: the median of each batch's K-th smallest error, not above where it starts."""
    loss, beta, history = DynamicSmoothL1Loss(initial=0.5, top=4, interval=4), 0.5, []
    for step in range(12):
        samples = table(step, images=3, positives=6 if step == 5 else 30)
        codes = samples.codes[samples.positive].tolist()
        errors = sorted((abs(c[0]) + abs(c[1])) / 2 for c in codes)
        history.append(errors[min(12, len(errors)) - 1])
        loss.after_step(samples)
        if step % 4 == 3:
            beta, history = min(0.5, statistics.median(history)), []
        assert float(loss.beta) == pytest.approx(beta, rel=1e-6)
    assert beta < 0.5


def test_beta_without_positives_and_with_perfect_boxes():
    loss = DynamicSmoothL1Loss(interval=2)
    for samples in (table(0, positives=0), table(1, positives=0)):
        loss.after_step(samples)
    assert loss.beta == 1
    perfect = table(2)
    perfect.codes.zero_()
    for _ in range(2):
        loss.after_step(perfect)
    assert loss.beta == 1  # a beta of 0 would divide by it


@pytest.mark.parametrize("beta", [1.0, 0.3, 1e-3])
def test_values_and_gradients_are_smooth_l1(beta):
    predicted = (3 * torch.randn(50, 4, dtype=torch.float64)).requires_grad_()
    target = torch.randn(50, 4, dtype=torch.float64)
    ours = DynamicSmoothL1Loss(initial=beta)(predicted, target)
    plain = SmoothL1Loss(beta=beta)(predicted, target)
    torch.testing.assert_close(ours, plain)
    for a, b in zip(torch.autograd.grad(ours.sum(), predicted), torch.autograd.grad(plain.sum(), predicted)):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(lambda x: DynamicSmoothL1Loss(initial=beta)(x, target), predicted)


def test_in_the_detector_and_through_a_checkpoint():
    """Both change at the same step, are saved, and go on from there."""
    images = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(2)]

    def model():
        torch.manual_seed(0)
        named = recipes.dynamic_rcnn("rcnn").stages
        stage = Stage(assign=type(named.assign)(interval=2), box_loss=type(named.box_loss)(interval=2, initial=50.0))
        return attach(build("faster_rcnn", classes=3, image_size=(64, 96)).train(), Recipe(name="x", stages=stage))

    first = model()
    treatment = first.roi_heads.treatment
    for step in range(3):
        first(images, [copy.deepcopy(TARGET), copy.deepcopy(EMPTY)])
        assert (treatment.box_loss.beta != 50) == (step > 0)
    assert treatment.assign.steps == treatment.box_loss.steps == 3
    assert treatment.assign.images == 1
    other = model()
    other.load_state_dict(first.state_dict())
    assert other.roi_heads.treatment.box_loss.beta == treatment.box_loss.beta
    first.eval()(images)
    assert treatment.assign.steps == 3


def work(rank):
    """Threshold and beta after some steps on the images and rows of one process; both, if there is but one."""
    alone = not dist.is_initialized()
    assign, loss = DynamicAssigner(top=5, interval=2, initial=0.1), DynamicSmoothL1Loss(top=4, interval=2)
    for step in range(4):
        for image in (0, 1) if alone else (rank,):
            assign(proposals(10 * step + image), TARGET)
        assign.after_step()
        loss.after_step(table(step, images=1))
    return torch.stack((assign.threshold, loss.beta))


def test_two_processes_equal_one(two_processes):
    first, second = two_processes(work)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, work(0))


@pytest.mark.parametrize("wrong", [{"top": 0}, {"interval": 0}, {"initial": -1.0}])
@pytest.mark.parametrize("method", [DynamicAssigner, DynamicSmoothL1Loss])
def test_refuses(method, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        method(**wrong)
