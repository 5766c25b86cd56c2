"""What the worker draws with a generator of a store: the picture of the command line, and how far it can be trusted."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import compose, miniature, run
from PIL import Image

from dermprompt.config.schema import Config
from dermprompt.files import write_json
from dermprompt.job.run import run_job
from dermprompt.pipeline import Pipeline
from dermprompt.store.artifacts import PlanningStore, Recipe
from dermprompt.studio import offers as offering
from dermprompt.studio.desk import Desk
from dermprompt.studio.drawing import Studio
from dermprompt.studio.offers import Offer, find_offers, find_segmenters

DISC = ((np.mgrid[:64, :64] - 32) ** 2).sum(0) < 18**2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a ControlNet and a Pix2PixHD of seconds."""
    made = tmp_path_factory.mktemp("studio")
    for generator in ("controlnet", "pix2pixhd"):
        run(made, *miniature(generator, "stage=train_generator"))
    return made


def configured(folder: Path) -> Config:
    paths = [f"paths.store={folder / 'store'}", f"paths.runs={folder / 'runs'}"]
    return compose("+experiment=studio", "generator.num_steps=2", *paths)


@pytest.fixture
def studio(folder: Path) -> Studio:
    return Studio(configured(folder), Desk(folder / "runs" / "studio"))


def stored(config: Config, kind: str) -> Offer:
    (found,) = [one for one in find_offers(config).values() if one.kind == kind and not one.id.startswith("box-")]
    return found


def drawn(studio: Studio, offer: Offer, **asked: Any) -> dict[str, Any]:
    """All events of a drawing, as one."""
    told: dict[str, Any] = {}
    mask = studio.desk.save_mask(DISC.astype(np.uint8))
    studio.draw(told.update, asdict(offer), {"generator": offer.id, "mask": mask, **asked})
    return told


def test_a_store_is_read_from_its_records(folder: Path) -> None:
    offer = stored(configured(folder), "controlnet")
    assert offer.unavailable is None
    assert (offer.image_size, offer.template) == (64, "dermoscopy")
    assert offer.vocabulary is not None
    assert offer.vocabulary.num_lesions > 0
    assert not {"folder", "base", "training"} & offer.public().keys()
    assert [one.id for one in find_offers(configured(folder)).values()][:2] == ["box-controlnet", "box-pix2pixhd"]


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("controlnet", {"diagnosis": "MEL", "attributes": ["streaks"], "seed": 5}),
        ("controlnet", {"text": "a 'quoted', {odd} word=1", "sampler": "ddim", "num_steps": 4, "guidance_scale": 1.5}),
        ("controlnet", {}),
        ("pix2pixhd", {"seed": 2}),
    ],
)
def test_the_command_draws_the_same_bytes(studio: Studio, folder: Path, tmp_path: Path, kind: str, asked: Any) -> None:
    record = drawn(studio, stored(studio.config, kind), **asked)["picture"]
    words = [*shlex.split(record["command"])[3:], f"paths.store={tmp_path}", f"paths.runs={tmp_path / 'runs'}"]
    run_job(compose(*words), str(tmp_path / "job"), words)
    (image,) = tmp_path.glob("synthesize/*/ISIC2018_Task1-2_Training_Input/SYN_0000000.jpg")
    assert image.read_bytes() == studio.desk.picture_file(record["id"], ".jpg").read_bytes()


def test_the_png_says_what_made_it(studio: Studio) -> None:
    record = drawn(studio, stored(studio.config, "controlnet"), seed=2)["picture"]
    opened = Image.open(studio.desk.picture_file(record["id"], ".png"))
    assert opened.size == (64, 64)
    assert opened.text["Comment"].startswith("synthetic image by dermprompt, generator controlnet-")  # type: ignore
    said = json.loads(opened.text["dermprompt"])  # type: ignore[attr-defined]
    assert {"generator", "drawing", "prompt", "command", "sample_seed"} <= said.keys()


def test_trust_says_the_reference_segmenters_dice_and_the_nearest_training_image(studio: Studio) -> None:
    told = drawn(studio, stored(studio.config, "controlnet"), seed=1)
    mask, copy = told["trust"]["mask"], told["trust"]["copy"]
    assert 0 <= mask["dice"] <= 1
    assert studio.desk.load_mask(mask["outline"]).shape == (64, 64)
    assert 0 < copy["distance"] <= 2
    assert copy["is_copy"] == (copy["distance"] < copy["threshold"])
    assert studio.desk.picture_file(told["picture"]["id"], ".nearest.png").is_file()
    assert studio.desk.record(told["picture"]["id"])["trust"] == told["trust"]


def test_a_training_image_counts_as_a_copy_of_itself(studio: Studio) -> None:
    offer = stored(studio.config, "controlnet")
    drawn(studio, offer)
    seen = studio.copies._seen[offer.id]
    assert seen is not None
    said, nearest = studio.copies.of(offer, seen.images[0])
    assert said["nearest"] == seen.ids[0]
    assert said["is_copy"]
    np.testing.assert_array_equal(nearest, seen.images[0])


def test_a_photograph_is_outlined_at_the_masks_size(studio: Studio, folder: Path) -> None:
    (photograph, *_) = (folder / "store").glob("prepare/phantom-*/*Input/*.jpg")
    told: dict[str, Any] = {}
    studio.segment(told.update, studio.desk.save_photograph(photograph.read_bytes()), "box", 96)
    assert studio.desk.load_mask(told["mask"]).shape == (96, 96)
    with pytest.raises(ValueError, match="no segmenter 'other' is here"):
        studio.segment(told.update, studio.desk.save_photograph(photograph.read_bytes()), "other", 96)


