"""Cascades: what the second stage trains on and what detections are made of, against a naive reading of the paper."""

import copy
import math
import pickle

import pytest
import torch
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detbalance import Recipe, Stage, attach, recipes
from detbalance.assigners import MaxIoUAssigner
from detbalance.detectors import build
from detbalance.detectors.backbone import with_fpn
from detbalance.detectors.cascade_rcnn import STAGES
from detbalance.losses import CrossEntropyLoss, SeesawLoss

TARGETS = [
    {"boxes": torch.tensor([[10.0, 10, 40, 44], [42, 20, 80, 56]]), "labels": torch.tensor([1, 2])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    {"boxes": torch.tensor([[30.0, 4, 90, 60]]), "labels": torch.tensor([3])},
]
IMAGES = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(3)]
CODES = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def detector(kind=FasterRCNN, **options):
    """torchvision's own class on a light backbone; with weights large enough that boxes move."""
    torch.manual_seed(0)
    backbone = with_fpn("nano", levels=(1, 2, 3, 4), out_channels=16, extra_blocks=LastLevelMaxPool())
    options = {"num_classes": 4, "min_size": 64, "max_size": 96, "rpn_post_nms_top_n_train": 60, **options}
    model = kind(backbone, rpn_post_nms_top_n_test=20, **options)
    torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=0.3)
    return model.train()


def everything(model):
    """Nothing is left out by sampling."""
    model.roi_heads.fg_bg_sampler = BalancedPositiveNegativeSampler(10_000, 1.0)
    return model


def run(model, targets=TARGETS, seed=3):
    torch.manual_seed(seed)
    return model(list(IMAGES), copy.deepcopy(targets))


def watched(model):
    """The table of samples of each head, filled by the next step."""
    seen = []
    for head in (model.roi_heads, *model.roi_heads.later):
        head.treatment.observers.append(lambda stage, samples, losses, rows: seen.append(samples))
    return seen


def decoded(code, box, weights):
    """Girshick et al. 2014, one box."""
    (x1, y1, x2, y2), (dx, dy, dw, dh) = box, (float(c) / w for c, w in zip(code, weights))
    width, height = x2 - x1, y2 - y1
    x, y = x1 + width / 2 + dx * width, y1 + height / 2 + dy * height
    width, height = (s * math.exp(min(float(d), math.log(1000 / 16))) for s, d in ((width, dw), (height, dh)))
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def clipped(box, width=96, height=64):
    return [min(max(float(v), 0), limit) for v, limit in zip(box, (width, height, width, height))]


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@pytest.mark.parametrize("kind", [FasterRCNN, MaskRCNN])
def test_one_stage_is_the_detector_itself(kind):
    targets = copy.deepcopy(TARGETS)
    for target in targets if kind is MaskRCNN else ():
        target["masks"] = torch.ones(len(target["boxes"]), 64, 96, dtype=torch.uint8)
    plain, treated = detector(kind), attach(detector(kind), Recipe(name="one", stages=(Stage(),)))
    losses = run(plain, targets)
    ours = run(treated, targets)
    assert ours.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(ours[name], loss, rtol=1e-6, atol=1e-6)
    assert list(plain.state_dict()) == list(treated.state_dict())


def test_first_stage_is_the_detector_itself():
    """What follows it changes nothing for it, and its parameters keep their names."""
    plain, treated = detector(), attach(detector(), Recipe(name="three", stages=(Stage(), Stage(), Stage())))
    losses, ours = run(plain), run(treated)
    for name, loss in losses.items():
        torch.testing.assert_close(ours[name], loss, rtol=1e-6, atol=1e-6)
    further = [f"loss_{kind}_{i}" for i in (2, 3) for kind in ("classifier", "box_reg")]
    assert list(ours) == ["loss_classifier", "loss_box_reg", *further, "loss_objectness", "loss_rpn_box_reg"]
    before, after = list(plain.state_dict()), list(treated.state_dict())
    assert [name for name in after if ".later." not in name] == before
    assert len(after) - len(before) == 2 * 8  # two heads of two layers, two predictors


