"""Files that are damaged, or another's: each is named with a reason, before any work where that can be seen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from miniature import miniature, run
from overridden import frozen
from safetensors.torch import load_file, save_file

from dermprompt.config.compose import thaw
from dermprompt.data.clusters import load_clusters
from dermprompt.data.split import load_split
from dermprompt.evaluation.scores import load_scores
from dermprompt.files import read_json
from dermprompt.generator.codec.load import load_codec
from dermprompt.generator.codec.tiny import read_tiny
from dermprompt.generator.export import load_pix2pixhd
from dermprompt.generator.shards import load_shards, pack_folder
from dermprompt.generator.source import check_base, check_folder
from dermprompt.generator.text_encoder import load_text_encoder
from dermprompt.generator.warp import load_warp
from dermprompt.stages import rehearsal
from dermprompt.stages.rehearsal import check_features, rehearse
from dermprompt.store.artifacts import RECORD, batch_record, read_artifact, read_recipe
from dermprompt.store.locks import _who
from dermprompt.sweep.published import load_records
from dermprompt.synthesis.samples import image_path, mask_path, sample_id
from dermprompt.tensors import check_weights, load_tensors, open_pretrained


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


JSON = ["", "{", "[1", "nul", '{"a": 1}}', "\x00", "5", "null", '"text"', "true", "[" * 100_000]


@pytest.mark.parametrize("content", JSON, ids=lambda text: repr(text[:9]))
def test_json_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"some\.json: "):
        read_json(path, dict)
    with pytest.raises(ValueError, match=r"nowhere\.json: "):
        read_json(tmp_path / "nowhere.json")


READERS: dict[str, Callable[[Path], Any]] = {
    "some.json": read_json,
    "some.safetensors": load_tensors,
    "some.pth": check_weights,
    "split.json": load_split,
    "clusters.json": load_clusters,
    "scores.csv": load_scores,
    "published.csv.gz": load_records,
    "config.yaml": thaw,
}


@pytest.mark.parametrize("name", READERS)
def test_a_device_with_the_name_of_a_file_is_not_opened(name: str, tmp_path: Path) -> None:
    """Nor a pipe, which would never end."""
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(ValueError, match=rf"{name}.*: a pipe or a device"):
        READERS[name](tmp_path / name)


def weights(folder: Path) -> Iterator[Path]:
    """Files of weights that are none, under both endings."""
    for ending in ("safetensors", "pth"):
        for name, content in {"empty": b"", "text": b"text", "zeros": bytes(100), "huge": b"\xff" * 8 + b"{}"}.items():
            path = folder / f"{name}.{ending}"
            path.write_bytes(content)
            yield path
    contents: dict[str, Any] = {"list": [torch.zeros(1)], "code": Evil(folder / "marker"), "keys": {1: torch.zeros(1)}}
    for name, value in contents.items():
        torch.save(value, folder / f"{name}.pth")
        yield folder / f"{name}.pth"
    torch.save({"a": torch.zeros(1)}, folder / "pickle.safetensors")
    yield folder / "pickle.safetensors"
    save_file({"a": torch.zeros(1000)}, folder / "cut.safetensors")
    os.truncate(folder / "cut.safetensors", 500)
    yield folder / "cut.safetensors"
    yield folder / "nowhere.safetensors"
    (folder / "folder.safetensors").mkdir()
    yield folder / "folder.safetensors"


def test_weights_that_are_none_are_named_and_run_no_code(tmp_path: Path) -> None:
    for path in weights(tmp_path):
        for read in (load_tensors, check_weights):
            with pytest.raises(ValueError, match=f"{path}: "):
                read(path)
    assert not (tmp_path / "marker").exists()


def spoil_json(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def drop_key(content: dict[str, Any]) -> dict[str, Any]:
    return dict(list(content.items())[1:])


def drop_tensor(path: Path) -> None:
    save_file(dict(sorted(load_file(path).items())[1:]), path, {"format": "pt"})


def reshape_tensor(path: Path) -> None:
    state = load_file(path)
    save_file(state | {max(state): torch.zeros(())}, path, {"format": "pt"})


def empty(path: Path) -> None:
    path.write_bytes(b"")


OPENED: dict[str, Callable[[Path], Any]] = {
    "unet": lambda base: open_pretrained(UNet2DConditionModel, base / "unet"),
    "vae": lambda base: open_pretrained(AutoencoderKL, base / "vae"),
    "text_encoder": lambda base: load_text_encoder(base / "text_encoder", 49407),
}


@pytest.mark.parametrize("part", OPENED)
@pytest.mark.parametrize("spoil", [drop_tensor, reshape_tensor, empty])
def test_a_part_of_stable_diffusion_with_damaged_weights(
    part: str, spoil: Callable[[Path], None], tiny_stable_diffusion: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_stable_diffusion, tmp_path / "sd"))
    (file,) = (base / part).glob("*.safetensors")
    spoil(file)
    with pytest.raises(ValueError, match=str(base / part)):
        OPENED[part](base)


@pytest.mark.parametrize("part", OPENED)
@pytest.mark.parametrize("config", ["[]", "{}", "", "5", '{"num_hidden_layers": "x", "hidden_size": 0}'])
def test_a_part_of_stable_diffusion_with_a_damaged_configuration(
    part: str, config: str, tiny_stable_diffusion: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_stable_diffusion, tmp_path / "sd"))
    (base / part / "config.json").write_text(config)
    with pytest.raises(ValueError, match=str(base / part)):
        OPENED[part](base)
    if not config.startswith("{"):
        with pytest.raises(ValueError, match=str(base / part)):
            check_base(base)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_tiny_autoencoder_that_is_damaged(part: str, tiny_autoencoder: Path, tmp_path: Path) -> None:
    def spoiled(state: dict[Any, Any]) -> Iterator[Any]:
        last = max((key for key in state if key.endswith(".bias")), key=lambda key: int(key.split(".")[0]))
        yield {}
        yield {1: torch.zeros(1)}
        yield state | {last: torch.zeros(())}
        yield {key: value for key, value in state.items() if key != last}
        yield state | {last: [1.0]}
        yield [state]

    file = Path(shutil.copytree(tiny_autoencoder, tmp_path / "tiny")) / f"some_{part}.pth"
    for content in spoiled(torch.load(file, weights_only=True)):
        torch.save(content, file)
        with pytest.raises(ValueError, match=rf"generator\.base\.codec\.path=.*some_{part}\.pth"):
            read_tiny(str(file.parent))
    empty(file)
    with pytest.raises(ValueError, match=rf"some_{part}\.pth"):
        read_tiny(str(file.parent))


@pytest.mark.parametrize("config", ["[]", "{}", "", '{"codec": "pca"}', '{"codec": "pca", "patch": -1, "channels": 4}'])
def test_a_codec_that_is_damaged(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_codec(tmp_path)


@pytest.mark.parametrize("config", ["[]", "{}", '{"base_channels": -4}', '{"bogus": 1}', ""])
def test_a_pix2pixhd_that_is_damaged(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_pix2pixhd(tmp_path)
    with pytest.raises(ValueError, match=r"generator\.init: no \*\.safetensors"):
        check_folder("generator.init", tmp_path)


def test_pairs_of_a_warp_that_are_damaged(tmp_path: Path) -> None:
    save_file({"images": torch.zeros(1)}, tmp_path / "pairs.safetensors")
    with pytest.raises(ValueError, match="masks"):
        load_warp(tmp_path)


def test_a_sample_that_was_swapped_for_another_is_refused_by_whatever_reads_it(tmp_path: Path) -> None:
    small = miniature("warp", "synthesis.count=8", "synthesis.export_copies=true")
    run(tmp_path, *small, "stage=export", "export=isic")
    (samples,) = tmp_path.glob("store/synthesize/warp-*")
    for first, second in ((image_path, 1), (mask_path, 3)):
        shutil.copyfile(first(samples, sample_id(second)), first(samples, sample_id(second + 1)))
    for asked in (["stage=export", "export=isic"], ["stage=export", "export=imagefolder"], ["stage=export"], []):
        with pytest.raises(ValueError, match=r"SYN_0000002.jpg: changed since it was written; delete the record"):
            run(tmp_path, *small, *asked)
    batch_record(samples, 0).unlink()
    with pytest.raises(ValueError, match=r"SYN_0000004_segmentation.png: changed since it was written"):
        run(tmp_path, *small, "stage=export", "export=isic")


@pytest.mark.parametrize("content", [*JSON[:8], '{"seconds": 1}', "[]"], ids=lambda text: repr(text[:9]))
def test_a_damaged_record_of_an_artifact_says_what_to_delete(content: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(content)
    for read in (read_artifact, read_recipe):
        with pytest.raises(ValueError, match=f"{tmp_path / RECORD}: .*; delete {tmp_path} and give the same command"):
            read(tmp_path)


@pytest.mark.parametrize("content", [*JSON[:8], "{}", '{"pid": 1}', '[{"pid": 1}]'], ids=lambda text: repr(text[:9]))
def test_a_damaged_holder_does_not_stop_who_waits(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.holder").write_text(content)
    assert _who(tmp_path / "x.holder") == "an unknown process"


@pytest.mark.parametrize("change", [drop_key, lambda _: [], lambda index: index | {"sha256": {"../../x": "0"}}])
def test_shards_whose_index_is_damaged(change: Callable[[Any], Any], tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    save_file({"a": torch.zeros(4)}, tmp_path / "net/w.safetensors")
    pack_folder(tmp_path / "net", tmp_path / "packed")
    index = tmp_path / "packed/w.safetensors.shards/shards.json"
    spoil_json(index, change)
    with pytest.raises(ValueError, match=str(index)):
        load_shards(index.parent)


def test_shards_carry_no_file_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "net").mkdir()
    (tmp_path / "net/notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"notes\.txt: a link that leads out"):
        pack_folder(tmp_path / "net", tmp_path / "packed")
    assert not (tmp_path / "packed/notes.txt").exists()


STAGES = {"train_segmenter", "train_judge", "train_generator", "train_base"}


@pytest.mark.parametrize(
    ("generator", "override", "said"),
    [
        ("warp", "segmenter.network.features=[4,4]", r"segmenter\.network: .*length 6"),
        ("warp", "segmenter.network.out_channels=2", r"segmenter\.network: gives \(1, 2, 64, 64\)"),
        ("warp", "segmenter.network.in_channels=1", r"segmenter\.network: "),
        ("warp", "+segmenter.network.bogus=1", r"segmenter\.network: .*bogus"),
        ("warp", "evaluation.reference.network.features=[-4,4,4,4,4,4]", r"evaluation\.reference\.network: "),
        ("warp", "trainer.accelerator=mps", "trainer: "),
        ("warp", "trainer.precision=16-mixed", "trainer: precision=16-mixed"),
        ("pix2pixhd", "generator.num_scales=10", "generator: "),
        ("pix2pixhd", "generator.num_downsamplings=9", "generator: .*divisible"),
    ],
)
def test_what_cannot_be_trained_is_said_before_any_work(generator: str, override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rehearse(frozen(generator, override), STAGES)


EARLY = {
    "a network": ("warp", ["segmenter.network.out_channels=2"], r"segmenter\.network: gives"),
    "a reference": ("warp", ["evaluation.reference.network.features=[4,4]"], r"evaluation\.reference\.network: "),
    "a trainer": ("warp", ["trainer.accelerator=mps"], "trainer: "),
    "features": ("warp", ["evaluation.features.weights=EMPTY"], r"evaluation\.features: .*empty"),
    "an encoder": ("warp", ["segmenter=pretrained", "segmenter.network.weights=EMPTY"], r"segmenter\.network.*empty"),
    "losses": (
        "pix2pixhd",
        ["generator.perceptual=vgg19", "generator.perceptual_weights=EMPTY"],
        r"perceptual_weights: .*empty",
    ),
    "a start": ("pix2pixhd", ["generator.init=FOLDER"], r"generator\.init: no "),
    "a base": ("controlnet", ["generator/base=sd15", "generator.base.path=FOLDER"], "folder"),
    "a codec": ("controlnet", ["generator/base/codec=tiny", "generator.base.codec.path=FOLDER"], r"codec\.path="),
    "a split": ("warp", ["data.split.file=EMPTY"], "empty"),
    "clusters": ("warp", ["data.clusters=EMPTY"], "empty"),
}


# Overrides of the miniature for keys that this encoder, or this base, does not have.
NOT_THERE = {"an encoder": ("segmenter.network.",), "a base": ("generator.base.", "generator/base/")}


@pytest.mark.parametrize("case", EARLY)
def test_a_job_says_before_any_work_what_it_cannot_open_or_build(case: str, tmp_path: Path) -> None:
    generator, overrides, said = EARLY[case]
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "folder").mkdir()
    places = {"EMPTY": str(tmp_path / "empty.safetensors"), "FOLDER": str(tmp_path / "folder")}
    for name, place in places.items():
        overrides = [one.replace(name, place) for one in overrides]
    small = [one for one in miniature(generator, "synthesis.count=4") if not one.startswith(NOT_THERE.get(case, ()))]
    with pytest.raises(ValueError, match=said):
        run(tmp_path, *small, *overrides)
    assert not list(tmp_path.glob("store/train_*"))


@pytest.mark.parametrize("generator", ["warp", "controlnet", "pix2pixhd"])
def test_what_can_be_trained_is_built_once_and_takes_no_memory(generator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    for name in ("build_network", "build_base", "build_discriminator"):
        build = getattr(rehearsal, name)

        def kept(*given: Any, build: Callable[..., Any] = build) -> Any:
            built.append(build(*given))
            return built[-1]

        monkeypatch.setattr(rehearsal, name, kept)
    rehearse(frozen(generator), STAGES)
    assert built
    assert {weight.device.type for network in built for weight in network.parameters()} == {"meta"}


def test_a_network_of_features_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match=r"evaluation\.features: .*no_such_model"):
        check_features(frozen("warp", "evaluation.features.model=no_such_model").evaluation.features)
