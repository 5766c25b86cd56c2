from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, MeanIoU

from dermprompt.evaluation.overlap import dice, dice_matrix, iou


def random_masks(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((n, 20, 24)) < rng.random((n, 1, 1))).astype(np.uint8)


# Both empty; one empty; the other empty; half of it; all of it; apart.
PRED = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
TARGET = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 1]])
HAND = PRED.reshape(6, 2, 2).astype(np.uint8), TARGET.reshape(6, 2, 2).astype(np.uint8)


def test_hand_worked_cases() -> None:
    np.testing.assert_allclose(dice(*HAND), [1, 0, 0, 1 / 2, 1, 0])
    np.testing.assert_allclose(iou(*HAND), [1, 0, 0, 1 / 3, 1, 0])


@pytest.mark.parametrize(("ours", "theirs"), [(dice, DiceMetric), (iou, MeanIoU)])
def test_equals_monai(ours, theirs) -> None:
    pred, target = random_masks(30, 0), random_masks(30, 1)
    pred[0] = target[0] = pred[1] = 0
    metric = theirs(include_background=True, ignore_empty=False)
    want = metric(torch.from_numpy(pred)[:, None], torch.from_numpy(target)[:, None])
    np.testing.assert_allclose(ours(pred, target), want[:, 0], atol=1e-6)


def test_bool_and_uint8_agree_and_large_areas_do_not_overflow() -> None:
    pred, target = random_masks(8, 0), random_masks(8, 1)
    np.testing.assert_array_equal(dice(pred, target), dice(pred.astype(bool), target.astype(bool)))
    assert dice(*[np.ones((1, 600, 600), np.uint8)] * 2) == 1


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_dice_matrix_holds_every_pair(chunk: int) -> None:
    pred, target = random_masks(5, 0), random_masks(9, 1)
    pred[0] = target[0] = 0
    want = [[dice(p[None], t[None])[0] for t in target] for p in pred]
    np.testing.assert_allclose(dice_matrix(pred, target, chunk), want)
