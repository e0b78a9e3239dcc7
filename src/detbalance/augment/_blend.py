"""How the edge of a pasted piece meets the image: hard, blurred, or with the colours of the place."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage, sparse
from scipy.linalg import solveh_banded
from scipy.sparse.linalg import splu
from torch import Tensor

BLENDS = ("none", "gaussian", "poisson")
REACH = 3  # pixels around the mask that a blend may look at
_TAPS = np.exp(-(np.arange(-2.0, 3.0) ** 2) / 8)  # the authors' width (Dwibedi et al.): 5 x 5, standard deviation 2
_TAPS /= _TAPS.sum()
_BAND = 2_000_000  # numbers in a banded table, which below this size is quicker than a sparse one


def blend(name: str, view: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
    """What the image shows after the paste.

    Args:
        name: one of BLENDS.
        view, pixels: (3, h, w) float: the image, and what is pasted.
        mask: (h, w) bool.
    """
    if name == "gaussian":
        alpha = mask.numpy().astype(np.float32)
        for axis in (0, 1):
            alpha = ndimage.correlate1d(alpha, _TAPS, axis, mode="constant")
        return view + torch.from_numpy(alpha) * (pixels - view)
    if name == "poisson":
        return torch.from_numpy(poisson(view.numpy(), pixels.numpy(), mask.numpy()))
    return torch.where(mask, pixels, view)


def poisson(view: np.ndarray, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Perez et al. 2003, equation 7 with the source's gradients: within the mask the differences between neighbours are
    those of `pixels`, on its border the image stands. Solved directly, (3, h, w) -> (3, h, w), in the type of `view`.

    What is added to `pixels` is harmonic: it interpolates the step in colour along the border. A neighbour beyond the
    window sets no condition; where none does, `pixels` stay as they are.
    """
    if mask.shape[0] < mask.shape[1]:  # rows as short as can be: the table is as wide as they are
        turned = (np.swapaxes(planes, -1, -2) for planes in (view, pixels, mask))
        return np.swapaxes(poisson(*turned), -1, -2)
    mask, rows = mask.astype(bool), np.full((mask.shape[0] + 2, mask.shape[1] + 2), -2)
    rows[1:-1, 1:-1] = -1
    rows[1:-1, 1:-1][mask] = np.arange(mask.sum())
    step = np.pad(view - pixels, ((0, 0), (1, 1), (1, 1)))
    y, x = np.nonzero(mask)
    y, x = y + 1, x + 1
    degree, right, pairs = np.zeros(len(y)), np.zeros((len(y), 3), view.dtype), []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        beside = rows[y + dy, x + dx]
        degree += beside > -2
        right += (step[:, y + dy, x + dx] * (beside == -1)).T
        pairs.append(np.stack((np.flatnonzero(beside >= 0), beside[beside >= 0])))
    if not len(y) or sum(pair.shape[1] for pair in pairs) == degree.sum():  # nothing to paste, or no border
        return np.where(mask, pixels, view)
    result = np.array(view)
    result[:, mask] = pixels[:, mask] + _solved(degree, np.concatenate(pairs[:2], 1), right).T
    return result


def _solved(degree: np.ndarray, pairs: np.ndarray, right: np.ndarray) -> np.ndarray:
    """x of A x = right: A has `degree` on its diagonal and -1 at the `pairs` (2, P) of neighbours, the lower first."""
    here, there = pairs
    wide = int((there - here).max(initial=0))
    if (wide + 1) * len(degree) <= _BAND:
        table = np.zeros((wide + 1, len(degree)), right.dtype)
        table[0] = degree
        table[there - here, here] = -1
        return solveh_banded(table, right, lower=True, check_finite=False, overwrite_ab=True, overwrite_b=True)
    half = sparse.csc_array((-np.ones(len(here)), (here, there)), shape=(len(degree),) * 2)
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    return splu((half + half.T + sparse.diags_array(degree)).tocsc(), **options).solve(right.astype(float))
