"""Mask fidelity and text fidelity: whether generated images show the given mask and the prompted diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dermprompt.evaluation.overlap import Masks, dice
from dermprompt.results import MaskFidelity, TextFidelity


def mask_fidelity(
    real_pred: Masks, generated_pred: Masks, masks: Masks, seed: int, num_shuffles: int = 20
) -> MaskFidelity:
    """Mean Dice between a reference segmenter's masks (NHW) and the given ones; cf. FreeMask, Yang et al. (2023).

    ``real_pred`` and ``generated_pred`` are its masks of the real and the generated images.
    Raises ValueError for fewer than two images, which cannot be shuffled.
    """
    by_chance = np.stack([dice(generated_pred, masks[_derangement(len(masks), seed, k)]) for k in range(num_shuffles)])
    error = by_chance.std() / np.sqrt(len(masks))
    return MaskFidelity(
        real=float(dice(real_pred, masks).mean()),
        generated=float(dice(generated_pred, masks).mean()),
        shuffled=float(by_chance[0].mean()),
        n=len(masks),
        chance=float(by_chance.mean() + 1.96 * error),
    )


def text_fidelity(read: Sequence[str], prompted: Sequence[str], seed: int, num_shuffles: int = 100) -> TextFidelity:
    """Balanced accuracy, Brodersen et al. (2010), of the classes ``read`` from N samples.

    ``shuffled`` is its mean over ``num_shuffles`` random orders of the prompts. Raises ValueError if fewer than two
    classes were prompted, because a generator that always shows the same class would then seem faithful.
    """
    said, asked = np.array(read), np.array(prompted)
    if len(np.unique(asked)) < 2:
        raise ValueError(f"prompted: {sorted(set(prompted))}; text fidelity needs at least 2 classes")
    orders = [np.random.default_rng([seed, k]).permutation(len(asked)) for k in range(num_shuffles)]
    shuffled = [_balanced_accuracy(said, asked[order]) for order in orders]
    return TextFidelity(_balanced_accuracy(said, asked), float(np.mean(shuffled)), len(asked))


def _balanced_accuracy(said: NDArray[np.str_], asked: NDArray[np.str_]) -> float:
    assert said.shape == asked.shape, (said.shape, asked.shape)
    return float(np.mean([np.mean(said[asked == name] == name) for name in np.unique(asked)]))


def _derangement(n: int, seed: int, number: int = 0) -> NDArray[np.int64]:
    """A random permutation without fixed points, a single cycle through all indices; it differs for each ``number``."""
    if n < 2:
        raise ValueError(f"masks: {n} image; mask fidelity needs at least 2")
    cycle = np.random.default_rng([seed, number] if number else seed).permutation(n)
    partner = np.empty_like(cycle)
    partner[cycle] = np.roll(cycle, 1)
    return partner