@pytest.mark.parametrize("agnostic", [False, True])
def test_what_the_second_stage_trains_on(agnostic):
    """The first one's regressed boxes without its ground truths, these anew, a stricter threshold, a finer code."""
    if agnostic:
        model = everything(build("cascade_rcnn", classes=3, image_size=(64, 96)).train())
        for head in model.roi_heads.later:
            head.fg_bg_sampler = model.roi_heads.fg_bg_sampler
        model = attach(model, recipes.cascade("rcnn"))
    else:
        model = attach(everything(detector()), recipes.cascade("rcnn"))
    regressions = []
    for head in (model.roi_heads, *model.roi_heads.later):
        head.box_predictor.register_forward_hook(lambda m, x, output: regressions.append(output))
    seen = watched(model)
    run(model)
    assert len(seen) == 3
    for t in (1, 2):
        before, now = seen[t - 1], seen[t]
        logits, regression = (x.detach() for x in regressions[t - 1])
        for image, target in enumerate(TARGETS):
            truths = target["boxes"].tolist()
            expected = []
            for row in (before.image == image).nonzero().flatten().tolist():
                if before.boxes[row].tolist() in truths:
                    continue
                label = int(before.labels[row]) or 1 + int(logits[row, 1:].argmax())
                code = regression[row, 4 * label : 4 * label + 4]
                box = clipped(decoded(code, before.boxes[row].tolist(), CODES[t - 1]))
                if box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01:
                    expected.append(box)
            mine = now.image == image
            assert mine.sum() == len(expected) + len(truths)
            order = torch.tensor(expected + truths).double().reshape(-1, 4)
            torch.testing.assert_close(now.boxes[mine].double(), order, rtol=1e-4, atol=1e-3)
            for row in mine.nonzero().flatten().tolist():
                box = now.boxes[row].tolist()
                ious = [overlap(box, truth) for truth in truths]
                threshold = (0.6, 0.7)[t - 1]
                if any(abs(iou - threshold) < 1e-5 for iou in ious):
                    continue
                best = max(range(len(ious)), key=ious.__getitem__) if ious and max(ious) >= threshold else None
                assert int(now.labels[row]) == (0 if best is None else int(target["labels"][best]))
                if best is not None:
                    back = decoded(now.codes[row], box, CODES[t])
                    assert back == pytest.approx(truths[best], abs=1e-2)
    assert all(samples.positive.any() for samples in seen)


def test_detections_are_the_mean_of_all_classifiers_in_the_last_boxes():
    """Every box of every class, nothing suppressed, against the heads called one by one."""
    limits = {"box_score_thresh": 0.0, "box_nms_thresh": 1.0, "box_detections_per_img": 10_000}
    model = attach(detector(**limits), recipes.cascade("rcnn")).eval()
    heads = [model.roi_heads, *model.roi_heads.later]
    torch.manual_seed(5)
    for head in heads:
        torch.nn.init.normal_(head.box_predictor.cls_score.weight, std=0.3)
        torch.nn.init.normal_(head.box_predictor.bbox_pred.weight, std=0.3)
    seen = {}
    model.backbone.register_forward_hook(lambda m, x, output: seen.update(features=output))
    model.rpn.register_forward_hook(lambda m, x, output: seen.update(proposals=output[0]))
    with torch.no_grad():
        found = model([IMAGES[0]])[0]

        def outputs(head, boxes):
            return head.box_predictor(
                head.box_head(head.box_roi_pool(seen["features"], [torch.tensor(boxes)], [(64, 96)]))
            )

        boxes = seen["proposals"][0].tolist()
        for t in (0, 1):
            logits, regression = outputs(heads[t], boxes)
            labels = [1 + int(row[1:].argmax()) for row in logits]
            boxes = [clipped(decoded(r[4 * k : 4 * k + 4], b, CODES[t])) for r, k, b in zip(regression, labels, boxes)]
        logits, regressions = zip(*(outputs(head, boxes) for head in heads))
    expected = []
    for row, box in enumerate(boxes):
        for k in (1, 2, 3):
            score = sum(float(one[row].softmax(0)[k]) for one in logits) / 3
            final = clipped(decoded(regressions[2][row, 4 * k : 4 * k + 4], box, CODES[2]))
            if final[2] - final[0] >= 0.01 and final[3] - final[1] >= 0.01:
                expected.append((score, k, final))
    expected.sort(key=lambda entry: -entry[0])
    assert len(found["scores"]) == len(expected) > 30
    torch.testing.assert_close(found["scores"], torch.tensor([e[0] for e in expected]), rtol=1e-4, atol=1e-5)
    assert found["labels"].tolist() == [e[1] for e in expected]
    torch.testing.assert_close(found["boxes"], torch.tensor([e[2] for e in expected]), rtol=1e-3, atol=1e-2)
    assert not hasattr(model.roi_heads, "_pooled")


@pytest.mark.parametrize("kind", [MaskRCNN, KeypointRCNN])
def test_masks_and_keypoints_stay(kind):
    """They train on the first stage's proposals, as without a cascade, and are found in the last boxes."""
    targets, options = copy.deepcopy(TARGETS), {}
    for target in targets:
        count = len(target["boxes"])
        if kind is MaskRCNN:
            target["masks"] = torch.ones(count, 64, 96, dtype=torch.uint8)
        else:
            points = target["boxes"].reshape(count, 2, 2).mean(1, keepdim=True)
            target["keypoints"] = torch.cat((points, torch.ones(count, 1, 1)), 2)
            options = {"num_keypoints": 1}
    plain, model = (detector(kind, **options) for _ in range(2))
    losses, ours = run(plain, targets), run(attach(model, recipes.cascade("rcnn")), targets)
    name = "loss_mask" if kind is MaskRCNN else "loss_keypoint"
    torch.testing.assert_close(ours[name], losses[name])
    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = 0.0, 10
    with torch.no_grad():
        found = model.eval()(list(IMAGES))
    for image in found:
        assert len(image["boxes"])
        assert len(image["masks" if kind is MaskRCNN else "keypoints"]) == len(image["boxes"])


