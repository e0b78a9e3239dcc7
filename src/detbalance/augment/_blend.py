"""How the edge of a pasted piece meets the image: hard, blurred, or with the colours of the place."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor
from torchvision.transforms.v2 import functional as F

BLENDS = ("none", "gaussian", "poisson")
REACH = 3  # pixels around the mask that a blend may look at


def blend(name: str, view: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
    """What the image shows after the paste.

    Args:
        name: one of BLENDS.
        view, pixels: (3, h, w) float: the image, and what is pasted.
        mask: (h, w) bool.
    """
    if name == "gaussian":
        # The authors' width (Dwibedi et al.): 5 x 5, standard deviation 2.
        alpha = F.gaussian_blur(_padded(mask[None].float()), [5, 5], [2.0, 2.0])[..., REACH:-REACH, REACH:-REACH]
        return view + alpha * (pixels - view)
    if name == "poisson":
        moved = poisson(view.double().numpy(), pixels.double().numpy(), mask.numpy())
        return torch.from_numpy(moved).to(view.dtype)
    return torch.where(mask, pixels, view)


def poisson(view: np.ndarray, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Perez et al. 2003, equation 7 with the source's gradients: within the mask the differences between neighbours are
    those of `pixels`, on its border the image stands. Solved exactly, (3, h, w) -> (3, h, w).

    What is added to `pixels` is harmonic: it interpolates the step in colour along the border. A neighbour beyond the
    window sets no condition; where none does, `pixels` stay as they are.
    """
    mask, rows = mask.astype(bool), np.full(np.pad(mask, 1).shape, -2)
    rows[1:-1, 1:-1] = -1
    rows[1:-1, 1:-1][mask] = np.arange(mask.sum())
    step = np.pad(view - pixels, ((0, 0), (1, 1), (1, 1)))
    y, x = np.nonzero(mask)
    y, x = y + 1, x + 1
    degree, right, pairs = np.zeros(len(y)), np.zeros((len(y), 3)), []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        beside = rows[y + dy, x + dx]
        degree += beside > -2
        right += (step[:, y + dy, x + dx] * (beside == -1)).T
        pairs.append(np.stack((np.flatnonzero(beside >= 0), beside[beside >= 0])))
    here, there = np.concatenate(pairs, 1)
    if not len(y) or len(here) == degree.sum():  # nothing to paste, or no border
        return np.where(mask, pixels, view)
    matrix = sparse.csc_array((-np.ones(len(here)), (here, there)), shape=(len(y),) * 2) + sparse.diags_array(degree)
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    result = np.array(view)
    result[:, mask] = pixels[:, mask] + splu(matrix.tocsc(), **options).solve(right).T
    return result


def _padded(mask: Tensor) -> Tensor:
    return torch.nn.functional.pad(mask, (REACH,) * 4)
