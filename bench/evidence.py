"""Evidence that accumulates: a list of comparisons, each kept as a small JSON file under docs/evidence.

Finished runs are never repeated: the script can be stopped at any time and started again, here or on a larger machine.

    python bench/evidence.py                       what fits: every experiment that is not done, in order
    python bench/evidence.py --list                what is done and what is left
    python bench/evidence.py --only bccd-retinanet one of them
    python bench/evidence.py --tables              only write the tables in docs/evidence.md anew
    python bench/evidence.py --jobs 16 --minutes 9 only the runs, sixteen at a time on one thread each, for nine
                                                   minutes; a call without --jobs then makes the files

The real datasets are looked for in ../shared/data (or --data); an experiment whose data are absent is left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import candidates
from detbalance import recipes
from detbalance.adapters import kind_of
from detbalance.combination import ablation
from detbalance.comparison import compare, run_one
from detbalance.data.annotations import Annotations
from detbalance.data.images import DetectionImages, flips
from detbalance.data.readers import read
from detbalance.data.splits import split
from detbalance.data.synthetic import Dials, make_dataset
from detbalance.detectors import build
from detbalance.runs import Settings, epochs_of, recipe_of

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "docs" / "evidence"
TALK = ("baseline", "iou_balanced", "instance_balanced", "libra_sampling", "isr", "carl", "pisa")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One comparison: which data, detector and recipes, over how many seeds."""

    name: str
    data: str
    """folder under the data root; with dials, a name for the generated data"""
    recipes: tuple[str, ...]
    settings: Settings
    seeds: int = 3
    dials: Dials | None = None
    """of the generated data"""
    note: str = ""
    """what the experiment asks, in a sentence for the tables"""
    images: int = 400
    """of the generated data"""
    probe: int = 0
    """measure what drives the training of the first seed, every so many steps"""
    edges: tuple[int, int] = (10, 100)
    """largest numbers of training images of a rare and of a common class"""
    test_dials: Dials | None = None
    """of the test images of the generated data, if others"""
    held_out: bool = False
    """train on four fifths of the training images and test on the fifth: to choose by, without the test images"""

    @property
    def runs(self) -> str:
        """Folder of the runs: experiments on the same data under the same settings share them."""
        usual = asdict(Settings(detector=self.settings.detector))
        differing = [f"{name}_{value}" for name, value in asdict(self.settings).items() if value != usual[name]]
        parts = (self.data, self.settings.detector, *differing, *(["held_out"] if self.held_out else []))
        return "-".join(parts).replace("(", "").replace(", ", "x").replace(")", "")


NANO = Settings()
FRCNN = Settings(detector="faster_rcnn")

BACKGROUND = {
    "sampling": (
        "Which anchors train.",
        "random_sampling ohem hard_negatives iou_lower_bound overlap_sampling semi_hard lrm",
    ),
    "weights": (
        "How much each anchor counts.",
        "constant_weights ghm quality_focal varifocal iou_balanced_loss",
    ),
    "heads": (
        "Objectness beside the classes, and training without sampling.",
        "objectness_prior negative_anchor_filter objectness_module objectness_branch residual_objectness sampling_free",
    ),
    "ranking": ("Losses that rank.", "ap_loss alrp rank_sort dr_loss"),
}
"""The remedies against foreground-background imbalance in a one-stage detector."""

CLASSES = (
    "repeat_factor class_aware over_sampling effective_number_sampling failing_classes balanced_batches class_balanced "
    "effective_number eqlv2 equalised_focal logit_adjustment decoupled copy_paste instance_switching "
    "long_tail"
)
"""The remedies against foreground-foreground imbalance in a one-stage detector."""

ALIKE = ("over_sampling", "effective_number")
"""Nearly the same as others of them: left out on the generated data."""

REGION_CLASSES = "seesaw loce group_softmax"
"""Those that live in the region head."""

NORMS = "l2 smooth_l1 balanced_l1 ghm_r iou_balanced_loss"
OVERLAPS = "iou_loss bounded_iou giou diou ciou eiou focal_eiou siou alpha_iou wise_iou"
OTHER_LOSSES = "nwd_loss combined_box_loss"
"""Box losses: of the code, of the overlap, and what is both or neither. The baseline's is L1."""

PYRAMIDS = (
    "balanced_fpn feature_hierarchy panet stdn parallel_fpn reconfigured_fpn zoom_out_in mlfpn nas_fpn auto_fpn bifpn "
    "aug_fpn efip mscf"
)
SLOW_PYRAMIDS = ("aug_fpn", "dynamic_head")
"""In training they take five to thirteen times the time of the baseline: on face masks a comparison of their own."""
BEST_PYRAMIDS = "feature_hierarchy reconfigured_fpn zoom_out_in auto_fpn"
SMALL = "snip sniper sliced trident nwd size_balanced rank_sort+trident"
"""The remedies against scale imbalance: necks, and what looks at sizes."""

