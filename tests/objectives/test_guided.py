import pytest
import torch

from detbalance.objectives import GuidedLoss, SelfBalancing, UncertaintyWeighting

PAIRS = [
    ("classification", "bbox_regression"),
    ("loss_classifier", "loss_box_reg"),
    ("loss_objectness", "loss_rpn_box_reg"),
]


@pytest.mark.parametrize(("cls", "reg"), PAIRS)
def test_equation_24(cls, reg):
    """The value is w L_reg; the gradient that of the class loss times w L_reg / L_cls, none reaches the box loss."""
    x = torch.tensor([3.0, 0.5], dtype=torch.float64, requires_grad=True)
    losses = {cls: x[0] ** 2, reg: x[1] ** 2, "loss_mask": x.sum()}
    guided = GuidedLoss(weight=2.0)(losses)
    assert guided[cls].item() == pytest.approx(2 * 0.25)
    assert guided[reg] is losses[reg]
    assert guided["loss_mask"] is losses["loss_mask"]
    (gradient,) = torch.autograd.grad(guided[cls], x)
    torch.testing.assert_close(gradient, torch.tensor([2 * 0.25 / 9 * 6, 0], dtype=torch.float64))


def test_each_head_has_its_own_guide():
    losses = {name: torch.tensor(float(i + 1)) for i, name in enumerate(name for pair in PAIRS for name in pair)}
    guided = GuidedLoss()(losses)
    assert [guided[cls].item() for cls, _ in PAIRS] == [2.0, 4.0, 6.0]
    assert list(guided) == list(losses)


def test_without_a_guide_a_loss_passes():
    assert GuidedLoss()({"classification": torch.tensor(5.0)}) == {"classification": torch.tensor(5.0)}


def test_no_objects_teach_nothing():
    x = torch.tensor(4.0, requires_grad=True)
    guided = GuidedLoss()({"classification": x, "bbox_regression": 0 * x})
    assert guided["classification"] == 0
    guided["classification"].backward()
    assert x.grad == 0


def test_a_class_loss_of_zero():
    x = torch.tensor(0.0, requires_grad=True)
    guided = GuidedLoss()({"classification": x, "bbox_regression": torch.tensor(3.0)})
    guided["classification"].backward()
    assert guided["classification"] == 0
    assert x.grad.isfinite()


@pytest.mark.parametrize("weight", [0, -1, float("inf")])
def test_refuses(weight):
    with pytest.raises(ValueError, match="weight"):
        GuidedLoss(weight=weight)


def test_the_stages_of_a_cascade_are_guided_one_by_one():
    losses = {name: torch.tensor(float(i + 1)) for i, name in enumerate(name for pair in PAIRS[1:] for name in pair)}
    losses |= {"loss_classifier_2": torch.tensor(9.0), "loss_box_reg_2": torch.tensor(7.0)}
    guided = GuidedLoss()(losses)
    assert guided["loss_classifier"] == losses["loss_box_reg"]
    assert guided["loss_classifier_2"] == losses["loss_box_reg_2"]
    assert SelfBalancing()(losses)["loss_box_reg_2"] == 9
    plain, cascade = (UncertaintyWeighting()({name: torch.tensor(8.0)}) for name in ("loss_box_reg", "loss_box_reg_2"))
    assert plain["loss_box_reg"] == cascade["loss_box_reg_2"]
    assert plain["regularisation"] == cascade["regularisation"] != 0
