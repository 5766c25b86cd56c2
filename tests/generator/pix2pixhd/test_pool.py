"""The pool's rule: fill first, then exchange every other image, by (seed, step) alone."""

from __future__ import annotations

import torch
from torch import Tensor

from dermprompt.generator.pix2pixhd.pool import ImagePool


def batch(step: int) -> Tensor:
    """Two pairs that are told apart by their value."""
    return torch.stack([torch.full((5, 2, 2), float(2 * step + row)) for row in range(2)])


def values(pairs: Tensor) -> list[int]:
    return [int(one) for one in pairs[:, 0, 0, 0]]


def test_until_it_is_full_images_are_kept_and_used() -> None:
    pool = ImagePool(4, seed=0)
    assert [values(pool.exchange(batch(step), step)) for step in range(2)] == [[0, 1], [2, 3]]
    assert values(torch.stack(pool.pairs)) == [0, 1, 2, 3]


def test_then_every_other_image_is_exchanged_and_none_is_lost() -> None:
    pool, given = ImagePool(4, seed=0), []
    for step in range(500):
        given.append(values(pool.exchange(batch(step), step)))
    told = [one for pair in given for one in pair] + values(torch.stack(pool.pairs))
    # Filling gives the first four twice: once as they came, and once when they leave the pool.
    assert sorted(told) == sorted([*range(1000), *range(4)])
    exchanged = sum(one // 2 != step for step, pair in enumerate(given) for one in pair)
    assert 440 < exchanged < 560


def test_it_is_a_function_of_seed_and_step() -> None:
    def run(seed: int) -> list[list[int]]:
        pool = ImagePool(4, seed)
        return [values(pool.exchange(batch(step), step)) for step in range(20)]

    assert run(0) == run(0) != run(1)


def test_a_pool_holds_no_batch_alive() -> None:
    pool = ImagePool(1, seed=0)
    pool.exchange(batch(0), 0)
    assert pool.pairs[0].untyped_storage().nbytes() == pool.pairs[0].nbytes