PLACES = "hsd guided_anchoring free_anchor atss rank_sort+mosaic"
REGION_PLACES = {"bccd": "cascade iou_uniform guided_anchoring", "deeppcb": "cascade iou_uniform"}
"""The remedies against imbalance of IoU and location, in RetinaNet and in Faster R-CNN."""

BOXES = {"bccd": Settings(epochs=10), "deeppcb": Settings(epochs=15, image_size=(256, 256))}
"""The settings under which boxes are looked at."""
TIGHT = {**BOXES, "deeppcb": replace(BOXES["deeppcb"], image_size=(384, 384))}
"""The same for an AP90 that can tell: at 256x256 the median side of deeppcb's boxes is 14 pixels, and an IoU of .9
allows an error of less than one."""

SKEWED = Dials(class_skew=100.0)
EDGES = {"skewed": (50, 150), "facemask": (100, 200)}
"""So that the rarest classes count as rare, and each group has one."""
SCALES = Dials(scale=1.0, width=512, height=384)
EVEN_SIZES, MIXED_SIZES = replace(SCALES, scale=0.0), replace(SCALES, scale=0.25)

WHOLE = {"chess": NANO, "bccd": Settings(epochs=10), "facemask": Settings(epochs=8)}
"""The settings under which `balanced` is tried."""

CANDIDATES = str(Path(__file__).with_name("candidates.py")) + ":"
"""Recipes tried for a named recipe that have no name of their own."""

CHOICES = {
    "balanced": {
        **dict.fromkeys(
            ("chess", "bccd"),
            "rank_sort rank_sort+panet rank_sort+repeat_factor rank_sort+panet+repeat_factor rank_sort+mosaic "
            "rank_sort+copy_paste rank_sort+trident_fast rank_sort+repeat_factor+mosaic rank_sort+panet+mosaic",
        ),
        "facemask": "rank_sort rank_sort+panet rank_sort+repeat_factor rank_sort+panet+repeat_factor rank_sort+mosaic "
        "rank_sort+trident_fast",
    },
    "long_tail": {
        "skewed": "repeat_factor class_aware over_sampling failing_classes class_balanced equalised_focal "
        "logit_adjustment copy_paste repeat_factor+copy_paste repeat_factor+equalised_focal "
        "repeat_factor+logit_adjustment class_aware+copy_paste repeat_factor+instance_switching "
        "over_sampling+copy_paste repeat_factor+mosaic rank_sort+repeat_factor rank_sort+repeat_factor+copy_paste "
        "rank_sort+copy_paste rank_sort+over_sampling rank_sort+class_aware class_aware+equalised_focal "
        "repeat_factor+equalised_focal+copy_paste rank_sort+class_aware+copy_paste",
        "facemask": "repeat_factor class_aware equalised_focal repeat_factor+equalised_focal "
        "repeat_factor+logit_adjustment rank_sort+repeat_factor rank_sort+class_aware rank_sort+copy_paste "
        "rank_sort+repeat_factor+copy_paste class_aware+equalised_focal repeat_factor+equalised_focal+copy_paste "
        "rank_sort+class_aware+copy_paste",
    },
    "small_objects": {
        "scales": "panet balanced_fpn bifpn efip snip sniper sliced trident nwd rank_sort sliced+nwd sliced+panet "
        "sliced+rank_sort sniper+rank_sort rank_sort+panet rank_sort+mosaic sliced+rank_sort+panet "
        "rank_sort+panet+mosaic rank_sort+trident",
        "facemask": "panet sliced rank_sort sliced+panet sliced+rank_sort rank_sort+panet rank_sort+mosaic "
        "sliced+rank_sort+panet rank_sort+panet+mosaic rank_sort+trident",
    },
    "small_objects-light": dict.fromkeys(
        ("scales", "facemask"), "rank_sort rank_sort+feature_hierarchy rank_sort+reconfigured_fpn"
    ),
    "tight_boxes": dict.fromkeys(
        ("bccd", "deeppcb"),
        "atss hsd rank_sort alpha_iou wise_iou iou_balanced_loss quality_focal free_anchor hsd+alpha_iou "
        "rank_sort+panet rank_sort+mosaic free_anchor+panet atss_quality atss_quality_alpha atss_varifocal "
        "rank_sort_alpha rank_sort_diou",
    ),
    "tight_boxes-more": dict.fromkeys(
        ("bccd", "deeppcb"),
        "rank_sort+mosaic rank_sort+mosaic+reconfigured_fpn rank_sort+mosaic+feature_hierarchy rank_sort_mosaic_siou",
    ),
}
"""What the parts of each named recipe were chosen from, on which data; again, with others, after a dash."""

