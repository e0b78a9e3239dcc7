"""The commands. Nothing heavy is imported until a command runs: `detbalance --help` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from .data.annotations import Annotations
    from .runs import Settings

__all__ = ["app", "main"]

app = typer.Typer(
    help="Diagnose, treat and prove: imbalance in object detection.",
    epilog="Start with `detbalance demo` (no data needed), then `detbalance run DATASET`.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Detector(str, Enum):
    """The detectors of `detectors.build`."""

    retinanet = "retinanet"
    fcos = "fcos"
    ssd = "ssd"
    yolov2 = "yolov2"
    faster_rcnn = "faster_rcnn"
    cascade_rcnn = "cascade_rcnn"


class Size(str, Enum):
    """The sizes of `detectors.build`."""

    nano = "nano"
    small = "small"
    base = "base"
    large = "large"


class Level(str, Enum):
    """The severities of `diagnosis.Severity`."""

    mild = "mild"
    strong = "strong"
    extreme = "extreme"


Dataset = Annotated[
    Path, typer.Argument(help="Folder or file: COCO, LVIS, Pascal VOC, YOLO, Open Images, KITTI or a table of boxes.")
]
DetectorOption = Annotated[Detector, typer.Option(help="Which detector.")]
SizeOption = Annotated[
    Size,
    typer.Option(
        help="nano: made for two CPU cores; small, base, large: ResNet-18, 50, 101 (YOLOv2: base is Darknet-19)."
    ),
]
ImageSize = Annotated[str, typer.Option(help="Height x width that images are scaled into, keeping their shape.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a step.")]
Rate = Annotated[float, typer.Option("--lr", min=0.0, help="Learning rate.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
Precision = Annotated[
    str, typer.Option(help="auto (bfloat16 where the hardware has it), 32-true, bf16-mixed or 16-mixed.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes that load images; 0 keeps them in memory.")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of each recipe, with seeds 0, 1, ...")]
Recipes = Annotated[
    str,
    typer.Option(
        help="Names (see `detbalance methods`), several put together as a+b, or file.py:function; commas. "
        "a@16 trains for 16 epochs."
    ),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the images, if it cannot be found.")]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
) -> None:
    """Diagnose, treat and prove: imbalance in object detection."""
    if debug:
        os.environ["DETBALANCE_DEBUG"] = "1"
    if version:
        from . import __version__

        print(f"detbalance {__version__}")
        raise typer.Exit


@app.command(epilog="Example: `detbalance demo --out demo`")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, runs and report.")] = Path("demo"),
    recipes: Recipes = "baseline,libra,pisa",
    images: Annotated[int, typer.Option(min=20, help="Generated images.")] = 400,
    epochs: Epochs = 9,
    seeds: Seeds = 1,
    seed: Annotated[int, typer.Option(help="Of the generated data.")] = 0,
) -> None:
    """The whole story on a generated dataset, no download needed: make data, diagnose, compare, report."""
    from .data.synthetic import Dials

    folder = out / "data"
    data = _make(folder, images, Dials(class_skew=20, lookalikes=0.5), None, seed)
    settings = _settings("retinanet", "nano", "192x256", epochs, None, None)
    _story(data, recipes.split(","), seeds, settings, out / "runs", out / "report.html")


@app.command(epilog="Example: `detbalance run my_dataset/ --epochs 20`")
def run(
    dataset: Dataset,
    recipes: Annotated[str, typer.Option(help="What to compare; by default what the diagnosis prescribes.")] = "",
    detector: DetectorOption = Detector.retinanet,
    size: SizeOption = Size.nano,
    image_size: ImageSize = "192x256",
    epochs: Epochs = 15,
    batch_size: BatchSize = 4,
    lr: Rate = 2e-3,
    seeds: Seeds = 3,
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs and report; default runs/NAME-DETECTOR-SIZE.")
    ] = None,
    images: Images = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = 0,
) -> None:
    """The main job: diagnose the dataset, compare what that prescribes with the baseline, and report."""
    data = _read(dataset, images)
    settings = _settings(detector.value, size.value, image_size, epochs, batch_size, lr)
    folder = out or _folder(dataset, detector, size)
    chosen = recipes.split(",") if recipes else None
    options = {"device": device, "precision": precision, "workers": workers}
    _story(data, chosen, seeds, settings, folder, folder / "report.html", **options)


@app.command(epilog="Example: `detbalance diagnose train/ --against val/ --html report.html --fail-on strong`")
def diagnose(
    dataset: Dataset,
    against: Annotated[Path | None, typer.Option(help="Another dataset or split, to compare with.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split: train, val or test.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Detections on it (COCO results JSON).")] = None,
    source_ids: Annotated[
        bool, typer.Option("--source-ids", help="The detections hold the dataset's own ids, not row numbers.")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="history.json or probes.npz of a run: its losses.")] = None,
    anchors: Annotated[str, typer.Option(help="retinanet, faster_rcnn, ssd300, yolov2 or yolov3.")] = "retinanet",
    html: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("diagnosis.html"),
    json: Annotated[Path | None, typer.Option(help="Where every number goes, as JSON.")] = None,
    fail_on: Annotated[Level | None, typer.Option(help="Exit status 1 at this severity or worse, for CI.")] = None,
    images: Images = None,
) -> None:
    """Measure every imbalance of a dataset, say how bad each one is and what to try. Needs no GPU and no training."""
    from .data.readers import read
    from .diagnosis import Severity
    from .diagnosis import diagnose as measure

    data = read(dataset, images=images, split=split)
    found = measure(
        data,
        against=against,
        predictions=predictions,
        ids="source" if source_ids else "rows",
        log=log,
        anchors=anchors,
    )
    found.save(html)
    if json is not None:
        found.save(json)
    console = _console()
    _print_diagnosis(console, found)
    console.print(f"report: {html}")
    if fail_on is not None and found.worst >= Severity[fail_on.name.upper()]:
        raise typer.Exit(1)


@app.command(epilog="Example: `detbalance train my_dataset/ --recipe pisa --detector faster_rcnn`")
def train(
    dataset: Dataset,
    recipe: Annotated[str, typer.Option(help="A name (see `detbalance methods`) or file.py:function.")] = "baseline",
    detector: DetectorOption = Detector.retinanet,
    size: SizeOption = Size.nano,
    image_size: ImageSize = "192x256",
    epochs: Epochs = 15,
    batch_size: BatchSize = 4,
    lr: Rate = 2e-3,
    seed: Annotated[int, typer.Option(help="Of weights, data order and augmentation.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME-DETECTOR-SIZE/RECIPE/seedN.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run that stands in the folder.")] = True,
    all_images: Annotated[
        bool, typer.Option("--all-images", help="Train on test images too; nothing is tested.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained backbone weights (DEFAULT), if you have them.")
    ] = None,
    images: Images = None,
    device: Device = "auto",
    precision: Precision = "auto",
    processes: Annotated[int, typer.Option(min=1, help="Processes (DDP): GPUs, or CPU processes.")] = 1,
    workers: Workers = 0,
    probe: Annotated[
        bool, typer.Option("--probe", help="Write what drives the training to probes.npz, for diagnose --log.")
    ] = False,
) -> None:
    """Train one detector with a recipe; checkpointed and resumable, then tested."""
    from dataclasses import replace

    from .adapters import kind_of
    from .comparison import run_one
    from .data.splits import split
    from .detectors import build
    from .evaluation import Evaluation
    from .image_sampling import describe
    from .recipes import get
    from .training import train as fit

    data = _read(dataset, images)
    settings = _settings(detector.value, size.value, image_size, epochs, batch_size, lr)
    settings = replace(settings, seed=seed, weights=weights)
    training, testing = (data, None) if all_images else split(data)
    kind = kind_of(build(settings.detector, classes=len(data.classes), size=settings.size))
    chosen = get(recipe, kind)
    folder = out or _folder(dataset, detector, size) / chosen.name / f"seed{seed}"
    options = {"device": device, "precision": precision, "workers": workers, "probe": 50 if probe else 0}
    console = _console()
    if chosen.images is not None:
        console.print(describe(training, chosen.images, seed=seed, epochs=min(epochs, 10)), markup=False)
    with _bar(console) as step:
        progress = _run_progress(step, f"{chosen.name} seed {seed}")
        if testing is None or processes > 1:
            fit(
                training, folder, recipe=chosen, settings=settings, processes=processes, resume=resume,
                progress=progress, **options,
            )  # fmt: skip
            console.print(f"model: {folder / 'model.pt'}")
            return
        if not resume:
            for name in ("settings.json", "evaluation.json", "checkpoint.pt", "model.pt"):
                (folder / name).unlink(missing_ok=True)
        result = run_one(training, testing, folder, recipe=chosen, settings=settings, progress=progress, **options)
    console.print(Evaluation.from_json(result["evaluation"]).table())
    console.print(f"run: {folder}   curves: tensorboard --logdir {folder}")
    if probe and (folder / "probes.npz").exists():
        console.print(f"what drove it: detbalance diagnose {dataset} --log {folder / 'probes.npz'}", soft_wrap=True)
    elif probe:
        console.print("no probes: this run was finished before; --no-resume trains it anew")


@app.command(epilog="Examples: `detbalance evaluate runs/x/pisa/seed0` or `detbalance evaluate dets.json my_dataset/`")
def evaluate(
    what: Annotated[
        Path, typer.Argument(help="Run folder, or detections in COCO results JSON.", metavar="RUN|PREDICTIONS")
    ],
    dataset: Annotated[Path | None, typer.Argument(help="The dataset; for a run, by default its own.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of the dataset: train, val or test.")] = None,
    source_ids: Annotated[
        bool, typer.Option("--source-ids", help="The detections hold the dataset's own ids, not row numbers.")
    ] = False,
    edges: Annotated[
        str, typer.Option(help="Largest numbers of training images of a rare and a common class.")
    ] = "10,100",
    json: Annotated[Path | None, typer.Option(help="Write every number here.")] = None,
    slices: Annotated[
        str, typer.Option(help="HxW: look for objects in windows of so many pixels, for tiny ones in large images.")
    ] = "",
    overlap: Annotated[float, typer.Option(help="Share of a window that the next one repeats.")] = 0.25,
    scales: Annotated[
        str, typer.Option(help="0.75,1,1.5: look at each image at several scales, factors on the training size.")
    ] = "",
    images: Images = None,
) -> None:
    """AP by class, size and frequency, TIDE's errors and optimal LRP of a run, or of anybody's detections."""
    import json as text

    from .data.annotations import DataError
    from .data.splits import split as divide
    from .detections import load_predictions
    from .evaluation import evaluate as measure

    bounds = _edges(edges)
    if slices and scales:
        raise typer.BadParameter("--slices and --scales are two ways to look at an image: give one")
    factors = _factors(scales)
    if what.is_dir():
        described = what / "settings.json"
        if not described.exists():
            raise DataError(f"{what}: no run folder, there is no settings.json in it")
        data = _read(dataset or Path(text.loads(described.read_text())["data"]["source"]), images)
        training, testing = divide(data)
        way = f"-{slices}-{overlap:g}" if slices else "".join(f"-x{factor:g}" for factor in factors)
        predictions = what / f"predictions{way}.json"
        if not predictions.exists():
            _predict(what, testing, predictions, slices, overlap, factors)
        result = measure(testing, predictions, training=training, edges=bounds)
    else:
        if slices or scales:
            raise typer.BadParameter("--slices and --scales need a run folder: detections are made already")
        if dataset is None:
            raise typer.BadParameter("expected a DATASET after PREDICTIONS")
        if not what.exists():
            raise DataError(f"{what}: no such run folder or file of detections")
        from .data.readers import read

        data = read(dataset, images=images, split=split)
        found = load_predictions(what, data, ids="source" if source_ids else "rows")
        result = measure(data, found, edges=bounds)
    _console().print(result.table())
    if json is not None:
        json.write_text(text.dumps(result.to_json(), indent=1))


@app.command(epilog="Example: `detbalance compare my_dataset/ --recipes baseline,libra,pisa --seeds 3`")
def compare(
    dataset: Dataset,
    recipes: Recipes = "baseline,libra,pisa",
    ablate: Annotated[
        str, typer.Option(help="Instead of --recipes: one of several parts, whole, without each part, and each alone.")
    ] = "",
    seeds: Seeds = 3,
    detector: DetectorOption = Detector.retinanet,
    size: SizeOption = Size.nano,
    image_size: ImageSize = "192x256",
    epochs: Epochs = 15,
    batch_size: BatchSize = 4,
    lr: Rate = 2e-3,
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs and report; default runs/NAME-DETECTOR-SIZE.")
    ] = None,
    edges: Annotated[
        str, typer.Option(help="Largest numbers of training images of a rare and a common class.")
    ] = "10,100",
    images: Images = None,
    device: Device = "auto",
    precision: Precision = "auto",
    workers: Workers = 0,
) -> None:
    """Train recipes side by side over several seeds, and report what helped, by how much and how surely."""
    data = _read(dataset, images)
    settings = _settings(detector.value, size.value, image_size, epochs, batch_size, lr)
    folder = out or _folder(dataset, detector, size)
    options = {"device": device, "precision": precision, "workers": workers, "edges": _edges(edges)}
    chosen = _ablation(ablate, settings) if ablate else recipes.split(",")
    _compare(data, chosen, seeds, settings, folder, folder / "report.html", **options)


@app.command(name="loss-landscape", epilog="Example: `detbalance loss-landscape L2Loss BalancedL1Loss --png a.png`")
def loss_landscape(
    losses: Annotated[list[str], typer.Argument(help="Names, or 'Name(setting=1)'.", metavar="NAME...")],
    html: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("landscape.html"),
    png: Annotated[Path | None, typer.Option(help="Where a picture goes.")] = None,
    points: Annotated[int, typer.Option(min=2, help="Points of a curve.")] = 121,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Also regress boxes by gradient descent under each box loss.")
    ] = False,
    starts: Annotated[int, typer.Option(min=1, help="Places the boxes start from, 343 each; the paper: 5000.")] = 100,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the simulation.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the places.")] = 0,
) -> None:
    """Draw value and gradient of losses side by side, over score, error, IoU, shift, scale and aspect."""
    from . import report
    from .landscape import find, views
    from .simulation import simulate as descend

    found = find(losses)
    if simulate and not any(hasattr(loss, "space") for loss in found.values()):
        raise ValueError(f"--simulate needs a box loss, and {', '.join(found)} is none")
    console = _console()
    with _bar(console) as step:
        drawn = views(found, points=points, progress=lambda done, total: step("drawing", done, total, ""))
        descents = None
        if simulate:
            descents = descend(
                found, points=starts, iterations=iterations, seed=seed,
                progress=lambda done, total: step("simulating", done, total, ""),
            )  # fmt: skip
    report.save(report.landscape_page(drawn, descents), html)
    for name, descent in (descents or {}).items():
        console.print(f"{name}: error {descent.error[0]:.3f} -> {descent.error[-1]:.3f}, IoU {descent.iou[-1]:.3f}")
    console.print(f"page: {html}")
    if png is not None:
        from .report.landscape_png import save_png

        console.print(f"picture: {save_png(drawn, descents, png)}")


@app.command(epilog="Example: `detbalance interplay --recipes baseline,pisa,ap_loss`")
def interplay(
    recipes: Recipes = "baseline,libra,pisa",
    detector: Annotated[str, typer.Option(help="retinanet, or faster_rcnn (its region head).")] = "retinanet",
    html: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("interplay.html"),
    shifts: Annotated[int, typer.Option(min=2, help="Places of the sliding candidate.")] = 25,
) -> None:
    """Slide, scale or relabel one candidate, and watch every index and every loss answer: an interactive page."""
    from . import report
    from .interplay import MEASURES, Scene, evenly, play
    from .recipes import get

    kinds = {"retinanet": "dense", "faster_rcnn": "rcnn"}
    if detector not in kinds:
        raise ValueError(f"expected --detector retinanet or faster_rcnn but got {detector!r}")
    kind, plays = kinds[detector], []
    with _bar(_console()) as step:
        for name in recipes.split(","):
            told = partial(step, f"playing {name}", note="")
            plays.append(play(get(name.strip(), kind), kind, shifts=evenly(shifts), progress=told))
    report.save(report.interplay_page(plays, Scene(), MEASURES), html)
    _console().print(f"page: {html}")


@app.command(epilog="Example: `detbalance anchors my_dataset/ --detector retinanet`")
def anchors(
    dataset: Dataset,
    detector: DetectorOption = Detector.retinanet,
    size: SizeOption = Size.nano,
    image_size: ImageSize = "192x256",
    out: Annotated[Path, typer.Option(help="Where the anchors go, for --recipe and --recipes.")] = Path("anchors.json"),
    split: Annotated[str | None, typer.Option(help="Only this split; by default what `train` trains on.")] = None,
    evenness: Annotated[
        float, typer.Option(min=0.0, help="What evenness over classes and sizes counts beside recall.")
    ] = 0.25,
    sample: Annotated[int, typer.Option(min=1, help="Images drawn for the search; the figures are of all.")] = 200,
    generations: Annotated[int, typer.Option(min=1, help="Of differential evolution.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the search.")] = 0,
    images: Images = None,
) -> None:
    """Find the anchors that fit a dataset: the best recall, shared most evenly over classes and sizes. No training."""
    from .data.readers import read
    from .data.splits import split as divide
    from .diagnosis.anchor_design import design_anchors

    data = read(dataset, images=images, split=split)
    data = data if split else divide(data)[0]
    console = _console()
    with _bar(console) as step:
        found = design_anchors(
            data, detector=detector.value, size=size.value, image_size=_height_and_width(image_size),
            evenness=evenness, images=sample, generations=generations, seed=seed,
            progress=lambda done, total: step("searching anchors", done, total, ""),
        )  # fmt: skip
    for table in found.tables():
        console.print(table)
    found.after.settings.save(out)
    console.print(f"in torchvision: {found.after.settings.line()}", markup=False, soft_wrap=True)
    trained = f"{dataset} --detector {detector.value} --size {size.value} --image-size {image_size}"
    console.print(f"to compare: detbalance compare {trained} --recipes baseline,{out}", markup=False, soft_wrap=True)


@app.command(name="make-data")
def make_data(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    images: Annotated[int, typer.Option(min=2, help="Images, over all splits.")] = 600,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    class_skew: Annotated[float, typer.Option(help="Most to least frequent class, 1..10000.")] = 1.0,
    objects_per_image: Annotated[float, typer.Option(help="Mean number of objects, 0..50.")] = 5.0,
    scale: Annotated[float, typer.Option(help="0: all sizes alike .. 1: nearly all small.")] = 0.0,
    location_bias: Annotated[float, typer.Option(help="Share of objects near the middle, 0..1.")] = 0.0,
    overlap: Annotated[float, typer.Option(help="Share of objects that touch another, 0..1.")] = 0.15,
    aspect: Annotated[float, typer.Option(help="Elongation, 0..1.")] = 0.15,
    orientation: Annotated[float, typer.Option(help="Turned by up to 180 degrees x this, 0..1.")] = 0.1,
    lookalikes: Annotated[float, typer.Option(help="Hard background look-alikes an object, 0..2.")] = 0.25,
    clutter: Annotated[float, typer.Option(help="Easy background strokes and blobs, 0..1.")] = 0.3,
    label_noise: Annotated[float, typer.Option(help="Share of wrong training annotations, 0..1.")] = 0.0,
    classes: Annotated[int, typer.Option(help="Number of classes, 1..16.")] = 8,
    width: Annotated[int, typer.Option(help="Pixels, 64..4096.")] = 256,
    height: Annotated[int, typer.Option(help="Pixels, 64..4096.")] = 192,
    balanced_test: Annotated[
        bool, typer.Option("--balanced-test", help="Even classes in the test split, for enough of what is rare.")
    ] = False,
) -> None:
    """Write a generated dataset in COCO form, with one dial for each imbalance.

    Example: `detbalance make-data skewed/ --class-skew 50 --lookalikes 1`
    """
    from dataclasses import replace

    from .data.synthetic import Dials

    dials = Dials(
        class_skew=class_skew,
        objects_per_image=objects_per_image,
        scale=scale,
        location_bias=location_bias,
        overlap=overlap,
        aspect=aspect,
        orientation=orientation,
        lookalikes=lookalikes,
        clutter=clutter,
        label_noise=label_noise,
        classes=classes,
        width=width,
        height=height,
    )
    data = _make(out, images, dials, replace(dials, class_skew=1.0) if balanced_test else None, seed)
    _console().print(f"{out}: {len(data)} images, {len(data.boxes)} boxes, {len(data.classes)} classes, COCO form")


@app.command(epilog="Examples: `detbalance methods` and `detbalance methods FocalLoss`")
def methods(
    name: Annotated[str | None, typer.Argument(help="A method or a recipe; without it, the whole tree.")] = None,
) -> None:
    """The catalogue: the problems of the review, what is available under each, and the recipes."""
    from . import listing

    console = _console()
    console.print(listing.tree() if name is None else listing.details(name))


def main() -> None:
    """Run the command line: exit status 2 and one clear paragraph for bad input, the trace only with --debug."""
    from .data.errors import DataError

    try:
        app()
    except (DataError, FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError, ValueError) as error:
        if os.environ.get("DETBALANCE_DEBUG"):
            raise
        _fail(str(error))
    except FloatingPointError as error:
        if os.environ.get("DETBALANCE_DEBUG"):
            raise
        _fail(f"training diverged: {error}")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None


def _fail(message: str) -> None:
    print(f"detbalance: {message}", file=sys.stderr)
    raise SystemExit(2)


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=False, highlight=False)


def _read(dataset: Path, images: Path | None) -> Annotations:
    """A dataset to train on: strict, since what training cannot use must not be dropped in silence."""
    from .data.readers import read

    return read(dataset, images=images, strict=True)


def _folder(dataset: Path, detector: Detector, size: Size) -> Path:
    return Path("runs") / f"{dataset.resolve().stem}-{detector.value}-{size.value}"


def _settings(
    detector: str, size: str, image_size: str, epochs: int, batch_size: int | None, lr: float | None
) -> Settings:
    from .runs import Settings

    given: dict[str, Any] = {"batch_size": batch_size, "learning_rate": lr}
    given = {name: value for name, value in given.items() if value}
    return Settings(detector=detector, size=size, image_size=_height_and_width(image_size), epochs=epochs, **given)


def _height_and_width(given: str, option: str = "--image-size") -> tuple[int, int]:
    try:
        height, width = (int(side) for side in given.lower().split("x"))
    except ValueError:
        raise typer.BadParameter(f"expected {option} as HEIGHTxWIDTH, such as 192x256, but got {given!r}") from None
    return height, width


def _edges(edges: str) -> tuple[int, int]:
    try:
        low, high = (int(edge) for edge in edges.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected --edges as two numbers, such as 10,100, but got {edges!r}") from None
    return low, high


def _make(out: Path, images: int, dials: Any, test_dials: Any, seed: int) -> Annotations:
    from .data.synthetic import make_dataset

    with _bar(_console()) as step:
        return make_dataset(
            out,
            images=images,
            dials=dials,
            test_dials=test_dials,
            seed=seed,
            progress=lambda done, total: step("drawing images", done, total, ""),
        )


def _story(
    data: Annotations,
    recipes: list[str] | None,
    seeds: int,
    settings: Settings,
    folder: Path,
    page: Path,
    **options: Any,
) -> None:
    """Diagnose, prescribe, compare; one report."""
    from .diagnosis import diagnose as measure

    console = _console()
    found = measure(data, anchors=_ANCHORS.get(settings.detector, settings.detector))
    _print_diagnosis(console, found)
    if recipes is None:
        recipes = _prescribed(found, settings)
        console.print(f"comparing: {', '.join(recipes)}")
    # Of a short training, too, there are twenty records to draw a curve from.
    every = min(50, max(1, len(data) * settings.epochs // settings.batch_size // 20))
    _compare(data, recipes, seeds, settings, folder, page, diagnosis=found, probe=every, **options)


def _prescribed(found: Any, settings: Settings) -> list[str]:
    """The baseline and the two remedies that rank highest and that the detector takes."""
    from .recipes import kinds

    kind = _kind(settings)
    ranked = dict.fromkeys(remedy.recipe for remedy in found.prescription.remedies)
    ranked = [name for name in ranked if name != "baseline" and kind in kinds(name)]
    usual = [name for name in ("libra", "pisa", "focal") if kind in kinds(name)]
    return ["baseline", *(ranked or usual)[:2]]


def _kind(settings: Settings) -> str:
    from .adapters import kind_of
    from .detectors import build

    return kind_of(build(settings.detector, classes=1))


def _ablation(name: str, settings: Settings) -> list[str]:
    from .combination import ablation
    from .recipes import parts

    return ablation(name, parts(name, _kind(settings)))


def _compare(
    data: Annotations,
    recipes: list[str],
    seeds: int,
    settings: Settings,
    folder: Path,
    page: Path,
    *,
    diagnosis: Any = None,
    **options: Any,
) -> None:
    from .comparison import compare as side_by_side

    console = _console()
    recipes = [name.strip() for name in recipes if name.strip()]
    with _bar(console) as step:
        whole = len(recipes) * seeds
        started: dict[tuple[str, int], int] = {}

        def progress(name: str, seed: int, now: int, steps: int, losses: dict[str, float]) -> None:
            number = started.setdefault((name, seed), len(started) + 1)
            loss = f"loss {losses['total']:.3f}" if losses else ""
            step(f"run {number} of {whole}: {name} seed {seed}", now, steps, loss)

        result = side_by_side(
            data, recipes, seeds=seeds, settings=settings, folder=folder, progress=progress, **options
        )
    console.print(result.table())
    for name, recipe in result.results["recipes"].items():
        for failed in (run for run in recipe["runs"] if run["status"] == "failed"):
            console.print(f"[red]failed:[/] {name} seed {failed['seed']}: {failed['error']}")
    log = folder / result.results["baseline"] / f"seed{result.results['seeds'][0]}" / "probes.npz"
    if diagnosis is not None and log.exists():
        diagnosis = diagnosis.with_log(log)
    result.save(page, diagnosis)
    console.print(f"report: {page}")


def _factors(scales: str) -> tuple[float, ...]:
    """The factors of --scales."""
    try:
        factors = tuple(float(part) for part in scales.split(",")) if scales else ()
    except ValueError:
        factors = (0.0,)
    if not all(0 < factor < 100 for factor in factors):
        raise typer.BadParameter(
            f"expected factors above 0 such as 0.75,1,1.5 but got {scales!r}", param_hint="--scales"
        )
    return factors


def _predict(
    folder: Path, testing: Annotations, path: Path, slices: str, overlap: float, scales: tuple[float, ...]
) -> None:
    from .detections import save_predictions
    from .looks import AtScales, InSlices
    from .prediction import predict
    from .runs import load_model

    look = predict
    if slices:
        look = InSlices(size=_height_and_width(slices, "--slices"), overlap=overlap)
    elif scales:
        look = AtScales(scales=scales)
    model, described = load_model(folder)
    with _bar(_console()) as step:
        found = look(
            model,
            testing,
            image_size=tuple(described["settings"]["image_size"]),
            progress=lambda done, total: step("detecting", done, total, ""),
        )
    save_predictions(path, *([image[name] for image in found] for name in ("boxes", "labels", "scores")))


@contextmanager
def _bar(console: Console) -> Iterator[Any]:
    """A progress bar with the time left; yields step(what, done, total, note)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), "{task.completed:.0f}/{task.total:.0f}")
    bar = Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console
    )
    tasks: dict[str, Any] = {}
    with bar:

        def step(what: str, done: int, total: int, note: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note=note)
            bar.update(tasks[what], completed=done, total=total, note=note)

        yield step


