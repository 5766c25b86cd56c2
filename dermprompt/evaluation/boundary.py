"""Boundary measures: HD95 and NSD. Masks are HW, bool or uint8 in {0, 1}, of the same shape.

Both measures are relative to the image diagonal, because ISIC's images differ in size. If one mask is empty, no
distance is defined and the worst value is returned; if both are, the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dermprompt.upstream import quiet_monai

Mask = NDArray[np.bool_] | NDArray[np.uint8]

# Share of the diagonal: seven pixels at 512 x 512.
TOLERANCE = 0.01


def hd95(pred: Mask, target: Mask) -> float:
    """95th percentile of the distances between the outlines, the larger of both directions (Huttenlocher et al. 1993;
    the percentile as in BraTS), as a share of the diagonal; 0 is best. Both empty: 0; one empty: 1.
    """

    from monai.metrics import compute_hausdorff_distance  # takes seconds, and a report of finished scores needs none

    measure = partial(compute_hausdorff_distance, include_background=True, percentile=95)
    found = _unless_empty(measure, pred, target)
    return float(pred.any() != target.any()) if found is None else found / math.hypot(*pred.shape)


def surface_dice(pred: Mask, target: Mask, tolerance: float = TOLERANCE) -> float:
    """Normalized surface distance (Nikolov et al. 2021): the share of both outlines within ``tolerance`` diagonals of
    the other outline; 1 is best. Both empty: 1; one empty: 0.
    """
    from monai.metrics import compute_surface_dice

    pixels = tolerance * math.hypot(*pred.shape)
    measure = partial(compute_surface_dice, class_thresholds=[pixels], include_background=True)
    found = _unless_empty(measure, pred, target)
    return float(pred.any() == target.any()) if found is None else found


def _unless_empty(measure: Callable[[Tensor, Tensor], Tensor], pred: Mask, target: Mask) -> float | None:
    assert pred.shape == target.shape, (pred.shape, target.shape)
    if not (pred.any() and target.any()):
        return None
    batches = [torch.from_numpy(np.asarray(mask, np.float32))[None, None] for mask in (pred, target)]
    with quiet_monai():
        return float(measure(*batches))