_REGION = (
    "rank_sort rank_sort+panet+repeat_factor pisa cascade rank_sort+panet rank_sort+repeat_factor rank_sort+mosaic"
)
_CASCADE = " cascade+repeat_factor cascade+panet rank_sort+cascade rank_sort+cascade+repeat_factor"
REGION_CHOICES = {"chess": _REGION, "bccd": _REGION + _CASCADE, "facemask": _REGION + _CASCADE}
"""The same for `balanced` in Faster R-CNN."""
TIGHT_REGION_CHOICES = dict.fromkeys(
    ("bccd", "deeppcb"), "cascade rank_sort+mosaic rank_sort+reconfigured_fpn rank_sort+reconfigured_fpn+mosaic"
)
"""And for `tight_boxes`."""

EXPERIMENTS = (
    Experiment(
        name="bccd-retinanet",
        data="bccd",
        recipes=("baseline", "libra", "pisa"),
        settings=NANO,
        note="Blood cells, three classes at 11 to 1.",
    ),
    Experiment(
        name="facemask-retinanet",
        data="facemask",
        recipes=("baseline", "libra", "pisa"),
        settings=NANO,
        note="Face masks: skewed classes, two thirds of the boxes small.",
    ),
    Experiment(
        name="chess-retinanet",
        data="chess",
        recipes=("baseline", "libra", "pisa"),
        settings=NANO,
        note="Chess pieces, twelve classes.",
    ),
    Experiment(
        name="bccd-faster_rcnn",
        data="bccd",
        recipes=("baseline", "libra", "pisa"),
        settings=FRCNN,
        note="The same blood cells under a two-stage detector.",
    ),
    Experiment(
        name="bccd-faster_rcnn-parts",
        data="bccd",
        recipes=TALK,
        settings=FRCNN,
        note="The parts of Libra's sampling and of PISA, each alone, as in the authors' ablation.",
    ),
    *(
        Experiment(
            name=f"bccd-retinanet-{group}",
            data="bccd",
            recipes=("baseline", *names.split()),
            settings=Settings(epochs=10),
            note=note,
        )
        for group, (note, names) in BACKGROUND.items()
    ),
    *(
        Experiment(
            name=f"lookalikes-retinanet-{group}",
            data="lookalikes",
            recipes=("baseline", *names.split()),
            settings=Settings(epochs=9),
            dials=Dials(lookalikes=1.5, objects_per_image=2.0),
            note=f"Generated data with few objects among many look-alikes. {note}",
        )
        for group, (note, names) in BACKGROUND.items()
    ),
    Experiment(
        name="bccd-yolov2",
        data="bccd",
        recipes=("baseline", "lrm"),
        settings=Settings(detector="yolov2", epochs=10),
        note="Loss rank mining on the detector it was made for.",
    ),
    *(
        Experiment(
            name=f"{data}-retinanet-{group}",
            data=data,
            recipes=("baseline", *names.split()),
            settings=BOXES[data],
            seeds=2,
            note=f"{note}; the baseline has L1.",
        )
        for data, group, names, note in (
            ("bccd", "regression", f"{NORMS} {OVERLAPS} {OTHER_LOSSES}", "Box losses"),
            ("bccd", "kl", "kl_loss", "The box loss that learns how sure it is, with its variance voting in detection"),
            ("deeppcb", "norms", NORMS, "Losses of the box's code"),
            ("deeppcb", "overlaps", OVERLAPS, "Losses of the boxes' overlap"),
            ("deeppcb", "other-losses", f"{OTHER_LOSSES} kl_loss", "Other box losses"),
        )
    ),
    *(
        Experiment(
            name=f"{data}-{detector}-places",
            data=data,
            recipes=("baseline", *names.split(), also),
            settings=replace(settings, detector=detector),
            note="How close to the objects, and where about them, what trains lies.",
        )
        for data, settings in BOXES.items()
        for detector, names, also in (
            ("retinanet", PLACES, CANDIDATES + f"designed_anchors_{data}"),
            ("faster_rcnn", REGION_PLACES[data], f"baseline@{round(1.7 * settings.epochs)}"),
        )
    ),
    Experiment(
        name="bccd-retinanet-tight",
        data="bccd",
        recipes=("baseline", "tight_boxes", "rank_sort+mosaic", "baseline@13"),
        settings=TIGHT["bccd"],
        seeds=6,
        note="`tight_boxes` over more seeds, for its AP90, and a baseline that trains nearly as long.",
    ),
    Experiment(
        name="deeppcb-retinanet-tight",
        data="deeppcb",
        recipes=("baseline", "tight_boxes", "rank_sort+mosaic", "baseline@16"),
        settings=TIGHT["deeppcb"],
        seeds=6,
        note="`tight_boxes` on larger images: at 256x256 the median side of a box is 14 pixels, and an IoU of .9 "
        "allows an error of less than one.",
    ),
    Experiment(
        name="deeppcb-faster_rcnn-tight",
        data="deeppcb",
        recipes=("baseline", "tight_boxes", "baseline@21"),
        settings=replace(TIGHT["deeppcb"], detector="faster_rcnn"),
        note="The same in two stages, where `tight_boxes` is Cascade R-CNN, and a baseline of the same time.",
    ),
    Experiment(
        name="scales-retinanet-deep-pyramids",
        data="scales",
        recipes=(
            "baseline",
            "dynamic_head",
            *(
                CANDIDATES + name
                for name in ("nas_fpn_of_one_cell", "mlfpn_of_two_modules", "dynamic_head_of_one_block")
            ),
        ),
        settings=Settings(epochs=9),
        seeds=1,
        dials=SCALES,
        note="Generated data, nearly all objects near the smallest size. Deep pyramids, made shallow.",
    ),
    Experiment(
        name="facemask-retinanet-slow-pyramids",
        data="facemask",
        recipes=("baseline", *SLOW_PYRAMIDS),
        settings=Settings(epochs=10),
        seeds=1,
        note="The two pyramids that train slowly.",
    ),
    Experiment(
        name="deeppcb-retinanet-anchors",
        data="deeppcb",
        recipes=("baseline", CANDIDATES + "designed_anchors_deeppcb"),
        settings=BOXES["deeppcb"],
        note="Anchors designed for these boxes at the size of the training.",
    ),
    *(
        Experiment(
            name=f"{data}-retinanet-{group}",
            data=data,
            recipes=("baseline", *(name for name in names.split() if dials or name not in SLOW_PYRAMIDS)),
            settings=Settings(epochs=9 if dials else 10),
            seeds=seeds,
            dials=dials,
            note=f"{about}{note}",
        )
        for data, dials, about in (
            ("scales", SCALES, "Generated data, nearly all objects near the smallest size. "),
            ("facemask", None, ""),
        )
        for group, seeds, note, names in (
            ("pyramids", 1, "Pyramids in place of the FPN.", PYRAMIDS),
            (
                "best-pyramids",
                3,
                "The four pyramids that one seed, which is among these, has best over generated data and face masks.",
                BEST_PYRAMIDS,
            ),
            ("small", 3, "What looks at sizes.", SMALL),
            ("slices", 3, "Trained on whole images, detected in windows.", "sliced_inference"),
            ("small_objects", 3, "The named recipe.", "small_objects"),
        )
    ),
    *(
        Experiment(
            name=f"{data}-retinanet",
            data=data,
            recipes=("baseline", "small_objects", *also),
            settings=Settings(epochs=9),
            dials=dials,
            test_dials=test_dials,
            note=f"What `small_objects` does to the large ones. {about}",
        )
        for data, dials, test_dials, also, about in (
            (
                "even-sizes",
                SCALES,
                EVEN_SIZES,
                ("rank_sort+trident", "baseline@23"),
                "Generated data, trained as `scales`, where nearly all are near the smallest size (5 objects are "
                "large); tested on sizes of even frequency (315 are).",
            ),
            (
                "mixed-sizes",
                MIXED_SIZES,
                None,
                ("rank_sort+trident",),
                "Generated data with a milder skew of sizes: of the training objects a fifth are small, a sixth are "
                "large.",
            ),
        )
    ),
    *(
        Experiment(
            name=f"{data}-{detector}-classes",
            data=data,
            recipes=("baseline", *(name for name in names.split() if dials is None or name not in ALIKE)),
            settings=Settings(detector=detector, epochs=9 if dials else 10),
            seeds=3 if detector == "retinanet" else 2,
            dials=dials,
            test_dials=None if dials is None else Dials(),
            edges=EDGES[data],
            note=f"{about}{note}",
        )
        for data, dials, about in (
            ("skewed", SKEWED, "Generated data, one class a hundred times as frequent as another; even to test. "),
            ("facemask", None, ""),
        )
        for detector, note, names in (
            ("retinanet", "Class against class.", CLASSES),
            ("faster_rcnn", "Class against class, in the region head.", REGION_CLASSES),
        )
    ),
    *(
        Experiment(
            name=f"{data}-{detector}-balanced",
            data=data,
            recipes=("baseline", "balanced"),
            settings=replace(settings, detector=detector),
            probe=25,
            note="One method or none for each of the eight problems.",
        )
        for detector in ("retinanet", "faster_rcnn")
        for data, settings in WHOLE.items()
    ),
    Experiment(
        name="chess-retinanet-classes",
        data="chess",
        recipes=("baseline", "balanced_batches", "class_aware", "repeat_factor", "long_tail"),
        settings=WHOLE["chess"],
        edges=(80, 100),
        note="The three remedies that gained most of those that gained on the skewed data and on face masks, again.",
    ),
    Experiment(
        name="chess-retinanet-ablation",
        data="chess",
        recipes=tuple(ablation("balanced", recipes.parts("balanced", "dense"))),
        settings=WHOLE["chess"],
        probe=25,
        note="`balanced`, without each of its parts, and each of them alone.",
    ),
    *(
        Experiment(
            name=f"{data}-retinanet-probes",
            data=data,
            recipes=("baseline", "libra", "pisa", "balanced"),
            settings=settings,
            seeds=1,
            dials=dials,
            test_dials=None if dials is None else Dials(),
            probe=25,
            note="One seed, for the pictures of what drives the training.",
        )
        for data, settings, dials in (
            *((data, settings, None) for data, settings in WHOLE.items()),
            ("skewed", Settings(epochs=9), SKEWED),
        )
    ),
    *(
        Experiment(
            name=f"{data}-{detector}-choice-{group}",
            data=data,
            recipes=("baseline", *(CANDIDATES * hasattr(candidates, name) + name for name in names.split())),
            settings=replace(
                (TIGHT if group == "tight_boxes-more" else WHOLE).get(data, Settings(epochs=9)), detector=detector
            ),
            seeds=1,
            dials={"skewed": SKEWED, "scales": SCALES}.get(data),
            test_dials=Dials() if data == "skewed" else None,
            held_out=True,
            edges=EDGES.get(data, (10, 100)),
            note=f"What the parts of `{group.partition('-')[0]}` were chosen by: images held out of the training "
            "images.",
        )
        for group, detector, choice in (
            *((group, "retinanet", choice) for group, choice in CHOICES.items()),
            ("balanced", "faster_rcnn", REGION_CHOICES),
            ("tight_boxes-more", "faster_rcnn", TIGHT_REGION_CHOICES),
        )
        for data, names in choice.items()
    ),
)


