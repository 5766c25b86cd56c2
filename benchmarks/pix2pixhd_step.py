"""A training step of Pix2PixHD beside the original's: time, FLOPs and calls.

    git clone https://github.com/NVIDIA/pix2pixHD
    python benchmarks/pix2pixhd_step.py --peer pix2pixHD [--perceptual vgg19] [--precision bf16-mixed]

The peer is run from its own source (``Pix2PixHDModel`` and the body of its loop), patched from outside where it needs a
GPU or an old torchvision. Both have the same sizes, three scales, and weights; ours runs in Lightning's loop, and its
turn counts all that Lightning does. Steps alternate; the first ones are not counted. On a GPU ngf 64 at 512
pixels and batch 8, else ngf 16 at 128 pixels and batch 1 (the paper's) on two threads.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torchvision
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import flop_registry

from dermprompt.generator.pix2pixhd.module import Pix2PixHD
from dermprompt.generator.pix2pixhd.networks import GlobalGenerator, MultiscaleDiscriminator
from dermprompt.generator.pix2pixhd.perceptual import VGG19Perceptual

SCALES = 3
WARM_UP = 2
Turn = Callable[[], object]


class Flops(TorchDispatchMode):
    """Counts as FlopCounterMode does, whose tracking of modules does not bear ``autograd.grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it where it is a product of matrices or a convolution."""
        result = function(*args, **(kwargs or {}))
        count = flop_registry.get(function.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=result) if count else 0
        return result


class Peer:
    """The original's model and its loop's body."""

    def __init__(self, source: Path, width: int, perceptual: bool, device: torch.device) -> None:
        if not (source / "models" / "pix2pixHD_model.py").is_file():
            raise SystemExit(f"--peer {source}: no checkout of https://github.com/NVIDIA/pix2pixHD")
        sys.path.insert(0, str(source))
        vgg19 = torchvision.models.vgg19
        torchvision.models.vgg19 = lambda pretrained: vgg19(weights=None)
        if device.type == "cpu":
            torch.Tensor.cuda = nn.Module.cuda = lambda one, *_: one  # type: ignore[method-assign, assignment]
            torch.cuda.FloatTensor = torch.FloatTensor  # type: ignore[misc, attr-defined]
        from models.pix2pixHD_model import Pix2PixHDModel  # type: ignore[import-not-found]

        self.model = Pix2PixHDModel()
        with contextlib.redirect_stdout(io.StringIO()):
            self.model.initialize(self._options(width, perceptual, device))
        self.networks = {"generator": self.model.netG, "discriminator": self.model.netD}
        if perceptual:
            self.networks["perceptual"] = self.model.criterionVGG.vgg

    @staticmethod
    def _options(width: int, perceptual: bool, device: torch.device) -> SimpleNamespace:
        sizes = {"label_nc": 2, "input_nc": 3, "output_nc": 3, "ngf": width, "ndf": width}
        depths = {"n_downsample_global": 4, "n_blocks_global": 9, "n_layers_D": 3, "num_D": SCALES}
        optimiser = {"lr": 2e-4, "beta1": 0.5, "niter_fix_global": 0, "lambda_feat": 10.0, "pool_size": 0}
        off = "instance_feat label_feat load_features no_lsgan no_ganFeat_loss verbose continue_train load_pretrain"
        places = {"checkpoints_dir": tempfile.gettempdir(), "name": "peer", "resize_or_crop": "scale_width"}
        return SimpleNamespace(
            **{**sizes, **depths, **optimiser, **places, **dict.fromkeys(off.split(), False)},
            **{"netG": "global", "norm": "instance", "n_local_enhancers": 1, "n_blocks_local": 3, "data_type": 32},
            gpu_ids=[0] if device.type == "cuda" else [],
            isTrain=True,
            no_instance=True,
            no_vgg_loss=not perceptual,
        )

    def step(self, masks: Tensor, images: Tensor) -> dict[str, float]:
        """Losses of one forward; the generator's step, then the discriminator's."""
        values, _ = self.model(masks, masks, images, masks)
        named = dict(zip(self.model.loss_names, values, strict=True))
        generator = named["G_GAN"] + named["G_GAN_Feat"] + named.get("G_VGG", 0)
        discriminator = (named["D_fake"] + named["D_real"]) * 0.5
        for optimizer, loss in ((self.model.optimizer_G, generator), (self.model.optimizer_D, discriminator)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses = {"gan": named["G_GAN"], "feature": named["G_GAN_Feat"], "discriminator": discriminator}
        losses |= {"perceptual": named["G_VGG"]} if "G_VGG" in named else {}
        return {name: loss.item() for name, loss in losses.items()}


class Turns(Callback):
    """The peer's step before each of ours: times of both, losses of the first, FLOPs and calls of the last."""

    def __init__(self, peer: Peer, steps: int, device: torch.device) -> None:
        self.peer, self.steps, self.device = peer, steps, device
        # Of the clock, and of the processor: with one thread, others on the machine hardly touch the latter.
        self.seconds: dict[str, list[tuple[float, float]]] = {"peer": [], "ours": []}
        self.flops: dict[str, int] = {}
        self.calls: dict[str, Counter[str]] = {"peer": Counter(), "ours": Counter()}
        self.losses: dict[str, dict[str, float]] = {}
        self.counting: Flops | None = None

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Let the peer step, then start our clock."""
        counted = batch_idx == self.steps + WARM_UP
        if counted:
            for network in self.peer.networks.values():
                self._count(network, "forward", "peer")
            for network, method in (
                (module.generator, "forward"),
                (module.discriminator, "forward"),
                (module.perceptual, "features"),
            ):
                if network is not None:
                    self._count(network, method, "ours")
        start = self._now()
        with Flops() if counted else contextlib.nullcontext() as counter:
            losses = self.peer.step(batch["masks"], batch["images"])
        self._took("peer", start, batch_idx)
        if counter is not None:
            self.flops["peer"] = counter.total
            self.counting = Flops().__enter__()
        self.losses.setdefault("peer", losses)
        self.start = self._now()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop our clock."""
        self._took("ours", self.start, batch_idx)
        logged = trainer.callback_metrics
        self.losses.setdefault("ours", {k.rpartition("/")[2]: float(v) for k, v in logged.items()})
        if self.counting is not None:
            self.counting.__exit__(None, None, None)
            self.flops["ours"] = self.counting.total

    def _count(self, network: nn.Module, method: str, whose: str) -> None:
        """The original calls ``forward`` itself, which hooks do not see."""
        inner = getattr(network, method)

        def counted(*inputs: Any) -> Any:
            self.calls[whose].update([type(network).__name__])
            return inner(*inputs)

        setattr(network, method, counted)

    def _took(self, whose: str, start: tuple[float, float], batch_idx: int) -> None:
        if WARM_UP <= batch_idx < self.steps + WARM_UP:
            now = self._now()
            self.seconds[whose].append((now[0] - start[0], now[1] - start[1]))

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def build(peer: Peer, width: int, folder: Path) -> Pix2PixHD:
    """Ours, with the peer's weights; it numbers its scales from the coarsest."""
    generator = GlobalGenerator(base_channels=width)
    discriminator = MultiscaleDiscriminator(base_channels=width, num_scales=SCALES)
    finest_last = [weight for scale in reversed(discriminator.scales) for weight in scale.parameters()]
    pairs = (generator.parameters(), "generator"), (finest_last, "discriminator")
    with torch.no_grad():
        for ours, name in pairs:
            for weight, theirs in zip(ours, peer.networks[name].parameters(), strict=True):
                weight.copy_(theirs)
    perceptual = None
    if "perceptual" in peer.networks:
        names = torchvision.models.vgg.vgg19(weights=None).features.state_dict()
        weights = zip(names, peer.networks["perceptual"].state_dict().values(), strict=False)
        torch.save({f"features.{name}": weight.cpu() for name, weight in weights}, folder / "vgg19.pth")
        perceptual = VGG19Perceptual(folder / "vgg19.pth")
    return Pix2PixHD(generator, discriminator, decay_from_step=10**6, max_steps=10**6 + 1, perceptual=perceptual)


