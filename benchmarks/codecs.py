"""How well latent spaces keep real images: principal components beside a pretrained tiny autoencoder.

    python benchmarks/codecs.py --root DATA [--tiny FOLDER] [--size 256] [--fit 200] [--images 50]

Fitted on some images of ISIC 2018's folder layout, measured on others: the mean over images of the PSNR of an image
through the codec (peak 2, both in [-1, 1]). ``--tiny``: a folder with *_encoder.pth and *_decoder.pth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dermprompt.generator.codec.load import Codec
from dermprompt.generator.codec.pca import PCACodec
from dermprompt.generator.codec.tiny import read_tiny

PATCHES = {4: (4, 8, 12, 16), 8: (4, 8, 12, 16, 24, 32, 48), 16: (32, 64, 128)}
UNSEEN_FROM = 2000


def load(files: list[Path], size: int) -> Tensor:
    """Images N3SS in [-1, 1]."""
    read = [cv2.resize(cv2.imread(str(one)), (size, size), interpolation=cv2.INTER_AREA) for one in files]
    return torch.from_numpy(np.stack(read)[..., ::-1].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(images: Tensor, decoded: Tensor) -> float:
    """The mean of each image's own, in dB."""
    squares = (decoded.clamp(-1, 1) - images).square().mean((1, 2, 3))
    return (10 * torch.log10(4 / squares)).mean().item()


@torch.no_grad()
def through(codec: Codec, images: Tensor) -> Tensor:
    """Encoded and decoded, a few at a time."""
    return torch.cat([codec.decode(codec.encode(some)[0]) for some in images.split(4)])


def main() -> None:
    """Print a row for each codec: its latents' size, and how near the images stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--tiny")
    for name, default in (("size", 256), ("fit", 200), ("images", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    files = sorted((options.root / "ISIC2018_Task1-2_Training_Input").glob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(files))
    parts = order[: options.fit], order[UNSEEN_FROM : UNSEEN_FROM + options.images]
    fitted, unseen = (load([files[i] for i in part], options.size) for part in parts)
    print(f"mean image: {psnr(unseen, fitted.mean(0)):.2f} dB")
    for patch, numbers in PATCHES.items():
        for channels in numbers:
            codec = PCACodec.fit(fitted, patch, channels)
            report(f"pca, {patch}x{patch} patches", codec, unseen, options.size)
    if options.tiny:
        tiny = read_tiny(options.tiny)
        tiny.fit(fitted[:64].split(4))
        report("tiny", tiny, unseen, options.size)


def report(name: str, codec: Codec, images: Tensor, size: int) -> None:
    """Print one row."""
    side = size // codec.downscale
    kept = psnr(images, through(codec, images))
    print(f"{name}: {side}x{side}x{codec.channels} = {side * side * codec.channels} values, {kept:.2f} dB")


if __name__ == "__main__":
    main()
