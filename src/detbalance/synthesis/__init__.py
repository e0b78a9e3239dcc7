"""What makes new images in the training step itself, where the detector can be asked about them.

Called on the batch as (images, targets, detect) -> (images, targets, dict of losses of its own), once a training step;
nothing of it runs in detection. `detect(images, targets)` gives the detector's losses with its parameters held fixed
and gradient in the images. Images are float (3, H, W) of any sizes, targets in torchvision's form. A module: as a part
of the model its parameters are in the optimizer and its state in the checkpoint; `attach` sees to that.
"""

from .task_aware import TaskAwareSynthesis

__all__ = ["TaskAwareSynthesis"]
