"""What a segmenter trains on: pairs in memory as uint8, turned to floats a batch at a time."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import Dataset

from dermprompt.lesion import images_to_float, masks_to_float


class SegmentationBatches(Dataset[tuple[Tensor, Tensor]]):
    """Images N3SS in [-1, 1] and masks N1SS in {0, 1} of uint8 NSS3 and NSS."""

    def __init__(self, images: Tensor, masks: Tensor) -> None:
        self.images, self.masks = images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        rows = slice(item, item + 1)
        return images_to_float(self.images[rows])[0], masks_to_float(self.masks[rows])[0]
