"""What the training tells the sampling of its images, and what makes new ones: AP of each class, or the present loss of
each image.

Only a method that asks (`needs`) costs anything. What is gathered goes with the checkpoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .adapters.stage import StageLoss, in_float32
from .data.images import DetectionImages
from .detections import Predictions
from .image_sampling import ClassAwareSampling, Feedback, ImageOrder
from .prediction import predict

__all__ = ["Watch"]


class Watch:
    """Watches a training for the sampling of its images and for its augmentation.

    Args:
        model: the detector, with its recipe.
        images: the training images.
        fabric: the processes of the run.
        epochs: of the whole training.
    """

    def __init__(self, model: nn.Module, images: DetectionImages, fabric: Fabric, epochs: int) -> None:
        self.model, self.images, self.fabric, self.epochs = model, images, fabric, epochs
        sampling = model.recipe.images
        listeners = (sampling, getattr(sampling, "images", None), model.recipe.augment)
        self.needs = {getattr(listener, "needs", "") for listener in listeners} - {""}
        self._asking = [one for one in listeners if getattr(one, "needs", "") == "ap" and hasattr(one, "every")]
        self._rows: list[int] = []
        self._some: DetectionImages | None = None
        self._state: dict[str, Tensor] = {}
        if "loss" in self.needs:
            count = len(images.annotations)
            zero, unknown = torch.zeros(count, dtype=torch.float64), torch.full((count,), torch.nan).double()
            self._state = {"loss": unknown, "sum": zero, "steps": zero.clone()}
            self._heads = [part for part in model.modules() if isinstance(part, StageLoss)]
            for head in self._heads:
                head.register_forward_hook(self._add)

    def batch(self, targets: list[dict[str, Tensor]]) -> None:
        """The images of the step that follows."""
        self._rows = [int(target["image_id"]) for target in targets]

    def begin(self, epoch: int) -> None:
        """An epoch begins: what was gathered becomes known."""
        if epoch and any(epoch % one.every == 0 for one in self._asking):
            count = max(one.images for one in self._asking)
            found = self._evaluate(count) if self.fabric.global_rank == 0 else None
            self._state["ap"] = self.fabric.broadcast(found)
        if "loss" in self.needs:
            state = self._total()
            seen = state["steps"] > 0
            self._state["loss"] = torch.where(seen, state["sum"] / state["steps"], state["loss"])
            self._state["sum"].zero_()
            self._state["steps"].zero_()

    def known(self) -> Feedback | None:
        """What sampling and augmentation of the present epoch go by; None if neither asks."""
        if not self.needs:
            return None
        known = {name: self._state[name].numpy() for name in ("ap", "loss") if name in self._state}
        return Feedback(epochs=self.epochs, **known)

    def state(self) -> dict[str, Tensor]:
        """For the checkpoint; every process must call it."""
        return self._total() if "loss" in self.needs else dict(self._state)

    def restore(self, state: dict[str, Tensor]) -> None:
        """From the checkpoint. Sums are of all processes: the first takes them over."""
        for name, value in state.items():
            first = self.fabric.global_rank == 0 or name not in ("sum", "steps")
            self._state[name] = value.clone() if first else torch.zeros_like(value)

    def _total(self) -> dict[str, Tensor]:
        """The state, with the sums of all processes."""
        state = {name: value.clone() for name, value in self._state.items()}
        if self.fabric.world_size > 1:
            for name in ("sum", "steps"):
                state[name] = self.fabric.all_reduce(state[name].to(self.fabric.device), reduce_op="sum").cpu()
        return state

    @torch.no_grad()
    def _add(self, part: StageLoss, inputs: tuple, output: Any) -> None:
        """A hook: the losses of a head, each image's own average."""
        samples, *own = inputs
        if not self.model.training or not self._rows:
            return
        with torch.autocast(samples.logits.device.type, enabled=False):
            samples = in_float32(samples)
            # YOLOv2 hands over its own losses of each row.
            loss = sum(own[0].values()) if own else part.candidate_loss(samples)
            values = loss.double() * samples.norm * len(self._rows)
            image = torch.zeros(len(self._rows), dtype=torch.float64, device=values.device)
            # A backbone of several branches has the batch in it once for each of them.
            image.index_add_(0, samples.image % len(image), values)
        rows = torch.tensor(self._rows)
        self._state["sum"].index_add_(0, rows, image.cpu())
        if part is self._heads[0]:  # of two heads one counts the steps
            self._state["steps"].index_add_(0, rows, torch.ones(len(rows), dtype=torch.float64))

    def _evaluate(self, count: int) -> Tensor:
        """(K,) AP of each class on some of the training images, NaN where none of them holds it."""
        from .evaluation import evaluate

        data = self.images.annotations
        if self._some is None:  # kept: its images are decoded once
            order = ImageOrder(data, ClassAwareSampling(background=True), seed=self.images.seed)
            some = data.subset(np.unique(order.rows(0)[:count]))
            self._some = DetectionImages(some, image_size=self.images.image_size)
        images, some = self._some, self._some.annotations
        found = predict(self.model, some, image_size=images.image_size, device=self.fabric.device, images=images)
        self.model.train()
        by_class = evaluate(some, _joined(found), training=data).by_class
        ap = [by_class[name]["AP"] for name in data.classes]
        return torch.tensor([np.nan if value is None else value for value in ap], dtype=torch.float64)


def _joined(found: list[dict[str, np.ndarray]]) -> Predictions:
    """The detections of all images in one table."""
    image = np.repeat(np.arange(len(found)), [len(one["scores"]) for one in found])
    boxes = np.concatenate([one["boxes"] for one in found]).reshape(-1, 4)
    bbox = np.column_stack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]))
    label, score = (np.concatenate([one[name] for one in found]) for name in ("labels", "scores"))
    return Predictions(image, label.astype(np.int64), bbox, score)
