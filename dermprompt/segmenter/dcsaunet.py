"""DCSAU-Net (Xu et al. 2023, Computers in Biology and Medicine 154:106626), the paper's second segmenter."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Planes of the four encoder and decoder stages; a stage with p planes has 4p output channels.
PLANES_DOWN = (32, 64, 128, 128)
PLANES_UP = (64, 32, 16, 16)
EXPANSION = 4
STEM_CHANNELS = 64


class PrimaryFeatures(nn.Module):
    """Primary feature conservation: a depthwise separable 7×7 convolution with a residual.

    NCHW with ``in_channels`` becomes NCHW with ``channels``, of the same size.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.input = _conv_relu_norm(in_channels, channels, kernel_size=7)
        self.depthwise = _conv_relu_norm(channels, channels, kernel_size=7, groups=channels)
        self.pointwise = _conv_relu_norm(channels, channels, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """The primary features of images."""
        features = self.input(images)
        return self.pointwise(self.depthwise(features) + features)


class SplitAttention(nn.Module):
    """The compact split attention: ResNeSt's with a second convolution on the second split.

    NCHW in, NCHW of the same shape out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 32)
        self.split = _conv_norm_relu(channels, 2 * channels, kernel_size=3, groups=2)
        self.second = _conv_norm_relu(channels, channels, kernel_size=3, groups=2)
        # Batch normalisation of pooled features, so training needs batches of at least two images.
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, kernel_size=1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, 2 * channels, kernel_size=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Mix two splits by weights that sum to one for every image and channel."""
        first, second = self.split(features).chunk(2, dim=1)
        second = self.second(first + second)
        logits = self.attention(first + second)
        weights = torch.stack(logits.chunk(2, dim=1)).softmax(dim=0)
        return weights[0] * first + weights[1] * second


class Bottleneck(nn.Module):
    """ResNeSt's bottleneck around split attention; ``smooth`` adds the original's 3×3 average pooling."""

    def __init__(self, in_channels: int, planes: int, project: bool, smooth: bool) -> None:
        super().__init__()
        channels = EXPANSION * planes
        self.branch = nn.Sequential(
            _conv_norm_relu(in_channels, planes, kernel_size=1),
            SplitAttention(planes),
            nn.AvgPool2d(3, stride=1, padding=1) if smooth else nn.Identity(),
            *_conv_norm(planes, channels),
        )
        self.shortcut = nn.Sequential(*_conv_norm(in_channels, channels)) if project else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """NCHW in, N(4·planes)HW out."""
        return F.relu(self.branch(features) + self.shortcut(features))


class DCSAUNet(nn.Module):
    """A U-Net with compact split attention; 2,598,785 weights for colour images and one class.

    Images N(in_channels)HW give logits N(out_channels)HW; height and width must be divisible by 16.
    In training mode a batch must have at least two images, because some batch normalisations see one value per
    channel and image. Every instance has its own weights, whereas in the authors' release instances share
    all but stem and head. The 3×3 average poolings are those of the release.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.stem = PrimaryFeatures(in_channels, STEM_CHANNELS)
        widths = [STEM_CHANNELS, *(EXPANSION * planes for planes in PLANES_DOWN)]
        # As released, the outermost stages are not smoothed.
        self.down = nn.ModuleList(
            _stage(width, planes, smooth=width != STEM_CHANNELS)
            for width, planes in zip(widths, PLANES_DOWN, strict=False)
        )
        below = [widths.pop(), *(EXPANSION * planes for planes in PLANES_UP)]
        self.up = nn.ModuleList(
            _stage(width + skip, planes, smooth=skip != STEM_CHANNELS)
            for width, skip, planes in zip(below, reversed(widths), PLANES_UP, strict=False)
        )
        self.head = nn.Conv2d(below[-1], out_channels, kernel_size=1)
        self.down.apply(_init_convolution)
        self.up.apply(_init_convolution)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the lesion."""
        features = self.stem(images)
        skips = []
        for stage in self.down:
            skips.append(features)
            features = stage(F.max_pool2d(features, 2))
        for stage in self.up:
            enlarged = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
            features = stage(torch.cat([skips.pop(), enlarged], dim=1))
        return self.head(features)


def _stage(in_channels: int, planes: int, smooth: bool) -> nn.Sequential:
    channels = EXPANSION * planes
    return nn.Sequential(
        Bottleneck(in_channels, planes, project=in_channels != channels, smooth=smooth),
        Bottleneck(channels, planes, project=False, smooth=False),
    )


def _conv_relu_norm(in_channels: int, channels: int, kernel_size: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, groups=groups)
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.BatchNorm2d(channels))


def _conv_norm_relu(in_channels: int, channels: int, kernel_size: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _conv_norm(in_channels: int, channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, channels, kernel_size=1, bias=False), nn.BatchNorm2d(channels)


def _init_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
