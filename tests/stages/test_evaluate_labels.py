"""Whether text is obeyed, on a data set with label files: from its images to the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import compose, miniature, run

from dermprompt.data.datasets.phantom import make_phantom, write_phantom
from dermprompt.distributed.processes import Runtime
from dermprompt.files import read_json
from dermprompt.pipeline import Pipeline
from dermprompt.stages import evaluate_labels as labels
from dermprompt.stages.settings import EvaluateText
from dermprompt.store.artifacts import PlanningStore, Store
from dermprompt.synthesis.samples import Condition, write_batch

COUNT = 60


def small_pictures(network: object, runtime: object) -> Callable[[np.ndarray], np.ndarray]:
    """Stands in for the network: an image at 6 × 6 pixels shows the colours that are the phantom's diagnosis."""
    return lambda images: np.stack([cv2.resize(one, (6, 6), interpolation=cv2.INTER_AREA).ravel() for one in images])


@pytest.fixture(scope="module")
def isic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and labels that jobs read."""
    folder = tmp_path_factory.mktemp("isic")
    write_phantom(folder, 160, 64, seed=1)
    return folder


@pytest.fixture
def overrides(isic: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    monkeypatch.setattr(labels, "feature_extractor", small_pictures)

    def give(*more: str, generator: str = "controlnet") -> list[str]:
        kept = [item for item in miniature(generator, *more) if not item.startswith(("data=", "data.num_images"))]
        return [*kept, "data=isic", f"data.root={isic}"]

    return give


def write_samples(folder: Path, asked: Callable[[int], int]) -> None:
    """Phantoms as samples, sample k prompted with the labels of phantom ``asked(k)``."""
    drawn = [make_phantom(9, k, 64) for k in range(COUNT)]
    rows = []
    for k, one in enumerate(drawn):
        label = drawn[asked(k)]
        condition = Condition(one.mask, "m", None, "p", label.diagnosis or None, label.attributes)
        rows.append((k, 0, condition, one.image))
    (folder / "batches").mkdir(parents=True)
    write_batch(folder, folder / "batches" / "0000.json", rows, "phantom")


def test_samples_that_show_their_labels_are_told_from_those_that_do_not(overrides, tmp_path: Path) -> None:
    config = compose(*overrides("synthesis.count=4"), f"paths.store={tmp_path / 'store'}")
    pipeline = Pipeline(config, Store(tmp_path / "store"))
    classifier, split = pipeline.classifier.path, read_json(pipeline.coverage.path / "coverage.json")["split"]
    learnt = read_json(classifier / "classifier.json")
    assert learnt["images"] == split["generator"] + split["train"]
    assert learnt["questions"][0]["classes"] == ["BKL", "MEL", "NV"]
    found = {}
    for name, asked in (("own", lambda k: k), ("others", lambda k: (k + 7) % COUNT)):
        write_samples(tmp_path / name, asked)
        (tmp_path / f"{name}-found").mkdir()
        settings = EvaluateText(COUNT, config.seed, config.image_size)
        folders = (tmp_path / name, classifier, tmp_path / f"{name}-found")
        labels.evaluate_labels(settings, Runtime.of(config), *folders)
        rows = read_json(tmp_path / f"{name}-found" / "labels.json")
        found[name] = {row["real"]["label"]: row["generated"] for row in rows}
        assert [row["real"]["label"] for row in rows] == [row["generated"]["label"] for row in rows]
    own, others = found["own"]["diagnosis"], found["others"]["diagnosis"]
    assert own["accuracy"]["mean"] > 0.75
    assert own["accuracy"]["mean"] > own["shuffled"]["high"] + 0.2
    assert others["accuracy"]["mean"] < others["shuffled"]["high"] + 0.05
    assert others["shuffled"]["mean"] == pytest.approx(1 / 3, abs=0.03)


def test_a_job_ends_in_the_table(overrides, tmp_path: Path) -> None:
    results = run(tmp_path, *overrides("synthesis.count=12"))
    assert results["text_fidelity"] is None
    first, *rest = results["label_fidelity"]
    assert (first["real"]["label"], first["real"]["n"]) == ("diagnosis", results["data"]["split"]["test"])
    assert first["generated"]["n"] == 12
    assert len(rest) > 3
    page = (tmp_path / "runs/job/index.html").read_text()
    assert "Is the text followed?" in page


@pytest.mark.parametrize(
    ("generator", "more", "planned"),
    [
        ("controlnet", ["synthesis.count=4"], True),
        ("controlnet", ["synthesis.count=0"], False),
        ("controlnet", ["synthesis.count=4", "prompts=empty"], False),
        ("pix2pixhd", ["synthesis.count=4"], False),
    ],
)
def test_without_prompts_nothing_is_measured(overrides, tmp_path: Path, generator, more, planned) -> None:
    pipeline = Pipeline(compose(*overrides(*more, generator=generator)), PlanningStore(tmp_path / "store"))
    assert (pipeline.text_quality is not None) == planned
