"""What do the intervals of a comparison cost, and do they hold the truth as often as they say?

python bench/evaluation.py               speed: resampling by weights against evaluating real copies with hotcoco
python bench/evaluation.py --coverage    how often the 95 % interval holds the true difference (about two minutes)
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from detbalance.data.annotations import Annotations
from detbalance.detections import Predictions
from detbalance.evaluation import evaluate
from detbalance.scoring.table import MatchTable
from detbalance.statistics import interval, paired_intervals, resample

METRICS = ("AP", "AP50", "AP75", "AP90", "AP_small", "AP_medium", "AP_large", "oLRP", "TIDE/Cls")
CLASSES = ("many", "some", "few")


def make_images(images: int, rng: np.random.Generator) -> Annotations:
    """Images with about thirteen objects, most of them of the first class; how many varies from image to image."""
    count = rng.poisson(13 * rng.gamma(4, 0.25, images))
    image = np.repeat(np.arange(images), count)
    corner, side = rng.uniform(0, 500, (len(image), 2)), np.exp(rng.uniform(2.5, 5, (len(image), 2)))
    return Annotations.from_arrays(
        classes=CLASSES,
        sizes=[(640, 640)] * images,
        image=image,
        label=rng.choice((1, 2, 3), len(image), p=(0.84, 0.08, 0.08)),
        boxes=np.concatenate((corner, corner + side), axis=1),
    )


def detect(annotations: Annotations, rng: np.random.Generator, *, skill: float, clutter: int) -> Predictions:
    """A detector that finds each object with probability `skill`, loosely, among `clutter` false ones an image."""
    found = rng.random(len(annotations.boxes)) < skill
    boxes = annotations.boxes[found]
    boxes = boxes + 0.05 * rng.normal(size=boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    image = np.repeat(np.arange(len(annotations)), clutter)
    corner, side = rng.uniform(0, 500, (len(image), 2)), rng.uniform(20, 100, (len(image), 2))
    true = np.column_stack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]))
    return Predictions(
        np.concatenate((annotations.image[found], image)),
        np.concatenate((annotations.label[found], rng.integers(1, 4, len(image)))),
        np.concatenate((true, np.column_stack((corner, side)))).clip(min=0),
        np.concatenate((rng.beta(4, 2, found.sum()), rng.beta(1.5, 6, len(image)))),
    )


def copies(annotations: Annotations, found: Predictions, times: np.ndarray) -> tuple[Annotations, Predictions]:
    """The test set with image i `times[i]` times."""
    source = np.repeat(np.arange(len(times)), times)

    def rows(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of = [np.flatnonzero(image == i) for i in range(len(times))]
        return np.concatenate([of[i] for i in source]), np.repeat(np.arange(len(source)), [len(of[i]) for i in source])

    (truth, image), (detection, found_image) = rows(annotations.image), rows(found.image)
    copied = Annotations.from_arrays(
        classes=CLASSES,
        sizes=annotations.sizes[source],
        image=image,
        label=annotations.label[truth],
        boxes=annotations.boxes[truth],
    )
    return copied, Predictions(found_image, found.label[detection], found.bbox[detection], found.score[detection])


def speed(images: int) -> None:
    rng = np.random.default_rng(0)
    annotations = make_images(images, rng)
    sides = [[detect(annotations, rng, skill=skill, clutter=88) for _ in range(3)] for skill in (0.7, 0.75)]
    print(
        f"{images} images, 3 classes, {len(sides[0][0])} detections a run, 3 seeds, 2 sides, 1000 draws; processor time"
    )
    start = time.process_time()
    tables = [[MatchTable.build(annotations, found) for found in side] for side in sides]
    print(f"  matching all runs                    {time.process_time() - start:6.2f} s")
    for metrics in (("AP",), METRICS):
        start = time.process_time()
        paired_intervals(*tables, metrics)
        took = time.process_time() - start
        print(f"  intervals of {len(metrics)} metrics              {took:6.2f} s")
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=5)
    start = time.process_time()
    values = [evaluate(*copies(annotations, sides[0][0], times)).ap for times in drawn]
    naive = (time.process_time() - start) / len(drawn)
    start = time.process_time()
    fast = resample(tables[0][:1], METRICS, draws=1000)["AP"][0, 1:]
    ours = (time.process_time() - start) / 1000
    print(f"  a draw, all metrics: {1e3 * naive:.1f} ms by evaluating real copies, {1e3 * ours:.2f} ms by weights")
    print(f"  ratio {naive / ours:.0f}; largest difference in AP {abs(np.array(values) - fast[:5]).max():.1e}")


def coverage(repeats: int, seeds: int, images: int) -> None:
    """Test sets and seeds drawn anew from a known population, whose difference a large test set without luck tells."""
    rng = np.random.default_rng(1)

    def runs(annotations: Annotations, skills: np.ndarray) -> list[MatchTable]:
        return [MatchTable.build(annotations, detect(annotations, rng, skill=s, clutter=5)) for s in skills]

    def skills(mean: float, count: int) -> np.ndarray:
        return (mean + 0.03 * rng.normal(size=count)).clip(0, 1)  # two recipes, each seed with a luck of its own

    large = make_images(500, rng)
    truth = [resample(runs(large, np.full(4, s)), ["AP"], draws=1)["AP"][:, 0].mean() for s in (0.6, 0.7)]
    held, width, plain = [], [], []
    for repeat in range(repeats):
        annotations = make_images(images, rng)
        sides = runs(annotations, skills(0.6, seeds)), runs(annotations, skills(0.7, seeds))
        values = [resample(side, ["AP"], draws=200, seed=repeat)["AP"] for side in sides]
        found = interval(*values, images=images, seed=repeat)
        quantiles = np.quantile((values[1] - values[0]).mean(0)[1:], (0.025, 0.975))  # over the images alone
        held.append(found.low <= truth[1] - truth[0] <= found.high)
        plain.append(quantiles[0] <= truth[1] - truth[0] <= quantiles[1])
        width.append(found.high - found.low)
    print(
        f"{seeds} seeds, {images} images: true difference {truth[1] - truth[0]:.4f}, held by {np.mean(held):.1%} of "
        f"{repeats} intervals (mean width {np.mean(width):.4f}); by images alone, as if seeds did not vary: "
        f"{np.mean(plain):.1%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coverage", action="store_true", help="simulate how often the interval holds the truth")
    parser.add_argument("--repeats", type=int, default=200, help="simulated comparisons (default: 200)")
    options = parser.parse_args()
    if options.coverage:
        coverage(options.repeats, seeds=3, images=72)
    else:
        for images in (72, 150):
            speed(images)