def test_a_generator_that_is_removed_meanwhile_gets_a_sentence(studio: Studio, folder: Path, tmp_path: Path) -> None:
    offer = stored(studio.config, "pix2pixhd")
    moved = shutil.move(offer.folder, tmp_path / "moved")
    try:
        with pytest.raises(ValueError, match="is not in the store any more"):
            drawn(studio, offer)
        assert all(one.kind != "pix2pixhd" or one.id.startswith("box-") for one in find_offers(studio.config).values())
    finally:
        shutil.move(moved, offer.folder)


def test_a_generator_without_its_base_says_what_is_missing(studio: Studio, tmp_path: Path) -> None:
    offer = stored(studio.config, "controlnet")
    assert offer.base is not None
    moved = shutil.move(offer.base, tmp_path / "moved")
    try:
        found = stored(studio.config, "controlnet")
        assert found.unavailable == "not in the store any more: its base"
    finally:
        shutil.move(moved, offer.base)


def test_a_pretrained_base_is_known_by_the_key_that_the_pipeline_gives_it(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    config = compose("data=phantom", "generator/base=sd15", f"generator.base.path={tmp_path / 'sd'}")
    base = Pipeline(config, PlanningStore(tmp_path)).base
    assert base is not None
    settings = {"generator": {"name": "controlnet"}, "base": {"pad": 49407, "text_layers": 12}}
    recipe = Recipe("train_generator", "controlnet", 4, settings, (base.digest,))
    assert offering._base_of(config, recipe, []) == str(tmp_path / "sd")


def test_asking_wrongly_gets_a_sentence(studio: Studio) -> None:
    offer = stored(studio.config, "controlnet")
    for asked, words in (
        ({"sampler": "ddim", "num_steps": 7}, "divisor of 1000"),
        ({"eta": 0.5}, "only ddim"),
        ({"diagnosis": "XYZ"}, "'XYZ' is not known"),
        ({"text": "melanoma " * 100}, "reads at most"),
    ):
        with pytest.raises(ValueError, match=words):
            drawn(studio, offer, **asked)
    with pytest.raises(ValueError, match="the mask has 64 pixels a side; ControlNet draws 128"):
        drawn(studio, find_offers(studio.config)["box-controlnet"])


def test_words_without_weights_are_said(studio: Studio) -> None:
    studio.desk.save_mask(np.ones((128, 128), np.uint8))
    told: dict[str, Any] = {}
    mask = studio.desk.save_mask(np.pad(DISC, 32).astype(np.uint8))
    box = find_offers(studio.config)["box-controlnet"]
    asked = {"generator": box.id, "mask": mask, "text": "dermoscopic image of a purple melanoma", "num_steps": 1}
    studio.draw(told.update, asdict(box), asked)
    assert told["picture"]["unread"] == ["purple"]


def test_steps_are_told_and_giving_up_ends_at_the_next(studio: Studio) -> None:
    class GivenUp(Exception):
        pass

    steps: list[dict[str, Any]] = []

    def tell(event: dict[str, Any]) -> None:
        steps.append(event)
        if len(steps) == 2:
            raise GivenUp

    offer = stored(studio.config, "controlnet")
    mask = studio.desk.save_mask(DISC.astype(np.uint8))
    with pytest.raises(GivenUp):
        studio.draw(tell, asdict(offer), {"generator": offer.id, "mask": mask, "num_steps": 9})
    assert steps == [{"step": 1, "of": 9}, {"step": 2, "of": 9}]


def test_an_opened_generator_reuses_features_when_asked(studio: Studio) -> None:
    offer, drawn = stored(studio.config, "controlnet"), []
    mask = studio.desk.save_mask(DISC.astype(np.uint8))
    for interval in (1, 2, 1):
        events: list[dict[str, Any]] = []
        asked = {"generator": offer.id, "mask": mask, "num_steps": 4, "cache_interval": interval}
        studio.draw(events.append, asdict(offer), asked)
        assert [one["step"] for one in events if "step" in one] == [1, 2, 3, 4]
        picture = next(one["picture"]["id"] for one in events if "picture" in one)
        drawn.append(Image.open(studio.desk.picture_file(picture, ".png")).tobytes())
    assert drawn[0] == drawn[2] != drawn[1]


def test_masks_are_rolled_in_all_ways(studio: Studio) -> None:
    for masks in ("realistic", "transform", "paper_code", "paper_text"):
        told: dict[str, Any] = {}
        studio.roll(told.update, masks, 3, 64)
        assert studio.desk.load_mask(told["mask"]).any()
    again: dict[str, Any] = {}
    studio.roll(again.update, "paper_text", 3, 64)
    assert again == told


def test_segmenters_of_a_store_are_listed(tmp_path: Path) -> None:
    (tmp_path / "store" / "train_segmenter" / "unet-1").mkdir(parents=True)
    write_json(tmp_path / "store" / "train_segmenter" / "unet-1" / "artifact.json", {})
    assert "unet-1" in find_segmenters(configured(tmp_path))


def test_offers_come_back_from_json(folder: Path) -> None:
    for one in find_offers(configured(folder)).values():
        assert offering.read_offer(json.loads(json.dumps(asdict(one)))) == one
