"""A run folder: what it says of itself, whose it is, and the model in it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from . import __version__, detectors, recipes
from .adapters import attach, kind_of
from .anchor_settings import AnchorSettings
from .atomic import write_json
from .data.annotations import Annotations
from .recipe import Recipe

__all__ = ["Settings", "build_model", "claim", "describe", "epochs_of", "load_model", "recipe_of", "same"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a run learns, apart from the data and the recipe."""

    detector: str = "retinanet"
    size: str = "nano"
    image_size: tuple[int, int] = (192, 256)
    """height and width that images are scaled into, keeping their shape"""
    epochs: int = 15
    batch_size: int = 4
    """images a step, over all processes"""
    optimizer: str = "adamw"
    """"adamw" or "sgd" """
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    """of SGD"""
    warmup: float = 0.1
    """share of the steps over which the rate rises; then it falls by a half cosine to a hundredth"""
    clip: float = 1.0
    """largest norm of the gradient; 0 for none"""
    seed: int = 0
    weights: str | None = None
    """pretrained weights of the backbone, as torchvision names them"""

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"expected optimizer 'adamw' or 'sgd' but got {self.optimizer!r}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1 but got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"expected warmup in [0, 1) but got {self.warmup}")
        object.__setattr__(self, "image_size", tuple(self.image_size))


def build_model(
    settings: Settings, classes: tuple[str, ...], recipe: Recipe | str, data: Annotations | None = None
) -> nn.Module:
    """A fresh detector from the run's seed, with its recipe attached.

    YOLOv2 takes its anchors from the `data` that it will train on; they are part of its weights.
    """
    torch.manual_seed(settings.seed)
    model = detectors.build(
        settings.detector,
        classes=len(classes),
        size=settings.size,
        image_size=settings.image_size,
        weights=settings.weights,
    )
    if data is not None and hasattr(model, "fit_anchors"):
        model.fit_anchors(data)
    if isinstance(recipe, str):
        recipe = recipe_of(recipe, kind_of(model))
    return attach(model, recipe)


def recipe_of(name: str, kind: str) -> Recipe:
    """A recipe by name; `name@16`, which trains for 16 epochs, keeps that name.

    >>> recipe_of("focal@16", "dense").name
    'focal@16'
    """
    alone, epochs = _timed(name)
    recipe = recipes.get(alone, kind)
    return recipe if epochs is None else replace(recipe, name=f"{recipe.name}@{epochs}")


def epochs_of(name: str, usual: int) -> int:
    """For how many epochs a recipe of that name trains.

    >>> epochs_of("focal@16", 10), epochs_of("focal", 10)
    (16, 10)
    """
    epochs = _timed(name)[1]
    return usual if epochs is None else epochs


def _timed(name: str) -> tuple[str, int | None]:
    """`name@epochs` in its two parts; a path may hold an @."""
    alone, at, epochs = name.rpartition("@")
    return (alone, int(epochs)) if at and epochs.isdecimal() else (name, None)


def describe(data: Annotations, recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """What a run folder says of itself: enough to know whether two runs are the same, and to run it again."""
    anchors = {} if recipe.anchors is None else {"anchors": asdict(recipe.anchors)}
    return {
        "recipe": recipe.name,
        **anchors,
        "repr": repr(recipe),
        "settings": {**asdict(settings), "image_size": list(settings.image_size)},
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint(),
            "images": len(data),
            "boxes": len(data.boxes),
            "classes": list(data.classes),
        },
        "versions": {
            "detbalance": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        },
    }


def claim(folder: Path, described: dict[str, Any], resume: bool) -> None:
    """Make the folder this run's own. Raises ValueError if it holds a run of other settings."""
    path = folder / "settings.json"
    if path.exists():
        there = json.loads(path.read_text())
        differing = [key for key in ("repr", "settings") if there.get(key) != described[key]]
        if there.get("data", {}).get("fingerprint") != described["data"]["fingerprint"]:
            differing.append("data")
        if "precision" in there and there["precision"] != described.get("precision"):
            differing.append("precision")
        if differing and resume:
            raise ValueError(
                f"{folder} holds a run that differs in {', '.join(differing)}; use another folder, or --no-resume to "
                f"start it anew"
            )
    if not resume:
        for name in ("checkpoint.pt", "model.pt", "history.json", "probes.npz", "predictions.json", "evaluation.json"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, described)


def precision_of(folder: Path) -> str | None:
    """In which precision the run that stands in a folder is trained; None if there is none, or it does not say."""
    path = folder / "settings.json"
    return json.loads(path.read_text()).get("precision") if path.exists() else None


def load_model(folder: Path | str, recipe: Recipe | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A finished run's model, ready to predict, and its settings.

    A recipe of your own that changes the architecture (neck, head) has to be given; named ones are found, and so are
    anchors, where that is all it has.

    Raises FileNotFoundError if the run is not finished.
    """
    folder = Path(folder)
    described = json.loads((folder / "settings.json").read_text())
    saved = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    settings = Settings(**described["settings"])
    if recipe is None and "anchors" in described and described["recipe"] not in recipes.names():
        alone = Recipe(name=described["recipe"], anchors=AnchorSettings.of(described["anchors"]))
        recipe = alone if described["repr"] == repr(alone) else None
    model = build_model(settings, tuple(saved["classes"]), recipe or described["recipe"])
    model.load_state_dict(saved["model"])
    return model.eval(), described


def same(folder: Path, training: Annotations, testing: Annotations | None, recipe: Recipe, settings: Settings) -> bool:
    """Does the folder hold a run of these very settings (and, if finished, on this test set)?"""
    path = folder / "settings.json"
    if not path.exists():
        return False
    there, wanted = json.loads(path.read_text()), describe(training, recipe, settings)
    if any(there.get(key) != wanted[key] for key in ("repr", "settings")):
        return False
    if there["data"]["fingerprint"] != wanted["data"]["fingerprint"]:
        return False
    return testing is None or json.loads((folder / "evaluation.json").read_text())["test"] == testing.fingerprint()
