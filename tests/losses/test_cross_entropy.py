"""CrossEntropyLoss against sums over the elements."""

import math

import torch

from detbalance.losses import CrossEntropyLoss


def test_sigmoid_equals_the_formula():
    logits = torch.linspace(-6, 6, 12, dtype=torch.float64).reshape(3, 4)
    target = torch.eye(3, 4, dtype=torch.float64)
    expected = [
        [-math.log(1 / (1 + math.exp(-x if t else x))) for x, t in zip(*pair)]
        for pair in zip(logits.tolist(), target.tolist())
    ]
    torch.testing.assert_close(CrossEntropyLoss()(logits, target), torch.tensor(expected, dtype=torch.float64))


def test_softmax_equals_torch_on_labels():
    logits = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(9) % 4
    loss = CrossEntropyLoss(softmax=True)
    target = torch.nn.functional.one_hot(labels, 4).double()
    torch.testing.assert_close(
        loss(logits, target), torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    )
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)
