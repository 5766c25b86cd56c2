"""The losses against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dermprompt.generator.pix2pixhd.losses import adversarial_loss, feature_matching_loss


def features(*scales: list[list[float]]) -> list[list[Tensor]]:
    return [[torch.tensor(layer) for layer in scale] for scale in scales]


def test_adversarial_loss_sums_the_scales() -> None:
    # Only predictions count: ((1-1)² + (3-1)²) / 2 = 2 and (0-1)² = 1.
    outputs = features([[9.0], [1.0, 3.0]], [[9.0], [0.0]])
    assert float(adversarial_loss(outputs, target=1)) == pytest.approx(3)
    # (1² + 3²) / 2 = 5 and 0.
    assert float(adversarial_loss(outputs, target=0)) == pytest.approx(5)


def test_feature_matching_by_hand() -> None:
    # Two layers besides the prediction: weight 4/2. Two scales: half of each.
    fake = features([[1.0, 2.0], [0.0], [50.0]], [[0.0], [1.0], [60.0]])
    real = features([[0.0, 0.0], [3.0], [0.0]], [[0.0], [0.0], [0.0]])
    # Scale 1: 1.5 + 3 = 4.5; scale 2: 0 + 1 = 1; 2 · (4.5 + 1) / 2.
    assert float(feature_matching_loss(fake, real)) == pytest.approx(5.5)


def test_feature_matching_weight_is_one_at_three_layers() -> None:
    # Four layers besides the prediction, as n_layers = 3 has: 4 / (3 + 1) = 1.
    fake, real = features([[1.0], [1.0], [1.0], [1.0], [9.0]]), features([[0.0]] * 5)
    assert float(feature_matching_loss(fake, real)) == pytest.approx(4)


def test_feature_matching_does_not_train_on_the_real_side() -> None:
    fake, real = features([[1.0], [0.0]]), features([[0.0], [0.0]])
    for layer in (*fake[0], *real[0]):
        layer.requires_grad_()
    feature_matching_loss(fake, real).backward()
    assert fake[0][0].grad is not None
    assert real[0][0].grad is None
