"""A pretrained tiny autoencoder as a latent space: two files in the format of TAESD (madebyollin/taesd)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dermprompt.files import reading
from dermprompt.tensors import fill, load_tensors
from dermprompt.weights.box import TAEF2

WIDTH = 64
POOL_WIDTH, POOL_GROUPS = 256, 4
# The format always halves the resolution three times.
DOWNSCALE = 8
PARTS = ("encoder", "decoder")
HALVES = (Path("the encoder"), Path("the decoder"))
FILE = "codec.safetensors"
SUFFIXES = (".safetensors", ".pth")

Weights = dict[str, Tensor]


class Clamp(nn.Module):
    """A soft limit of ±3 on the latents that the decoder sees."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return 3 * torch.tanh(x / 3)


class Block(nn.Module):
    """A residual block of three convolutions; if ``pooled``, a pool branch is added to the input first."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(WIDTH, POOL_WIDTH, 1, bias=False),
                nn.GroupNorm(POOL_GROUPS, POOL_WIDTH),
                nn.ReLU(),
                nn.Conv2d(POOL_WIDTH, WIDTH, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        if hasattr(self, "pool"):
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def _conv(inputs: int = WIDTH, outputs: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


def build_encoder(channels: int, pooled: frozenset[int] = frozenset()) -> nn.Sequential:
    """Images N3HW in [0, 1] to latents; ``pooled``: the layer indices of blocks with a pool, as in the files' keys."""
    layers: list[nn.Module] = [_conv(3), Block(1 in pooled)]
    for _ in range(3):
        layers.append(_conv(stride=2, bias=False))
        layers += [Block(len(layers) + number in pooled) for number in range(3)]
    return nn.Sequential(*layers, _conv(WIDTH, channels))


def build_decoder(channels: int, pooled: frozenset[int] = frozenset()) -> nn.Sequential:
    """Latents to images N3HW, approximately in [0, 1]; see :func:`build_encoder`."""
    layers: list[nn.Module] = [Clamp(), _conv(channels), nn.ReLU()]
    for _ in range(3):
        layers += [Block(len(layers) + number in pooled) for number in range(3)]
        layers += [nn.Upsample(scale_factor=2), _conv(bias=False)]
    return nn.Sequential(*layers, Block(len(layers) in pooled), _conv(WIDTH, 3))


class TinyCodec(nn.Module):
    """The autoencoder's latents, each channel standardised to zero mean and unit variance on G's images.

    It is deterministic and frozen, and its latent space is not Stable Diffusion's. Build it with
    :meth:`from_weights`, then :meth:`fit`.
    """

    mean: Tensor
    deviation: Tensor
    downscale = DOWNSCALE

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential, channels: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.channels = encoder, decoder, channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.requires_grad_(False).eval()

    @classmethod
    def from_weights(cls, encoder: Weights, decoder: Weights, files: Sequence[Path] = HALVES) -> TinyCodec:
        """Build the codec from weights, whose keys and shapes tell the number of channels and the blocks with a pool.

        Raises:
            ValueError: keys or shapes are those of another network; names the one of ``files``.
        """
        with reading(files[0]):
            channels = len(encoder["14.bias"])  # the encoder's last layer
        networks = build_encoder(channels, _pooled(encoder)), build_decoder(channels, _pooled(decoder))
        for network, weights, file in zip(networks, (encoder, decoder), files, strict=True):
            fill(network, weights, file)
        return cls(*networks, channels)

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measure each channel's mean and standard deviation on batches of images N3HW in [-1, 1]."""
        device, count = self.mean.device, 0
        sums = torch.zeros(2, self.channels, dtype=torch.float64, device=device)
        for images in batches:
            latents = self._latents(images.to(device)).double()
            sums += torch.stack([latents.sum((0, 2, 3)), latents.square().sum((0, 2, 3))])
            count += latents.numel() // self.channels
        mean, square = sums / count
        self.mean.copy_(mean)
        self.deviation.copy_((square - mean**2).clamp_min(1e-8).sqrt())

    def _latents(self, images: Tensor) -> Tensor:
        return self.encoder((images + 1) / 2)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`~dermprompt.generator.codec.load.Codec`; the standard deviation is zero."""
        latents = (self._latents(images) - _as_map(self.mean)) / _as_map(self.deviation)
        return latents, torch.zeros_like(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        return 2 * self.decoder(latents * _as_map(self.deviation) + _as_map(self.mean)) - 1

    def save(self, folder: Path) -> None:
        """See :class:`~dermprompt.generator.codec.load.Codec`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"codec": "tiny", "channels": self.channels}, indent=2))
        save_file({key: value.contiguous().cpu() for key, value in self.state_dict().items()}, folder / FILE)


def _as_map(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _pooled(weights: Weights) -> frozenset[int]:
    found = (re.match(r"(\d+)\.pool\.", key) for key in weights)
    return frozenset(int(match[1]) for match in found if match)


def load_tiny(folder: Path) -> TinyCodec:
    """Open what :meth:`TinyCodec.save` wrote, or a file with only mean and deviation, for the packaged autoencoder."""
    weights = load_tensors(folder / FILE)
    if weights.keys() == {"mean", "deviation"}:
        codec = read_tiny(TAEF2.name)
        return fill(codec, weights, folder / FILE, strict=False)
    encoder, decoder = (
        {key[8:]: value for key, value in weights.items() if key.startswith(f"{part}.")} for part in PARTS
    )
    return fill(TinyCodec.from_weights(encoder, decoder, [folder / FILE] * 2), weights, folder / FILE)


def read_tiny(path: str) -> TinyCodec:
    """Open a pretrained tiny autoencoder, given as a folder with a file for each half or by the packaged one's name.

    The files are called ``*_encoder`` and ``*_decoder``, and end in ``.safetensors`` or ``.pth``.

    Raises:
        ValueError: there is not exactly one of each, or they hold more than tensors, or another network's tensors.
    """
    key = f"generator.base.codec.path={path}"
    expected = (
        "expected is a folder with one *_encoder.pth and one *_decoder.pth (or .safetensors) in the format of taef2 "
        "(github.com/madebyollin/taesd): tensors named by the layer's place, such as 1.conv.0.weight, 64 wide"
    )
    folder = TAEF2 if path == TAEF2.name else Path(path).expanduser()
    found = {part: [f for kind in SUFFIXES for f in sorted(folder.glob(f"*_{part}{kind}"))] for part in PARTS}
    for part, files in found.items():
        if len(files) != 1:
            raise ValueError(f"{key}: {len(files)} files *_{part}.pth; {expected}")
    try:
        files = [files[0] for files in found.values()]
        return TinyCodec.from_weights(_read(files[0]), _read(files[1]), files)
    except ValueError as error:
        raise ValueError(f"{key}: {error}; {expected}") from error


def _read(file: Path) -> Weights:
    return {key: value.float() for key, value in load_tensors(file).items()}