def test_weights_of_the_stages():
    plain = run(attach(detector(), Recipe(name="x", stages=(Stage(), Stage()))))
    half = run(attach(detector(), Recipe(name="x", stages=(Stage(), Stage(cls_weight=0.5, box_weight=0.25)))))
    torch.testing.assert_close(half["loss_classifier_2"], plain["loss_classifier_2"] / 2)
    torch.testing.assert_close(half["loss_box_reg_2"], plain["loss_box_reg_2"] / 4)
    torch.testing.assert_close(half["loss_classifier"], plain["loss_classifier"])


def test_each_stage_has_parts_of_its_own():
    loss = SeesawLoss()
    model = attach(detector(), Recipe(name="x", stages=(Stage(cls_loss=loss), Stage(cls_loss=loss), Stage(prior=0.3))))
    parts = [head.treatment.cls_loss for head in (model.roi_heads, *model.roi_heads.later)]
    assert len({id(part) for part in (loss, *parts)}) == 4
    scores = model.roi_heads.later[1].box_predictor.cls_score.bias.softmax(0)
    assert torch.allclose(scores, torch.tensor([0.7, 0.1, 0.1, 0.1]))
    assert all(loss.isfinite() for loss in run(model).values())


def test_one_stage_goes_into_all_of_a_cascade():
    model = attach(
        build("cascade_rcnn", classes=3, image_size=(64, 96)).train(),
        Recipe(name="x", stages=Stage(cls_loss=CrossEntropyLoss(softmax=True), cls_weight=2.0, score_threshold=0.2)),
    )
    heads = [model.roi_heads, *model.roi_heads.later]
    assert [h.treatment.assign.positive for h in heads] == [0.5, 0.6, 0.7]
    assert [h.treatment.cls_weight for h in heads] == [2.0, 1.0, 0.5]
    assert [h.treatment.box_weight for h in heads] == [1.0, 0.5, 0.25]
    assert [h.box_coder.weights for h in heads] == list(CODES)
    assert all(isinstance(h.treatment.cls_loss, CrossEntropyLoss) for h in heads)
    assert model.roi_heads.score_thresh == 0.2
    first, second = (h.box_predictor.cls_score.weight for h in heads[:2])
    assert not torch.equal(first, second)  # a detector of its own starts each head anew


def test_baseline_leaves_the_cascade_as_it_is():
    torch.manual_seed(0)
    plain = build("cascade_rcnn", classes=3, image_size=(64, 96)).train()
    treated = attach(copy.deepcopy(plain), recipes.baseline("rcnn"))
    assert list(plain.state_dict()) == list(treated.state_dict())
    losses, ours = run(plain), run(treated)
    for name, loss in losses.items():
        torch.testing.assert_close(ours[name], loss, rtol=1e-6, atol=1e-6)
    same = run(attach(copy.deepcopy(plain), Recipe(name="x", stages=STAGES)))
    torch.testing.assert_close(same["loss_box_reg_3"], losses["loss_box_reg_3"])


def test_no_objects_and_no_boxes_left():
    none = [TARGETS[1]] * 3
    model = attach(detector(), recipes.cascade("rcnn"))
    torch.nn.init.constant_(model.roi_heads.box_predictor.bbox_pred.bias, -1e3)  # everything leaves the image
    losses = run(model, none)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        assert len(model.eval()(list(IMAGES))) == 3


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_share_nothing(duplicate):
    model = attach(detector(), recipes.cascade("rcnn"))
    other, losses = duplicate(model), run(model)
    for p in model.parameters():
        p.data.zero_()
    ours = run(other)
    for name, loss in losses.items():
        torch.testing.assert_close(ours[name], loss)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"a cascade.*it has images"):
        attach(build("retinanet", classes=2), Recipe(name="x", stages=(Stage(), Stage())))
    with pytest.raises(ValueError, match="expected one Stage, or 3 as this cascade has, but got 2"):
        attach(build("cascade_rcnn", classes=2), Recipe(name="x", stages=(Stage(), Stage())))
    with pytest.raises(ValueError, match=r"stages=\(\)"):
        Recipe(name="x", stages=())
    with pytest.raises(ValueError, match="code_weights of four positive numbers"):
        Stage(code_weights=(1, 2, 3, 0))
    with pytest.raises(ValueError, match="code_weights"):
        attach(build("retinanet", classes=2), Recipe(name="x", stages=Stage(code_weights=(1, 1, 1, 1))))
    with pytest.raises(ValueError, match="'cascade'"):
        recipes.cascade("dense")
    assert MaxIoUAssigner in {type(stage.assign) for stage in recipes.cascade("rcnn").stages}
