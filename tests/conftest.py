"""What several rooms' tests share: which are collected and skipped, a tiny Stable Diffusion folder, a quiet Trainer."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import examples  # noqa: F401  # registers the profile that --hypothesis-profile=slow names before it is looked for
import pytest
from real_data import REAL

if TYPE_CHECKING:
    from lightning import Trainer
    from transformers import CLIPTokenizer

    from dermprompt.generator.controlnet.base import LatentDiffusion

# Set before any import of the hub's client: no test reaches for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Markers whose tests lie in folders of their own.
FOLDERS = ("gpu", "slurm")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``-m gpu`` and ``-m slurm`` collect their own folder alone: the rest would import for a minute."""
    marker = config.option.markexpr
    alone = marker in FOLDERS and collection_path.suffix == ".py"
    return True if alone and marker not in collection_path.relative_to(config.rootpath / "tests").parts else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork the program come first: one worker has them and their server, and the longest are begun early."""
    items.sort(key=lambda item: not _forks(item))


def _forks(item: pytest.Item) -> bool:
    module = item.getparent(pytest.Module)
    return any(getattr(value, "__module__", "") == "forked" for value in vars(module.obj).values())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs real data that are not there."""
    missing = [
        REAL / name for mark in item.iter_markers("real_data") for name in mark.args if not (REAL / name).is_dir()
    ]
    if missing:
        pytest.skip(f"no real data in {missing[0]}; DERMPROMPT_DATA names their folder")


@pytest.fixture(scope="session")
def tiny_stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion 1.x in small, with random weights, as diffusers writes it; images of 64×64 pixels."""
    pytest.importorskip("transformers", reason="transformers writes the tiny Stable Diffusion folder")
    import torch
    from diffusers import StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("tiny_stable_diffusion")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        networks = {"unet": _unet(), "vae": _vae(), "text_encoder": _text_encoder()}
        StableDiffusionPipeline(
            **networks,
            tokenizer=_tokenizer(),
            scheduler=_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    return folder


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
    )


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=32,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=32,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    return CLIPTextModel(config)


def _tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer from the byte pairs in open_clip, which names the special tokens otherwise."""
    import open_clip
    from transformers import CLIPTokenizer

    theirs = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(token, token): number for token, number in theirs.encoder.items()}
    return CLIPTokenizer(vocab=vocab, merges=list(theirs.bpe_ranks), model_max_length=77)


def _scheduler() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@pytest.fixture(scope="session")
def tiny_autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a tiny autoencoder with 8 channels, in half precision, in taef2's two files."""
    import torch

    from dermprompt.generator.codec.tiny import build_decoder, build_encoder

    folder = tmp_path_factory.mktemp("tiny_autoencoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = build_encoder(8, frozenset({11, 12, 13})), build_decoder(8, frozenset({3, 4, 5}))
    for part, network in (("encoder", encoder), ("decoder", decoder)):
        torch.save({key: value.half() for key, value in network.state_dict().items()}, folder / f"some_{part}.pth")
    return folder


@pytest.fixture(scope="session")
def _samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from miniature import miniature, run

    folder = tmp_path_factory.mktemp("samples")
    run(folder, *miniature("none", "synthesis.count=0", "stage=train_segmenter"))
    run(folder, *miniature("pix2pixhd", "synthesis.count=12", "stage=synthesize"))
    return folder / "store"


@pytest.fixture
def _with_samples(_samples: Path, tmp_path: Path) -> None:
    """The store already holds the miniature's Pix2PixHD, twelve samples of it, and the segmenter of S only."""
    shutil.copytree(_samples, tmp_path / "store")


@pytest.fixture
def make_scratch_base() -> Callable[..., LatentDiffusion]:
    """Builds a tiny untrained base on principal components, for images of 16×16 pixels."""
    import torch

    from dermprompt.generator.codec.pca import PCACodec
    from dermprompt.generator.controlnet.base import build_scratch

    def make(seed: int = 0, prediction: str = "v_prediction") -> LatentDiffusion:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codec = PCACodec.fit(torch.rand(8, 3, 16, 16) * 2 - 1)
            return build_scratch(codec, 16, (32, 64), 1, 1, 32, 1, 8, prediction)

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Builds a Trainer on one CPU that prints and logs nothing; takes the settings of Lightning's own."""
    import lightning
    from lightning.pytorch.callbacks import ProgressBar

    def make(**settings: Any) -> lightning.Trainer:
        # Lightning refuses a progress bar's callback when the bar is turned off.
        bar = any(isinstance(one, ProgressBar) for one in settings.get("callbacks", ()))
        fixed = {"accelerator": "cpu", "devices": 1, "logger": False, "default_root_dir": tmp_path}
        return lightning.Trainer(**{**fixed, "enable_progress_bar": bar, **settings})

    quiet = logging.getLogger("lightning.pytorch")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield make
    quiet.setLevel(level)
