"""A researcher's own folder through whole stages: what is left out, what is kept, and what is said."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import SEGMENTER, UNET, compose, run
from PIL import Image

from dermprompt.data.datasets.phantom import make_phantom
from dermprompt.pipeline import Pipeline
from dermprompt.stages.prepare import load_generator_set
from dermprompt.store.artifacts import Store

NUMBER = 24
SMALL = ["trainer=cpu", "image_size=64", "generator=none", "synthesis.count=0", *SEGMENTER, f"segmenter.{UNET}"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Pairs of 64 x 96 pixels, of which each fourth shows no lesion."""
    for part in ("images", "masks"):
        (tmp_path / "own" / part).mkdir(parents=True)
    for i in range(NUMBER):
        phantom = make_phantom(0, i, 96)
        Image.fromarray(phantom.image[:64]).save(tmp_path / "own" / "images" / f"a{i}.jpg")
        mask = phantom.mask[:64] * np.uint8(255) * (i % 4 > 0)
        Image.fromarray(mask).save(tmp_path / "own" / "masks" / f"a{i}.png")
    return tmp_path / "own"


def overrides(own: Path, *more: str) -> list[str]:
    return [*SMALL, "data=folder", f"data.root={own}", "data.split.seed=1", *more]


def test_empty_masks_stop_or_are_kept_as_images_without_a_lesion(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"6 × empty_mask .*data.on_bad=skip"):
        run(tmp_path, *overrides(own), "stage=prepare")
    kept = overrides(own, "data.empty_masks=keep")
    results = run(tmp_path, *kept)
    (cell,) = results["segmentation"]
    assert np.isfinite(cell["dice"]["mean"])
    pipeline = Pipeline(compose(*kept, f"paths.store={tmp_path / 'store'}"), Store(tmp_path / "store"))
    known = {one.id for one in load_generator_set(pipeline.generator_set.path)}
    empty = {f"a{i}" for i in range(0, NUMBER, 4)}
    split = json.loads((pipeline.prepared.path / "split.json").read_text())["parts"]
    assert empty & set(split["generator"])
    assert known == set(split["generator"]) - empty
    text = (pipeline.coverage.path / "coverage.txt").read_text()
    assert "negative: 6, accepted (an empty mask: an image without a lesion, which generators and mask sources" in text


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad"])
def test_the_fit_is_said_and_scores_are_of_the_files_own_resolution(fit: str, own: Path, tmp_path: Path) -> None:
    """Predictions that are the truth at the size of the files, and at the segmenter's."""
    own_fit = overrides(own, "data.empty_masks=keep", f"data.fit={fit}")
    predictions = tmp_path / "predictions"
    shutil.copytree(own / "masks", predictions)
    results = run(tmp_path, *own_fit, "segmenter.name=theirs", f"segmenter.predictions={predictions}")
    assert results["segmentation"][0]["dice"]["mean"] == 1
    said = [] if fit == "squeeze" else [f"data.fit={fit}"]
    assert results["data"]["pictures read with"] == ["data.empty_masks=keep", *said]
    assert "pictures read with" in (tmp_path / "runs/job/index.html").read_text()


ODD = (
    "with blanks",
    "a.b.c",
    "(1) [x]",
    "a,b;c",
    "x=1,y={2}",
    "Läsion",
    "quote'\"",
    "$HOME `ls`",
    "-dash",
    "x" * 200,
    "SYN_0000001",
)


