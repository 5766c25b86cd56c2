"""Pictures of a generator's training: once for each generator, first and last among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from dermprompt.report.page import trainings, write_page
from dermprompt.results import Job, Results


def job(name: str, generator: str, count: int) -> Job:
    asked = {"experiment": "main", "command": "run", "base": None, "segmenter": "unet", "dataset": "isic"}
    results = Results(**asked, generator=generator, count=count, seed=0, image_size=32, caution=None, data={})  # type: ignore[arg-type]
    return Path("runs") / name, results


def pictures(folder: Path, steps: range) -> tuple[str, ...]:
    (folder / "training").mkdir(parents=True)
    names = [f"training/{step:07d}.png" for step in steps]
    for name in names:
        Image.new("RGB", (128, 32)).save(folder / name)
    return tuple(names)


def test_each_generator_s_training_is_shown_once(tmp_path: Path) -> None:
    jobs = []
    for name, generator, count in (("a", "controlnet", 64), ("b", "controlnet", 1000), ("c", "pix2pixhd", 64)):
        folder = tmp_path / name
        results = job(name, generator, count)[1]
        jobs.append((folder, replace(results, validation_pictures=pictures(folder, range(100, 2001, 100)))))
    found = trainings(jobs)
    assert [name for name, _ in found] == ["controlnet", "pix2pixhd"]
    steps = [step for step, _ in found[0][1]]
    assert steps[0] == 100
    assert steps[-1] == 2000
    assert len(steps) == 5
    page = write_page(jobs, tmp_path / "sweep", "title")
    assert page.read_text().count('<figure class="strip">') == 10
    assert "../a/training/0002000.png" in (tmp_path / "sweep" / "report.md").read_text()


def test_without_a_training_there_is_no_section(tmp_path: Path) -> None:
    page = write_page([job("a", "controlnet", 64)], tmp_path, "title")
    assert "How the generators learned" not in page.read_text()
