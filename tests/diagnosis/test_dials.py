"""Each index rises as the generator's dial for its imbalance is turned."""

import numpy as np
import pytest

from detbalance.data._scene import compose
from detbalance.data.annotations import Annotations
from detbalance.data.synthetic import Dials
from detbalance.diagnosis import candidates, classes, overlaps, scale, spatial
from detbalance.diagnosis.anchors import RETINANET
from detbalance.diagnosis.labelled import label_anchors


def generated(images=40, **dials):
    """Boxes and labels of the generator, without its pictures."""
    setting, rng = Dials(width=256, height=192, **dials), np.random.default_rng(0)
    boxes, labels = zip(*(compose(rng, setting).boxes() for _ in range(images)))
    return Annotations.from_arrays(
        classes=[f"c{k}" for k in range(max(label.max(initial=1) for label in labels))],
        sizes=[(256, 192)] * images,
        image=np.repeat(np.arange(images), [len(b) for b in boxes]),
        label=np.concatenate(labels),
        boxes=np.concatenate(boxes),
    )


def foreground(columns, sampler):
    return candidates.foreground(label_anchors(columns, RETINANET, sampler), sampler)


@pytest.mark.parametrize(
    ("dial", "values", "measure"),
    [
        ("class_skew", (1, 10, 1000), classes.class_counts),
        ("objects_per_image", (20, 6, 1.5), foreground),
        ("scale", (0, 0.5, 1), scale.relative_size),
        ("location_bias", (0, 0.5, 1), spatial.centres),
        ("overlap", (0, 0.5, 1), overlaps.overlaps),
    ],
)
def test_index_rises_with_its_dial(measured, dial, values, measure):
    found = [measure(*measured(generated(**{dial: value}), repeats=0)).value for value in values]
    assert found[0] < found[1] < found[2]
