"""Images without a mask (``data.without_mask=pool``): only the base learns from them, and none is of S."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from miniature import compose, miniature, run
from PIL import Image

from dermprompt.data.datasets.phantom import make_phantom
from dermprompt.distributed.make import Maker
from dermprompt.distributed.processes import Runtime
from dermprompt.pipeline import Pipeline
from dermprompt.stages import train_generator
from dermprompt.stages.arrays import load_generator_part, training_images
from dermprompt.stages.curate import find_nearest
from dermprompt.stages.prepare import load_generator_set, load_lesions, load_pool
from dermprompt.stages.settings import FindNearest
from dermprompt.store.artifacts import Declaration, PlanningStore, Recipe, Store

NUMBER = 40
# Without a mask: of a person, a lesion and an image of S, near an image of S, of that one's person, of one of G, free.
POOL = ("person", "lesion", "content", "near", "chained", "in_g", "free", "other")
SMALL = {name: [one for one in miniature(name) if one[:4] != "data"] for name in ("controlnet", "pix2pixhd", "none")}
BOX = [one for one in SMALL["controlnet"] if not one.startswith(("generator/base", "generator.base"))]
SMALL |= {"box": [*BOX, "generator/base=box"], "folder": SMALL["none"]}
POOLED = "data.without_mask=pool"


def paint(path: Path, number: int) -> None:
    Image.fromarray(make_phantom(0, number, 64).image).save(path, quality=95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the Archive and a store in which it is prepared, with the pool and without."""
    made = tmp_path_factory.mktemp("pool")
    root = made / "archive"
    (root / "masks").mkdir(parents=True)
    for i in range(NUMBER):
        paint(root / f"ISIC_{i:07d}.jpg", i)
        mask = make_phantom(0, i, 64).mask * np.uint8(255)
        Image.fromarray(mask).save(root / "masks" / f"ISIC_{i:07d}_segmentation.png")
    for i, name in enumerate(POOL):
        paint(root / f"{name}.jpg", NUMBER + i)
    rows = [f"ISIC_{i:07d},Nevus,IP_{i},IL_{i}" for i in range(NUMBER)]
    table = root / "metadata.csv"
    table.write_text("\n".join(["isic_id,diagnosis_3,patient_id,lesion_id", *rows]) + "\n")
    run(made, *overrides(made, "data.without_mask=leave_out", "stage=prepare"))
    split = parts(made)
    test, train, val, g = (split[name][0] for name in ("test", "train", "val", "generator"))
    shutil.copy(root / f"{val}.jpg", root / "content.jpg")
    person, lesion, in_g = (f"{kind}_{int(id[-7:])}" for kind, id in (("IP", test), ("IL", train), ("IP", g)))
    rows += [f"person,Nevus,{person},", f"lesion,Nevus,,{lesion}", "near,Nevus,IP_x,", "chained,Nevus,IP_x,"]
    rows += [f"in_g,Melanoma,{in_g},", "free,Basal cell carcinoma,IP_y,"]
    table.write_text("\n".join(["isic_id,diagnosis_3,patient_id,lesion_id", *rows]) + "\n")
    pairs = [{"first": split["test"][1], "second": "near"}]
    (made / "clusters.json").write_text(json.dumps({"pairs": pairs}))
    run(made, *overrides(made, POOLED, "stage=prepare"))
    return made


def overrides(folder: Path, *more: str, kind: str = "controlnet") -> list[str]:
    clusters = [f"data.clusters={folder}/clusters.json"] if (folder / "clusters.json").exists() else []
    return [*SMALL[kind], "data=isic_archive", f"data.root={folder}/archive", *clusters, *more]


def parts(folder: Path) -> dict[str, list[str]]:
    (split,) = {path.read_text() for path in (folder / "store/prepare").glob("split-*/split.json")}
    return {part: list(ids) for part, ids in json.loads(split)["parts"].items()}


