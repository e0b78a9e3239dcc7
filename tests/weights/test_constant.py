import pytest

from detbalance.weights import ConstantWeights


def test_row_by_row(samples):
    s = samples()
    expected = [3.0 if label > 0 else 0.25 for label in s.labels.tolist()]
    assert ConstantWeights(foreground=3, background=0.25)(s).tolist() == expected
    assert ConstantWeights()(s).unique().tolist() == [0.5, 1.0]


@pytest.mark.parametrize("options", [{"foreground": -1}, {"background": float("inf")}])
def test_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ConstantWeights(**options)
