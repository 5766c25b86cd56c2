"""What a segmenter trains on: pairs in memory as uint8, turned to floats a batch at a time."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dermprompt.lesion import images_to_float, masks_to_float


class SegmentationBatches(Dataset[tuple[Tensor, Tensor]]):
    """Images N3SS in [-1, 1] and masks N1SS in {0, 1} of uint8 NSS3 and NSS."""

    def __init__(self, images: Tensor, masks: Tensor) -> None:
        self.images, self.masks = images, masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        return images_to_float(self.images[rows]), masks_to_float(self.masks[rows])


def ordered_loader(data: SegmentationBatches, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """All pairs in their order, the last batch smaller."""
    batches = [list(range(len(data)))[start : start + batch_size] for start in range(0, len(data), batch_size)]
    return DataLoader(data, sampler=batches, batch_size=None)  # type: ignore[arg-type]