def _run_progress(step: Any, what: str) -> Any:
    return lambda done, total, losses: step(what, done, total, f"loss {losses['total']:.3f}" if losses else "")


# The anchors that the diagnosis judges a detector by where it has none of that name: FCOS has the levels of RetinaNet.
_ANCHORS = {"fcos": "retinanet", "ssd": "ssd300", "cascade_rcnn": "faster_rcnn"}
_COLOURS = {None: "dim", 0: "green", 1: "yellow", 2: "dark_orange", 3: "red"}


def _print_diagnosis(console: Console, found: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{found.data.source or 'dataset'}: {found.data!r}", show_lines=False)
    for column in ("imbalance", "index", "severity", "what it means"):
        table.add_column(column, no_wrap=column != "what it means")
    for finding in found.findings:
        if finding.headline:
            word = "not measured" if finding.severity is None else finding.severity.name.lower()
            value = "-" if finding.value is None else f"{finding.value:.2f}"
            meaning = finding.summary if finding.value is not None else f"needs {finding.needs}"
            table.add_row(finding.imbalance.value, value, f"[{_COLOURS[finding.severity]}]{word}[/]", meaning)
    console.print(table)
    for remedy in found.prescription.remedies[:3]:
        console.print(f"try {remedy.recipe}: {remedy.reason} Reported: {remedy.gain} ({remedy.source}).", markup=False)
    if found.prescription.command:
        console.print(f"  {found.prescription.command}", markup=False, soft_wrap=True)
    for problem in found.problems:
        where = f" ({problem.examples[0]})" if problem.examples else ""
        console.print(f"data: {problem.count} x {problem.kind}, {problem.action}{where}", markup=False)


if __name__ == "__main__":
    main()
