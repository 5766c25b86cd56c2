"""What comes with the package: networks that draw, and images that they have not seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dermprompt.data.clusters import clusters_path, load_clusters
from dermprompt.data.index import read_index
from dermprompt.generator.controlnet.base import load_base
from dermprompt.generator.export import load_controlnet, load_pix2pixhd
from dermprompt.weights.box import BOX, SAMPLE, digest, in_box

MEGABYTE = 10**6


def discs() -> torch.Tensor:
    """Masks 2, 1, 128, 128: a small disc and a large one."""
    y, x = torch.meshgrid(torch.arange(128) - 63.5, torch.arange(128) - 63.5, indexing="ij")
    return torch.stack([((y**2 + x**2).sqrt() < radius).float() for radius in (20, 45)])[:, None]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_weights_take_at_most_40_megabytes_and_the_images_2() -> None:
    assert size(BOX.parent) < 40 * MEGABYTE
    assert size(SAMPLE) < 2 * MEGABYTE


def test_nothing_in_the_box_is_pickled() -> None:
    kinds = {path.suffix for path in BOX.parent.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".md", ".py", ".pyc", ""}


def test_the_controlnet_draws_different_images_for_seeds_and_prompts() -> None:
    generator = load_controlnet(
        in_box("box", "controlnet"), load_base("box"), num_steps=4, guidance_scale=2.0, sampler="dpm"
    )
    masks = discs()[:1]
    melanoma, nevus = (f"dermoscopic image of a {name}" for name in ("melanoma", "melanocytic nevus"))
    first = generator.generate(masks, [melanoma], [1])
    assert first.isfinite().all()
    assert first.std() > 0.05
    torch.testing.assert_close(generator.generate(masks, [melanoma], [1]), first)
    assert not torch.allclose(generator.generate(masks, [melanoma], [2]), first, atol=0.1)
    assert not torch.allclose(generator.generate(masks, [nevus], [1]), first, atol=0.02)


def test_pix2pixhd_draws_a_lesion_that_is_darker_than_its_skin() -> None:
    images, masks = load_pix2pixhd(in_box("box", "pix2pixhd")).generate(discs(), [""] * 2, [0, 0]), discs()
    for image, mask in zip(images.mean(1), masks[:, 0].bool(), strict=True):
        assert image[mask].mean() < image[~mask].mean() - 0.1


def test_the_sample_is_240_pairs_with_a_diagnosis_each() -> None:
    index = read_index("sample", SAMPLE, SAMPLE)
    assert len(index.lesions) == 240
    assert {one.diagnosis for one in index.lesions} == {"MEL", "NV", "BKL"}
    assert all(one.attributes is not None for one in index.lesions)
    assert [finding for finding in index.findings if finding.bad] == []


def test_no_generator_in_the_box_has_seen_an_image_of_the_sample_or_a_near_duplicate() -> None:
    ids = {path.stem for path in SAMPLE.rglob("*.jpg")}
    seen = set(json.loads((BOX / "trained_on.json").read_text()))
    assert len(seen) == 1594
    for group in (*((id, id) for id in ids), *load_clusters(clusters_path("isic2018"))):
        assert not (ids.intersection(group) and seen.intersection(group)), group


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = digest(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, digest(tmp_path)}) == 3


def test_a_folder_is_itself() -> None:
    assert in_box("/weights/mine", "base") == Path("/weights/mine")


@pytest.mark.parametrize("part", ["base", "controlnet", "pix2pixhd"])
def test_every_part_is_there(part: str) -> None:
    assert any(in_box("box", part).rglob("*.safetensors"))