def opened(folder: Path, *more: str, kind: str = "controlnet", planning: bool = False) -> Pipeline:
    store = PlanningStore if planning else Store
    return Pipeline(compose(*overrides(folder, *more, kind=kind)), store(folder / "store"))


def test_no_image_lesion_or_person_is_on_both_sides(folder: Path) -> None:
    pipeline = opened(folder, POOLED)
    pool = load_pool(pipeline.pool["pool"].path)
    assert [one.id for one in pool] == ["free", "in_g", "other"]
    assert {one.mask for one in pool} == {None}
    assert {one.id: one.diagnosis for one in pool} == {"free": "BCC", "in_g": "MEL", "other": None}
    # The split is that without a pool (a single one in the store), and the pool is in none of its parts.
    assert not {*POOL} & {id for ids in parts(folder).values() for id in ids}
    assert not {*POOL} & set(load_lesions(pipeline.prepared.path)[0])
    assert not {*POOL} & {one.id for one in load_generator_set(pipeline.generator_set.path)}


def test_the_report_counts_the_pool(folder: Path) -> None:
    text = (opened(folder, POOLED).coverage.path / "coverage.txt").read_text()
    assert "pool        3 images without a mask, from which the base learns besides G (only generator/base=scr" in text
    assert "\n            5 left out: of an image, lesion or person of S\n" in text
    assert "validation or test folder" not in text
    without = (opened(folder).coverage.path / "coverage.txt").read_text()
    assert "pool   " not in without
    assert "unlabelled: 1, accepted (images without a mask, which only data.without_mask=pool uses)" in without


