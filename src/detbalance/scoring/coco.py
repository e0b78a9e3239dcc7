"""Annotations and predictions in hotcoco's hands: what decides that its figures are pycocotools' own."""

from __future__ import annotations

import numpy as np
from hotcoco import COCO, COCOeval

from ..data.annotations import Annotations
from ..detections import Predictions

__all__ = ["as_coco", "image_order", "run_hotcoco"]


def as_coco(annotations: Annotations, predictions: Predictions) -> tuple[COCO, COCO]:
    """Both for hotcoco, whose image ids are 1.. in the order of the source's ids.

    Difficult boxes (Pascal VOC) count as crowds: neither to be found nor wrong to be found.
    """
    low, high = annotations.boxes[:, :2], annotations.boxes[:, 2:]
    # (x + w) - x is not w: the last bit decides matches at an IoU of exactly .5. Rounding gives the file's number back.
    size = np.round(high - low, 9)
    number = np.argsort(image_order(annotations)) + 1
    truth = COCO.from_arrays(
        _images(annotations, number),
        [{"id": k + 1, "name": name} for k, name in enumerate(annotations.classes)],
        number[annotations.image],
        annotations.label,
        np.concatenate((low, size), axis=1),
        ids=np.arange(1, len(annotations.boxes) + 1),
        area=annotations.area,
        iscrowd=(annotations.crowd | annotations.difficult).astype(np.int64),
    )
    columns = (number[predictions.image], *predictions.bbox.T, predictions.score, predictions.label)
    return truth, truth.load_res(np.column_stack(columns).astype(np.float64).reshape(-1, 7))


def run_hotcoco(annotations: Annotations, predictions: Predictions) -> COCOeval:
    """Evaluate and accumulate with hotcoco.

    LVIS annotations are evaluated by LVIS's federated rules, with up to 300 detections an image; all others by COCO's,
    with 100 an image and class.
    """
    coco = COCOeval(*as_coco(annotations, predictions), "bbox", lvis_style=annotations.form == "lvis")
    coco.evaluate()
    coco.accumulate()
    return coco


def _images(annotations: Annotations, number: np.ndarray) -> list[dict]:
    images = [
        {"id": i, "file_name": str(name), "width": w, "height": h}
        for i, name, (w, h) in zip(number.tolist(), annotations.file_names, annotations.sizes.tolist())
    ]
    if annotations.form == "lvis":
        nothing = ((),) * len(images)
        negatives, partial = annotations.negatives or nothing, annotations.not_exhaustive or nothing
        for image, absent, some in zip(images, negatives, partial):
            image.update(neg_category_ids=list(absent), not_exhaustive_category_ids=list(some))
    return images


def image_order(annotations: Annotations) -> np.ndarray:
    """(I,) rows of the images by ascending id of the source.

    Detections of equal score are ranked by the id of their image, as pycocotools does it: another order, another AP.
    """
    return np.argsort(annotations.image_ids, kind="stable")