REMARKS = {
    "bccd-retinanet-weights": (
        "Of `ghm` both halves cost: on BCCD's own validation images, after 8 epochs, the class loss alone reaches an "
        "AP of 44.7, the box loss alone 36.8, the baseline 48.8. With mu = 0.02 nearly every box that is off by more "
        "than a tenth falls into the last of the ten bins, which then has a tenth of the weight: 730 steps are too few."
    ),
    "deeppcb-retinanet-places": (
        "The `designed_anchors` of this table were designed for images of 192x256 and trained at 256x256; what those "
        "for the size of the training do is under deeppcb-retinanet-anchors."
    ),
    "deeppcb-faster_rcnn-places": (
        "`baseline@26` took 397 s a run and `cascade` 430 s, the baseline 241 s: here, far from the end of what they "
        "can learn, the time of a cascade is better spent on more epochs."
    ),
    "bccd-faster_rcnn-places": "`baseline@17` took 133 s a run and `cascade` 142 s, the baseline 80 s.",
    "bccd-retinanet-tight": (
        "A run of `tight_boxes` took 223 s, of `rank_sort+mosaic` 235 s, of `baseline@13` 215 s, of the baseline 181 s."
    ),
    "deeppcb-retinanet-tight": (
        "A run of `tight_boxes` took 537 s, of `rank_sort+mosaic` 589 s, of the baseline 515 s, which makes some 550 s "
        "for `baseline@16` (its own runs shared their cores). `tight_boxes` was `rank_sort+mosaic` before it got the "
        "reconfigured pyramid."
    ),
    "facemask-retinanet-classes": (
        "The runs of `long_tail`, and the last of `instance_switching`, were made on a CPU. The class that counts as "
        "rare has 14 test images: none of the intervals of its AP can tell."
    ),
    "facemask-retinanet-small": (
        "`sliced` trains and detects in windows. At the same number of steps it sees a third of the objects, and parts "
        "of them. Detection alone in windows, of what was trained on whole images, is under facemask-retinanet-slices."
    ),
    "scales-retinanet-pyramids": (
        "In a few hundred steps from random weights the deep pyramids (`nas_fpn` has seven cells, `mlfpn` eight "
        "modules) do not get far: what they do made shallow, and the dynamic head, is under "
        "scales-retinanet-deep-pyramids. `stdn` has a handful of channels left at the fine levels of so small a "
        "network."
    ),
    "lookalikes-retinanet-ranking": (
        "Within nine epochs the focal loss of the baseline hardly tells the objects from their look-alikes; losses "
        "that rank do so much earlier. `rank_sort` brings its own assignment and box loss with it, `alrp` its own box "
        "loss."
    ),
}
"""What was found out besides, in words, under the table of an experiment."""