def test_the_base_learns_from_g_and_the_pool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    fit = train_generator.fit_on_images

    def note(settings: Any, runtime: Any, module: Any, latents: Any, ids: tuple[str, ...], *more: Any) -> None:
        told.update(ids=ids, prompts=latents.prompts, numbers=latents.numbers.tolist())
        fit(settings, runtime, module, latents, ids, *more)

    monkeypatch.setattr(train_generator, "fit_on_images", note)
    pipeline = opened(folder, POOLED)
    assert pipeline.base is not None
    g = len(parts(folder)["generator"])
    assert len(told["ids"]) == g - max(1, min(8, g // 10)) + 3
    assert told["ids"][-3:] == ("free", "in_g", "other")
    prompts = [told["prompts"][number] for number in told["numbers"][-3:]]
    assert "basal cell carcinoma" in prompts[0]
    assert "melanoma" in prompts[1]
    # With seed 0, the same images would be held out of 25 and of 28.
    held_out, known = replace(pipeline.held_out, seed=2), pipeline.generator_set.path
    with_pool = training_images(held_out, known, pipeline.pool["cache"].path, None, pipeline.pool["pool"].path)
    without = training_images(held_out, known, pipeline.images.path)
    assert with_pool.ids[:-3] == without.ids
    np.testing.assert_array_equal(with_pool.images[:-3], without.images[:])
    assert not with_pool.masks[-3:].any()


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, Declaration]:
    """The last declaration of each work."""
    found: dict[str, Declaration] = {}
    declare = Maker.declare

    def noted(self: Maker, *given: Any, **named: Any) -> Declaration:
        one = declare(self, *given, **named)
        found[one.work.rpartition(".")[2]] = one
        return one

    monkeypatch.setattr(Maker, "declare", noted)
    return found


def recipes(folder: Path, declared: dict[str, Declaration], *more: str, kind: str = "controlnet") -> dict[str, Recipe]:
    """The recipe of each work of a whole job."""
    declared.clear()
    pipeline = opened(folder, f"synthesis.count={0 if kind == 'none' else 4}", *more, kind=kind, planning=True)
    pipeline.prepare()
    pipeline.evaluate()
    _ = pipeline.duplicates
    return {work: one.recipe for work, one in declared.items()}


def changed(one: dict[str, Recipe], other: dict[str, Recipe]) -> set[str]:
    return {work for work in one.keys() | other.keys() if work not in one or one[work] != other.get(work)}


DRAWN = {"train_base", "train_controlnet", "synthesize", "reproduce", "find_nearest"}


def test_only_what_derives_from_the_base_gets_another_key(folder: Path, declared: dict[str, Declaration]) -> None:
    without, pooled = recipes(folder, declared), recipes(folder, declared, POOLED)
    different = changed(without, pooled)
    assert different >= {*DRAWN, "list_pool", "report_coverage"}
    kept = {"fit_pca", "list_generator_set", "train_reference", "draw_masks", "evaluate_trivial"}
    assert kept <= {*without}
    assert not different & kept
    for kind in ("box", "pix2pixhd", "none"):
        without, pooled = recipes(folder, declared, kind=kind), recipes(folder, declared, POOLED, kind=kind)
        assert "train_segmenter" in without
        assert not {*DRAWN, "train_pix2pixhd", "train_segmenter"} & changed(without, pooled), kind


def test_a_closed_world_has_no_pool(folder: Path, declared: dict[str, Declaration]) -> None:
    closed = "arm.world=closed"
    assert not DRAWN & changed(recipes(folder, declared, closed), recipes(folder, declared, closed, POOLED))


def test_recipes_without_a_pool_do_not_tell_of_it(folder: Path, declared: dict[str, Declaration]) -> None:
    without = recipes(folder, declared)
    assert {"index_data", "cache_pictures", "train_base", "find_nearest"} <= without.keys()
    assert not {"without_mask", "with_pool"} & {key for one in without.values() for key in one.settings}
    assert {len(without[work].inputs) for work in ("train_base", "find_nearest")} == {3, 4}


@pytest.fixture(scope="module")
def drawn(folder: Path) -> list[str]:
    """Samples from elsewhere, of which the first mirrors an image of the pool, and what uses them."""
    theirs = folder / "theirs"
    for name in ("images", "masks"):
        (theirs / name).mkdir(parents=True)
    for k in range(8):
        noise = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        image = cv2.flip(cv2.imread(str(folder / "archive/free.jpg")), 1) if k == 0 else noise
        cv2.imwrite(str(theirs / "images" / f"x{k}.png"), image)
        shutil.copy(folder / "archive/masks/ISIC_0000000_segmentation.png", theirs / "masks" / f"x{k}.png")
    return ["generator=folder", f"generator.path={theirs}", "synthesis.count=8"]


def test_a_copy_of_an_image_of_the_pool_is_told(
    folder: Path, drawn: list[str], declared: dict[str, Declaration], tmp_path: Path
) -> None:
    samples = Pipeline(compose(*elsewhere(folder, drawn)), Store(folder / "store")).samples
    base = opened(folder, POOLED, "synthesis.count=8", planning=True)
    _ = base.memorised
    seen = {name: path for name, path in declared["find_nearest"].folders.items() if name != "samples"}
    find_nearest(FindNearest(8, "thumbnails"), Runtime.of(base.config), samples=samples.path, folder=tmp_path, **seen)  # type: ignore
    found = json.loads((tmp_path / "nearest.json").read_text())
    assert found["nearest"][0] == "free"
    assert found["distances"][0] < 0.05 < min(found["distances"][1:])


def elsewhere(folder: Path, drawn: list[str], *more: str) -> list[str]:
    return [*overrides(folder, POOLED, *more, kind="folder")[1:], *drawn]


def test_samples_from_elsewhere_are_compared_with_the_pool_too(folder: Path, drawn: list[str]) -> None:
    with pytest.raises(ValueError, match="1 of 8 samples count as copies of real images: SYN_0000000"):
        run(folder, *elsewhere(folder, drawn, "stage=export"), job="copies")


def test_external_images_of_the_pool_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.open(folder / "archive/free.jpg").save(tmp_path / "images/x.jpg", quality=80)
    shutil.copy(folder / "archive/masks/ISIC_0000000_segmentation.png", tmp_path / "masks/x.png")
    small = overrides(folder, POOLED, kind="none")
    external = ["synthesis.count=0", "+data@external=folder", f"external.root={tmp_path}"]
    with pytest.raises(ValueError, match=r"external.root=.*: 1 images .* x is free \(the same picture\)"):
        run(folder, *small, *external, job="external")


def test_near_duplicates_are_looked_for_in_the_pool_too(folder: Path) -> None:
    found = json.loads((opened(folder, POOLED).duplicates.path / "clusters.json").read_text())["pairs"]
    assert [one["second"] for one in found if one["second"] in POOL] == ["content"]


def test_a_whole_job_with_a_pool(folder: Path) -> None:
    """Its page shows the nearest images, the studio and the card of the generator know of the pool."""
    from dermprompt.export.provenance import generator_facts
    from dermprompt.job.summary import _nearest_pairs
    from dermprompt.studio.offers import find_offers
    from dermprompt.studio.trust import Copies

    results = run(folder, *overrides(folder, POOLED, "synthesis.count=4"), job="whole")
    assert results["data"]["pool without masks"] == 3
    assert len(results["memorisation"]["pairs"]) == 2
    pipeline = opened(folder, POOLED, "synthesis.count=4")
    (shown,) = _nearest_pairs(pipeline, [(0, "free", 0.1)], folder / "runs/whole")
    assert shown.id == "SYN_0000000, free"
    assert generator_facts(pipeline)["the base also trained on"] == "3 images without a mask"
    studio = Pipeline(compose("+experiment=studio", f"paths.store={folder}/store"), Store(folder / "store"))
    offer = find_offers(studio.config)[pipeline.generator.path.name]
    known, pool = pipeline.generator_set.path, pipeline.pool
    part = load_generator_part(known, pool["cache"].path, pool["pool"].path)
    said, _ = Copies(studio).of(offer, part.images[len(part.lesions) - 1])
    assert (said["nearest"], said["is_copy"]) == ("other", True)
    # Without the list of the pool, it is unknown what the base has seen.
    listed = pool["pool"].path / "artifact.json"
    listed.rename(listed.with_name("away"))
    assert find_offers(studio.config)[offer.id].training is None
    listed.with_name("away").rename(listed)


def test_a_folder_of_ones_own_has_a_pool_if_that_is_said(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "own" / name).mkdir(parents=True)
    for i in range(14):
        paint(tmp_path / f"own/images/a{i}.jpg", i)
        if i < 12:
            Image.fromarray(make_phantom(0, i, 64).mask * np.uint8(255)).save(tmp_path / f"own/masks/a{i}.png")
    (tmp_path / "own/labels.csv").write_text("id,part\na12,test\n")
    own = [*SMALL["none"], "data=folder", f"data.root={tmp_path}/own", "synthesis.count=0", "stage=prepare"]
    with pytest.raises(ValueError, match=r"2 × no_mask \(a12.jpg: no_mask; a13.jpg: no_mask\)"):
        run(tmp_path, *own)
    run(tmp_path, *own, POOLED)
    (report,) = (tmp_path / "store/prepare").glob("coverage-*/coverage.json")
    left_out = {"of an image, lesion or person of S": [], "of the validation or test folder": ["a12"]}
    assert json.loads(report.read_text())["pool"] == {"images": ["a13"], "left_out": left_out}
    (tmp_path / "own/images/a13.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 × unreadable \(a13.jpg: .*data.on_bad=skip"):
        run(tmp_path, *own, POOLED)
    run(tmp_path, *own, POOLED, "data.on_bad=skip", "data.max_bad_fraction=0.5")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data=phantom", POOLED], "data.without_mask=pool with data=phantom: all its images have masks; leave_out"),
        (
            ["data=isic", "data.root=x", "+data@external=ph2", "external.root=x", "external.without_mask=pool"],
            "external.w",
        ),
        (["data=isic", "data.root=x", "data.without_mask=all"], "data.without_mask=all: allowed are leave_out, pool"),
    ],
)
def test_what_is_refused(settings: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compose(*settings)
