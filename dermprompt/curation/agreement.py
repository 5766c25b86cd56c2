"""Keep, relabel or drop a synthetic image depending on how well a reference segmenter's mask agrees with its own."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Decision = Literal["keep", "relabel", "drop"]


def decide(scores: NDArray[np.float64], keep: float, relabel: float) -> list[Decision]:
    """Keep, relabel or drop, after stage IV of DiffuseExpand (Shao et al., 2023).

    With a score of at least ``keep``, image and mask are kept; with at least ``relabel``, the image is kept with the
    reference segmenter's mask as its label; otherwise the sample is dropped. DiffuseExpand uses 0.8 and 0.6.
    """
    assert 0 <= relabel <= keep <= 1, (relabel, keep)
    assert np.isfinite(scores).all(), scores
    decided: list[Decision] = np.select([scores >= keep, scores >= relabel], ["keep", "relabel"], "drop").tolist()
    return decided