ON_GPU = (
    *("scales-retinanet-small", "facemask-retinanet-small", "deeppcb-retinanet-places", "facemask-retinanet-classes"),
    *(
        experiment.name
        for experiment in EXPERIMENTS
        if experiment.held_out and not experiment.name.endswith(("-light", "-more"))
    ),
)
"""Those that were run on a GPU; the others on one thread of a CPU. In bfloat16, where the comparison does not say
otherwise."""

SIZES, FREQUENCIES = ("small", "medium", "large"), ("rare", "common", "frequent")
"""The groups of which a table shows the AP."""


def dataset(experiment: Experiment, root: Path, runs: Path) -> Annotations | None:
    """The experiment's data; None where they are not on this machine."""
    if experiment.dials is not None:
        data = make_dataset(
            runs / "data" / experiment.data,
            images=experiment.images,
            dials=experiment.dials,
            test_dials=experiment.test_dials,
        )
    elif (root / experiment.data).is_dir():
        data = read(root / experiment.data, strict=True)
    else:
        return None
    return split(data)[0] if experiment.held_out else data


def run_jobs(experiments: list[Experiment], root: Path, runs: Path, jobs: int, device: str, minutes: float) -> None:
    """The runs of all experiments, several at a time, each on one thread; none is begun in the last tenth of the time.

    Every process has the images from this one, which must not have touched the GPU before.
    """
    end = time.monotonic() + 60 * minutes
    images: dict[str, tuple] = {}
    wanted: dict[tuple[str, str, int], tuple] = {}
    for experiment in experiments:
        if experiment.runs not in images:
            data = dataset(experiment, root, runs)
            if data is None:
                print(f"{experiment.name}: left out, {root / experiment.data} is not there")
                continue
            images[experiment.runs] = tuple(
                decoded(part, experiment.settings.image_size, i) for i, part in enumerate(split(data))
            )
        for seed in range(experiment.seeds):
            for name in experiment.recipes:
                key = experiment.runs, name, seed
                probe = max(experiment.probe if seed == 0 else 0, wanted.get(key, (None, 0))[1])
                wanted[key] = experiment.settings, probe
    order = list(wanted)
    kinds = {name: kind_of(build(name, classes=2)) for name in {e.settings.detector for e in experiments}}
    fork = multiprocessing.get_context("fork")
    place = fork.Value("i", 0)

    def work() -> None:
        os.setpgrp()
        torch.set_num_threads(1)
        while True:
            with place.get_lock():
                turn = place.value
                place.value += 1
            if turn >= len(order) or time.monotonic() > end - 6 * minutes:
                return
            where, name, seed = order[turn]
            settings, probe = wanted[order[turn]]
            settings, started = replace(settings, seed=seed, epochs=epochs_of(name, settings.epochs)), time.monotonic()
            (training, training_images), (testing, testing_images) = images[where]
            try:
                recipe = recipe_of(name, kinds[settings.detector])
                run = run_one(
                    training,
                    testing,
                    runs / where / recipe.name / f"seed{seed}",
                    recipe=recipe,
                    settings=settings,
                    device=device,
                    probe=probe,
                    images=training_images,
                    test_images=testing_images,
                )
                ap = 100 * run["evaluation"]["metrics"]["AP"]
                print(f"{where} {name} seed {seed}: AP {ap:.1f}, {time.monotonic() - started:.0f} s", flush=True)
            except (ArithmeticError, RuntimeError, ValueError):  # the comparison will say so again
                print(f"{where} {name} seed {seed} failed", flush=True)
                traceback.print_exc()

    workers = [fork.Process(target=work) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
    for worker in workers:
        if worker.is_alive():  # its run goes on from its checkpoint another time
            os.killpg(worker.pid, signal.SIGKILL)


def decoded(part: Annotations, size: tuple[int, int], testing: int) -> tuple[Annotations, DetectionImages]:
    """A part of a dataset, and its images in memory."""
    images = DetectionImages(part, image_size=size, transforms=None if testing else flips())
    images.check()
    return part, images


def run(experiment: Experiment, root: Path, runs: Path) -> None:
    """Run one experiment to its end and keep what matters of it."""
    data = dataset(experiment, root, runs)
    if data is None:
        print(f"{experiment.name}: left out, {root / experiment.data} is not there")
        return
    shown = [0.0]

    def progress(name: str, seed: int, step: int, steps: int, losses: dict[str, float]) -> None:
        if time.monotonic() - shown[0] > 15 or step == steps:
            shown[0] = time.monotonic()
            print(f"\r{experiment.name}: {name} seed {seed}, step {step}/{steps}   ", end="", flush=True)

    result = compare(
        data,
        experiment.recipes,
        seeds=experiment.seeds,
        settings=experiment.settings,
        folder=runs / experiment.runs,
        progress=progress,
        probe=experiment.probe,
        edges=experiment.edges,
    )
    print()
    keep(experiment, result.results)
    from rich import print as show

    show(result.table())


def keep(experiment: Experiment, results: dict) -> None:
    """Write the figures, without pictures, curves and names of folders, so that the file stays small."""
    kept = {key: value for key, value in results.items() if key not in ("examples",)}
    kept["note"] = experiment.note
    kept["dataset"] = {**results["dataset"], "source": experiment.data}
    for recipe in kept["recipes"].values():
        recipe["runs"] = [
            {key: run[key] for key in ("seed", "status", "error", "train_seconds") if key in run}
            for run in recipe["runs"]
        ]
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    (EVIDENCE / f"{experiment.name}.json").write_text(json.dumps(rounded(kept), indent=1) + "\n")


def rounded(value):
    """Numbers to five places: what is beyond is noise, and bytes."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return value


def tables() -> None:
    """docs/evidence.md from the stored JSON files."""
    lines = [
        "# Evidence",
        "",
        "Each table is one comparison: the same images, epochs and seeds for every recipe. AP in points (0 to 100),",
        "mean and standard deviation over the seeds; the difference to the baseline with its paired 95 % interval over",
        "seeds and resampled test images. An interval that holds zero says that the runs cannot tell. What a recipe",
        "costs is in benchmarks.md. Rendered by `python bench/evidence.py --tables` from the files in docs/evidence.",
        "",
    ]
    lines += in_short()
    left = []
    for experiment in EXPERIMENTS:
        path = EVIDENCE / f"{experiment.name}.json"
        if path.exists():
            lines += table(experiment.name, json.loads(path.read_text()))
        else:
            left.append(f"`{experiment.name}`")
    if left:
        lines += [f"Listed in `bench/evidence.py` and not run yet: {', '.join(left)}.", ""]
    (ROOT / "docs" / "evidence.md").write_text("\n".join(lines))


def chosen() -> list[str]:
    """How the named recipes came about."""
    dense = {name: held_out(name, "retinanet") for name in ("baseline", "rank_sort", "rank_sort+repeat_factor")}
    region = {name: held_out(name, "faster_rcnn") for name in ("baseline", "cascade", "rank_sort+repeat_factor")}
    return [
        "The parts were chosen by the tables at the end, of a fifth of the training images, one seed each; the",
        "images that the other tables test on played no part. `balanced`: the highest mean AP over chess pieces,",
        f"blood cells and face masks ({dense['rank_sort+repeat_factor']}; Rank & Sort alone {dense['rank_sort']}, the "
        f"baseline {dense['baseline']}). In Faster R-CNN a cascade",
        f"has the highest ({region['cascade']}), at 1.7 times the time a step; of what costs little more than the "
        f"baseline ({region['baseline']})",
        f"it is the same two ({region['rank_sort+repeat_factor']}). `long_tail`: what gains most on the rare and the "
        "common classes of the skewed",
        "data and loses nothing on the frequent ones. `small_objects`: what gains most on the small objects of both",
        "sets and loses nothing on large ones; the plain hierarchy in place of the reconfigured FPN is as good",
        "there. A step takes 1.3 times the baseline's processor time (`bench/steps.py`). With TridentNet's",
        "branches instead it takes 2.9 times, and a baseline of 2.6 times the epochs gets further (`even-sizes`).",
        "`scales` and `facemask` have a handful of large objects: `even-sizes` and `mixed-sizes` have hundreds.",
        "`tight_boxes`: of the first candidates Rank & Sort with mosaics had the highest AP75 and AP90 on both sets",
        "(on circuit boards that small no AP90 says anything); with the reconfigured FPN both rise. The plain",
        "hierarchy in its place is as good at AP90 and better at AP75, but these are short trainings from random",
        "weights, and a pyramid is what a detector of some size is made with. In two stages a cascade has a higher",
        "AP75 and AP90 than the baseline on both sets, at 1.4 to 1.6 times its time; Rank & Sort with mosaics has too,",
        "as high on circuit boards and lower on blood cells, in the time of the baseline.",
    ]


def held_out(recipe: str, detector: str) -> str:
    """A recipe's AP by which the parts of `balanced` were chosen, the mean over its datasets."""
    records = [json.loads((EVIDENCE / f"{data}-{detector}-choice-balanced.json").read_text()) for data in WHOLE]
    return points(sum(record["recipes"][recipe]["metrics"]["AP"]["mean"] for record in records) / len(records))


def in_short() -> list[str]:
    """What the named recipes gain, as a table."""
    lines = [
        "## The named recipes in short",
        "",
        "| recipe | data | detector | images | seeds | baseline | recipe | difference | AP75 | AP90 | small | large "
        "| rare | frequent |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ("balanced", "long_tail", "small_objects", "tight_boxes"):
        for experiment in EXPERIMENTS:
            path = EVIDENCE / f"{experiment.name}.json"
            if experiment.held_out or experiment.seeds < 2 or not path.exists():
                continue
            record = json.loads(path.read_text())
            if name not in record["recipes"] or experiment.name.endswith("-ablation"):
                continue
            metrics, base = (record["recipes"][which]["metrics"] for which in (name, record["baseline"]))
            if metrics["AP"]["difference"] is None:
                continue
            groups = ("AP75", "AP90", "AP_small", "AP_large", "AP_rare", "AP_frequent")
            gains = ("-" if metrics[m]["difference"] is None else between(metrics[m]["difference"]) for m in groups)
            lines.append(
                f"| `{name}` | {experiment.data} | {record['detector']} | {size_of(record)} | {len(record['seeds'])} | "
                f"{points(base['AP']['mean'])} | {points(metrics['AP']['mean'])} | "
                f"{between(metrics['AP']['difference'])} | {' | '.join(gains)} |"
            )
    return [*lines, "", "`images`: height x width. The columns from AP75 on are differences too.", "", *chosen(), ""]


def size_of(record: dict) -> str:
    """Height and width of the images of a comparison."""
    return "x".join(map(str, record["image_size"]))


def points(value: float | None, sign: str = "") -> str:
    """AP as it is read: 0 to 100."""
    return "-" if value is None else f"{100 * value:{sign}.1f}"


def between(gap: dict) -> str:
    """A difference with its interval."""
    return f"{points(gap['mean'], '+')} [{points(gap['low'], '+')}, {points(gap['high'], '+')}]"


def table(title: str, record: dict) -> list[str]:
    """One comparison in Markdown, with a sentence on every remedy."""
    settings, data = record["settings"], record["dataset"]
    groups = FREQUENCIES if title.endswith(("-classes", "-long_tail")) else SIZES
    lines = [
        f"## {title}",
        "",
        f"{record['note']} {data['source']}, {record['detector']} {record['size']}. "
        f"{data['train']['images']} training and {data['test']['images']} test images, "
        f"{settings['epochs']} epochs at {size_of(record)}, "
        f"{len(record['seeds'])} seed{'s' * (len(record['seeds']) > 1)}"
        f"{', on a GPU' * (title in ON_GPU)}"
        f"{', in float32' * (record.get('precision') == ['32-true'])}.",
        "",
        f"| recipe | AP | difference | AP50 | AP75 | AP90 | {' | '.join(groups)} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    sentences = []
    for name, recipe in record["recipes"].items():
        metrics, done = recipe["metrics"], [run for run in recipe["runs"] if run["status"] == "done"]
        if not done:
            lines.append(f"| {name} | failed | | | | | | | |")
            continue
        ap, gap = metrics["AP"], metrics["AP"]["difference"]
        spread = "" if ap["spread"] is None else f" ± {points(ap['spread'])}"
        shown = "" if gap is None else between(gap)
        columns = ("AP50", "AP75", "AP90", *(f"AP_{group}" for group in groups))
        rest = (points(metrics[m]["mean"]) for m in columns)
        lines.append(f"| {name} | {points(ap['mean'])}{spread} | {shown} | {' | '.join(rest)} |")
        if gap is not None:
            sentences.append(f"- `{name}`: {verdict(gap, len(record['seeds']))}")
    remark = [REMARKS[title], ""] if title in REMARKS else []
    return [*lines, "", *sentences, "", *remark]


def verdict(gap: dict, seeds: int) -> str:
    """What the interval allows to say; with one seed it knows nothing of the luck of a training."""
    if gap["low"] > 0:
        return "helps here." if seeds > 1 else "above the baseline, in one training of each."
    if gap["high"] < 0:
        return "harms here." if seeds > 1 else "below the baseline, in one training of each."
    return "no difference that these seeds and images could show."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "evidence")
    parser.add_argument("--only", default="", help="names, with commas")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--jobs", type=int, default=0, help="so many runs at a time, and no files yet")
    parser.add_argument("--minutes", type=float, default=60.0, help="with --jobs, how long")
    parser.add_argument("--device", default="cpu", help="with --jobs")
    options = parser.parse_args()
    chosen = EXPERIMENTS
    if options.only:
        names = [e.name for e in EXPERIMENTS]
        chosen = [EXPERIMENTS[names.index(name)] for name in options.only.split(",")]
    if options.jobs:
        left = [e for e in chosen if options.only or not (EVIDENCE / f"{e.name}.json").exists()]
        run_jobs(left, options.data, options.runs, options.jobs, options.device, options.minutes)
        return
    for experiment in chosen:
        done = (EVIDENCE / f"{experiment.name}.json").exists()
        if options.list:
            print(f"{'done' if done else 'left':5s} {experiment.name}")
        elif not options.tables and (not done or options.only):
            run(experiment, options.data, options.runs)
            tables()
    if options.tables:
        tables()


if __name__ == "__main__":
    main()