def test_names_of_any_kind_survive_page_command_and_export(own: Path, tmp_path: Path) -> None:
    """The root's name is odd too, and the report's command runs as it stands in a shell."""
    root = tmp_path / "mine (1), [x] ü"
    own.rename(root)
    for i, name in enumerate(ODD):
        for part, ending in (("images", "jpg"), ("masks", "png")):
            (root / part / f"a{2 * i}.{ending}").rename(root / part / f"{name}.{ending}")
    quoted = str(root).replace("\\", "\\\\").replace("'", "\\'")
    warp = [one for one in SMALL if one not in ("generator=none", "synthesis.count=0")]
    job = [*warp, "generator=warp", "synthesis.count=4", "synthesis.batch_size=4", "synthesis.export_copies=true"]
    job += ["data=folder", f"data.root='{quoted}'", "data.empty_masks=keep", "arm.real=s_and_g"]
    run(tmp_path, *job)
    results = json.loads((tmp_path / "runs/job/results.json").read_text())
    asked = shlex.split(results["command"])
    assert asked[:3] == ["python", "-m", "dermprompt"]
    echoed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {results['command']}"], capture_output=True, text=True, check=True
    )
    assert echoed.stdout.split("\0")[:-1] == ["python", "-m", "dermprompt", *asked[3:]]
    assert compose(*asked[3:]).data.root == str(root)
    run(tmp_path, *job, "stage=export", "export=nnunet", job="export")
    train = tmp_path / "runs/export/Dataset500_default/labelsTr"
    test = tmp_path / "runs/export/Dataset500_default/labelsTs"
    stems = {path.stem for folder in (train, test) for path in folder.iterdir()}
    assert stems >= {*ODD[:-1], "REAL_SYN_0000001", "SYN_0000001"}
    about = json.loads((train.parent / "dataset.json").read_text())
    assert about["numTraining"] == len(list(train.iterdir())) == len(list((train.parent / "imagesTr").iterdir()))


def test_a_person_is_never_on_both_sides(own: Path, tmp_path: Path) -> None:
    rows = "".join(f"a{i},P{i // 2}\n" for i in range(NUMBER))
    (own / "labels.csv").write_text("id,patient_id\n" + rows)
    run(tmp_path, *overrides(own, "data.empty_masks=keep"), "stage=prepare")
    (text,) = (tmp_path / "store/prepare").glob("coverage-*/coverage.txt")
    assert len(re.findall(r"P\d+: ", text.read_text())) == 10
    assert "… (12 in all, which coverage.json lists)" in text.read_text()
    (split,) = (tmp_path / "store/prepare").glob("split-grouped-*/split.json")
    part_of = {id: part for part, ids in json.loads(split.read_text())["parts"].items() for id in ids}
    for person in range(NUMBER // 2):
        assert part_of[f"a{2 * person}"] == part_of[f"a{2 * person + 1}"]


def test_the_report_is_of_these_very_files(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of other images change no label, and so no split; the report counts them."""
    prepare = [*overrides(own, "data.empty_masks=keep"), "stage=prepare"]
    table = own / "labels.csv"
    table.write_text("id,diagnosis\n" + "".join(f"a{i},MEL\n" for i in range(NUMBER)))
    run(tmp_path, *prepare)
    table.write_text(table.read_text() + "other,NV\n")
    capsys.readouterr()
    run(tmp_path, *prepare)
    assert re.search(r"labels.csv +25 +24 +0 +0 +1", capsys.readouterr().out)
    assert len(list((tmp_path / "store/prepare").glob("split-grouped-*/split.json"))) == 1


def test_a_plan_counts_the_images_that_are_there(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dermprompt import cost

    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "pictures", lambda number: asked.append(number) or 1.0)
        run(tmp_path, *overrides(own), "stage=plan")
    assert set(asked) == {NUMBER}


def test_unused_folders_of_the_parts_are_said(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("images", "masks"):
        (own / kind / "test").mkdir()
    for i in (1, 2, 3):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            (own / kind / f"a{i}.{ending}").rename(own / kind / "test" / f"a{i}.{ending}")
    run(tmp_path, *overrides(own, "data.empty_masks=keep"), "stage=prepare")
    assert "3 images of the test folder are not used; data/split=official uses them" in capsys.readouterr().out


def test_grey_masks_name_the_setting_that_decides(own: Path, tmp_path: Path) -> None:
    mask = cv2.imread(str(own / "masks/a1.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(own / "masks/a1.png"), cv2.GaussianBlur(mask, (0, 0), 2))
    with pytest.raises(ValueError, match=r"1 × grey_mask \(a1\.png: .*data\.mask_threshold=128 would take"):
        run(tmp_path, *overrides(own, "data.empty_masks=keep"), "stage=prepare")
