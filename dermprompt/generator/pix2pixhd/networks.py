"""Networks of pix2pixHD (Wang et al. 2018, section 3): global generator, multi-scale discriminator."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_CHANNELS = 512


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with reflection padding and instance normalisation; NCHW in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_normalised(nn.Conv2d(channels, channels, kernel_size=3)),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            *_normalised(nn.Conv2d(channels, channels, kernel_size=3)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the branch to the features."""
        return features + self.branch(features)


class GlobalGenerator(nn.Module):
    """The global generator: 182,440,131 weights with default settings.

    Labels N(in_channels)HW become images N(out_channels)HW in [-1, 1]; height and width must be divisible
    by 2^num_downsamplings. It is deterministic: without noise, the same mask gives the same image.

    ``upsampling``: ``transposed`` convolutions as in the authors' release, or ``resize`` and convolve, which avoids
    checkerboard artifacts (Odena et al. 2016).

    Raises:
        ValueError: (``forward``) height or width is not divisible.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 3,
        base_channels: int = 64,
        num_downsamplings: int = 4,
        num_blocks: int = 9,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        self.stride = 2**num_downsamplings
        widths = [base_channels * 2**level for level in range(num_downsamplings + 1)]
        layers = [
            nn.ReflectionPad2d(3),
            *_normalised(nn.Conv2d(in_channels, base_channels, 7)),
            nn.ReLU(True),
        ]
        for wide, wider in pairwise(widths):
            layers += [*_normalised(nn.Conv2d(wide, wider, 3, stride=2, padding=1)), nn.ReLU(True)]
        layers += [ResidualBlock(widths[-1]) for _ in range(num_blocks)]
        for wider, wide in pairwise(reversed(widths)):
            layers += [*_enlarge(wider, wide, upsampling), nn.ReLU(True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(base_channels, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_init_convolution)

    def forward(self, labels: Tensor) -> Tensor:
        """Images for one-hot labels."""
        height, width = labels.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"pix2pixHD: size {height}×{width} is not divisible by {self.stride}")
        return self.layers(labels)


class PatchDiscriminator(nn.Module):
    """A patch discriminator with 4×4 convolutions; with three layers its receptive field is 70×70 pixels."""

    def __init__(self, in_channels: int, base_channels: int, num_layers: int) -> None:
        super().__init__()
        widths = [min(base_channels * 2**layer, MAX_CHANNELS) for layer in range(num_layers + 1)]
        activation = nn.LeakyReLU(0.2, inplace=True)
        self.layers = nn.ModuleList([nn.Sequential(_patch_conv(in_channels, widths[0], 2), activation)])
        for layer in range(1, num_layers + 1):
            conv = _patch_conv(widths[layer - 1], widths[layer], stride=2 if layer < num_layers else 1)
            self.layers.append(nn.Sequential(*_normalised(conv), activation))
        self.layers.append(_patch_conv(widths[-1], 1, stride=1))

    def forward(self, features: Tensor) -> list[Tensor]:
        """The output of every layer; the last is the unbounded prediction N1hw."""
        outputs = []
        for layer in self.layers:
            features = layer(features)
            outputs.append(features)
        return outputs


class MultiscaleDiscriminator(nn.Module):
    """Patch discriminators for the image at successively halved scales; 8,300,355 weights with default settings.

    The pix2pixHD paper has three scales, the authors' release two by default. Small images need fewer:
    instance normalisation requires more than one pixel at the coarsest layer.
    """

    def __init__(self, in_channels: int = 5, base_channels: int = 64, num_layers: int = 3, num_scales: int = 3) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(in_channels, base_channels, num_layers) for _ in range(num_scales)
        )
        self.apply(_init_convolution)

    def forward(self, labels: Tensor, images: Tensor) -> list[list[Tensor]]:
        """A list of features for every scale, the finest scale first; the last feature is the prediction."""
        pair = torch.cat([labels, images], dim=1)
        outputs = []
        for level, scale in enumerate(self.scales):
            if level > 0:
                pair = F.avg_pool2d(pair, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(scale(pair))
        return outputs


def _normalised(conv: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, nn.Module]:
    # The norm cancels this bias, so its gradient is zero up to rounding errors, which Adam would turn into full-size
    # steps. The bias is saved, as in the authors' release, but not trained.
    assert conv.bias is not None
    conv.bias.requires_grad_(False)
    return conv, nn.InstanceNorm2d(conv.out_channels)


def _enlarge(wider: int, wide: int, upsampling: str) -> tuple[nn.Module, ...]:
    if upsampling == "transposed":
        return _normalised(nn.ConvTranspose2d(wider, wide, 3, stride=2, padding=1, output_padding=1))
    return (nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), *_normalised(nn.Conv2d(wider, wide, 3)))


def _patch_conv(in_channels: int, channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, kernel_size=4, stride=stride, padding=2)


def _init_convolution(module: nn.Module) -> None:
    # Biases keep torch's default initialisation, as in the authors' release.
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
