"""`diagnose`: every measure of a dataset, in the order of the taxonomy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.annotations import Annotations
from ..taxonomy import Imbalance
from . import batches, classes, company, crowding, levels, overlaps, resizing, scale, spatial
from .bootstrap import Resampler
from .columns import Columns
from .finding import Finding
from .result import Diagnosis
from .severity import judge, merged

__all__ = ["diagnose"]


def diagnose(
    data: Annotations | str | Path,
    *,
    targets: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, tuple[float, float, float]] | None = None,
    bootstrap: int = 200,
    seed: int = 0,
) -> Diagnosis:
    """Measure every imbalance of a dataset. Numpy alone: torch is never imported."""
    if not isinstance(data, Annotations):
        from ..data.readers import read

        data = read(data)
    limits = merged(thresholds)
    findings = _measured(Columns(data), Resampler(len(data), bootstrap, seed), dict(targets or {}))
    findings = [replace(f, severity=judge(f.key, f.value, limits)) for f in findings]
    rank = {problem: i for i, problem in enumerate(Imbalance)}
    findings.sort(key=lambda f: (rank[f.imbalance], not f.headline))
    return Diagnosis(
        data=data,
        findings=tuple(findings),
        dataset=_facts(data),
        settings={"bootstrap": bootstrap, "seed": seed, "training_size": resizing.TRAINING_SIZE},
    )


def _measured(columns: Columns, sampler: Resampler, targets: dict[str, Any]) -> list[Finding]:
    wanted = classes.class_target(columns.classes, targets.get("classes"))
    return [
        classes.class_counts(columns, sampler, target=wanted),
        classes.class_images(columns, sampler, target=wanted),
        classes.class_groups(columns, sampler),
        batches.batch_classes(columns, sampler),
        crowding.objects_per_image(columns, sampler),
        company.cooccurrence(columns, sampler),
        scale.relative_size(columns, sampler),
        scale.extents(columns, sampler),
        scale.size_bins(columns, sampler),
        resizing.resize_loss(columns, sampler),
        levels.pyramid_levels(columns, sampler),
        spatial.centres(columns, sampler),
        spatial.aspect(columns, sampler),
        overlaps.overlaps(columns, sampler),
    ]


def _facts(data: Annotations) -> dict[str, Any]:
    known = data.sizes[(data.sizes > 0).all(1)]
    per_image = np.bincount(data.image[~data.crowd], minlength=len(data))
    return {
        "source": data.source,
        "form": data.form,
        "fingerprint": data.fingerprint(),
        "images": len(data),
        "boxes": int((~data.crowd).sum()),
        "classes": len(data.classes),
        "class_names": data.classes,
        "crowd_regions": int(data.crowd.sum()),
        "difficult": int(data.difficult.sum()),
        "images_without_boxes": int((per_image == 0).sum()),
        "images_of_unknown_size": len(data) - len(known),
        "boxes_per_image": float(per_image.mean()) if len(data) else 0.0,
        "median_image_size": np.median(known, 0).tolist() if len(known) else None,
        "splits": {
            name: int((data.split == name).sum()) for name in ("train", "val", "test") if (data.split == name).any()
        },
    }