def batches(number: int, size: int, batch: int) -> list[dict[str, Tensor]]:
    """Random images with discs for masks."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = ((y - size / 2) ** 2 + (x - size / 2) ** 2 < (size / 3) ** 2).float().expand(batch, 1, size, size)
    return [
        {"masks": disc, "images": torch.rand(batch, 3, size, size, generator=generator) * 2 - 1} for _ in range(number)
    ]


def main() -> None:
    """Print both medians, their ratio, FLOPs and calls."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of https://github.com/NVIDIA/pix2pixHD")
    parser.add_argument("--perceptual", choices=("none", "vgg19"), default="vgg19" if gpu else "none")
    parser.add_argument("--precision", default="bf16-mixed" if gpu else "32-true", help="ours; the peer's is float32")
    for name, on_gpu, on_cpu in (("width", 64, 16), ("size", 512, 128), ("batch", 8, 1), ("steps", 20, 12)):
        parser.add_argument(f"--{name}", type=int, default=on_gpu if gpu else on_cpu)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if gpu else "cpu")
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    peer = Peer(options.peer, options.width, options.perceptual == "vgg19", device)
    turns = Turns(peer, options.steps, device)
    with tempfile.TemporaryDirectory() as folder:
        module = build(peer, options.width, Path(folder))
    trainer = Trainer(
        accelerator=device.type,
        precision=options.precision,
        max_steps=-1,
        max_epochs=1,
        logger=False,
        callbacks=[turns],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(batches(options.steps + WARM_UP + 1, options.size, options.batch), batch_size=None))
    report(turns, device)


def report(turns: Turns, device: torch.device) -> None:
    """What was measured; the first step's losses show that both did the same."""
    for name, theirs in turns.losses["peer"].items():
        print(f"first step, {name}: {turns.losses['ours'][name]:.6f}, the original's {theirs:.6f}")
    for whose in ("ours", "peer"):
        calls = ", ".join(f"{name} {number}" for name, number in turns.calls[whose].items())
        print(f"{whose}: {turns.flops[whose] / 1e9:.2f} GFLOP; forward passes: {calls}")
    print(f"FLOPs: {turns.flops['peer'] / turns.flops['ours']:.3f} times as many in the original's step")
    for place, kind in enumerate((f"a step on {device.type}", "of the processor's time")):
        ours, theirs = ([took[place] for took in turns.seconds[whose]] for whose in ("ours", "peer"))
        pairs = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        medians = statistics.median(ours), statistics.median(theirs)
        print(
            f"{kind}: {1000 * medians[0]:.1f} ms, the original's {1000 * medians[1]:.1f} ms, "
            f"ratio {medians[1] / medians[0]:.2f} (median of {len(ours)} pairs' ratios {pairs:.2f})"
        )


if __name__ == "__main__":
    main()
