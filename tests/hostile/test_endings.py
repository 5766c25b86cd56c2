"""How commands end: in one line, whatever was wrong, and pages and tables that leave out what is damaged and say so."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from miniature import CONF, TWO_RANKS, miniature, on

from dermprompt.entry import INTERRUPTED, in_words
from dermprompt.evaluation.scores import Scores, save_scores
from dermprompt.export.cards import DatasetFacts, dataset_card
from dermprompt.results import Interval, Results, Segmentation, save_results
from dermprompt.sweep.comparison import ArmId, Record, Setting
from dermprompt.sweep.page import write_sweep_page
from dermprompt.sweep.published import SCORES, TABLES, publish, verify
from dermprompt.synthesis.index import COLUMNS, write_index

REPOSITORY = CONF.parent
HOSTILE = ("=cmd()", "+1", "-1", "@sum", "\t=x", "<img src=x onerror=alert(1)>", "{{7*7}}", "a|b", "Mélanome|noir")


def raises(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


ENDINGS = {
    "a mistake": (ValueError("x=1: at least 2"), 1, "error: x=1: at least 2\n"),
    "a name that controls a terminal": (ValueError("\x1b[2J"), 1, "error: \\x1b[2J\n"),
    "a file": (FileNotFoundError(2, "No such file", "a\x07b"), 1, "error: [Errno 2] No such file: 'a\\x07b'\n"),
    "Ctrl-C": (KeyboardInterrupt(), INTERRUPTED, "interrupted; the same command continues\n"),
    "usage": (SystemExit("usage: x"), 1, "usage: x\n"),
    "an exit": (SystemExit(75), 75, ""),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_command_ends_in_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code, said = ENDINGS[case]
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        in_words(raises(error))()
    signal.signal(signal.SIGINT, handler)
    assert ended.value.code == code
    shown = capsys.readouterr().err
    assert shown == said or (case == "a file" and shown.isprintable is not None and "\x07" not in shown)


def test_a_fault_of_the_program_keeps_its_stack() -> None:
    with pytest.raises(KeyError):
        in_words(raises(KeyError("ours")))()


COMMANDS = {
    "dermprompt.sweep.page": ["FOLDER"],
    "dermprompt.sweep.published": ["FOLDER"],
    "dermprompt.generator.shards": ["unpack", "FOLDER", "OUT"],
    "dermprompt.verify": ["NOWHERE"],
    "dermprompt.training.wandb_send": ["NOWHERE"],
    "dermprompt.job.dashboard": ["FOLDER"],
    "dermprompt.export.box": ["NOWHERE", "OUT"],
    "dermprompt": ["studio", "generator=warp"],
}


@pytest.mark.slow
@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_says_a_users_mistake_in_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "x.shards").mkdir()
    for name in ("results.json", "tables.json", SCORES, "x.shards/shards.json"):
        (tmp_path / name).write_text("{")
    places = {"FOLDER": str(tmp_path), "OUT": str(tmp_path / "out"), "NOWHERE": str(tmp_path / "nowhere")}
    arguments = [places.get(one, one) for one in COMMANDS[module]]
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(("error: ", "usage: "))
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_standard_output_is_not_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "dermprompt", "--cfg", "job", "data=phantom"],
            cwd=REPOSITORY,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, f"error: standard output: {os.strerror(errno.ENOSPC)}\n")


SWALLOWS = """
import time
try:
    print("imports", flush=True)
    time.sleep(60)
except BaseException:
    print("went on")
"""
# Tests that run in the background may have inherited that SIGINT is ignored.
AS_FROM_A_TERMINAL = ("env", "--default-signal=INT")
IMPORTS = {
    "before the command": ("hydra", ["-m", "dermprompt"]),
    "before another command": ("diffusers", ["-m", "dermprompt.verify", "x"]),
    "within it": ("late", ["-c", "from dermprompt import entry; entry.in_words(lambda: __import__('late'))()"]),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_ctrl_c_ends_an_import_that_would_swallow_it(case: str, tmp_path: Path) -> None:
    module, arguments = IMPORTS[case]
    (tmp_path / f"{module}.py").write_text(SWALLOWS)
    with subprocess.Popen(
        [*AS_FROM_A_TERMINAL, sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "imports\n"
        command.send_signal(signal.SIGINT)
        shown, said = command.communicate(timeout=60)
    assert (command.returncode, shown) == (INTERRUPTED, "")
    assert said == "interrupted; the same command continues\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "seconds", "trainer"),
    [
        (None, 1.0, []),  # while it imports and composes
        ("── prepare: phantom", 0.1, []),
        ("── prepare: pictures", 0.0, []),
        ("── train_generator", 3.0, []),
        ("── train_judge", 15.0, TWO_RANKS),
        ("── draw_masks", 0.2, []),
        ("── synthesize", 0.0, []),
        ("── train_segmenter", 3.0, []),
        ("── evaluate", 0.0, []),
    ],
)
def test_ctrl_c_ends_a_job_in_one_line(phase: str | None, seconds: float, trainer: list[str], tmp_path: Path) -> None:
    """As a terminal sends it: to all processes of the group."""
    command = miniature("pix2pixhd", "data.num_images=200", "synthesis.count=400", "generator.max_steps=40")
    command = on(trainer, command) if trainer else command
    with subprocess.Popen(
        [
            *AS_FROM_A_TERMINAL,
            sys.executable,
            "-u",
            "-m",
            "dermprompt",
            *command,
            f"paths.store={tmp_path}/s",
            f"paths.runs={tmp_path}/r",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as job:
        assert job.stdout is not None
        while phase and not job.stdout.readline().startswith(phase):
            assert job.poll() is None
        time.sleep(seconds)
        os.killpg(job.pid, signal.SIGINT)
        _, said = job.communicate(timeout=60)
    assert job.returncode == INTERRUPTED
    assert said.splitlines()[-1] == "interrupted; the same command continues"
    assert "Traceback" not in said


def scores(dice: float) -> Scores:
    return Scores(dice, dice, dice, dice, dice, 0.1, dice, 5, 10, 0.2, 0)


def write_job(sweep: Path, name: str) -> Path:
    folder = sweep / name
    folder.mkdir()
    save_scores({"a": scores(0.8), "b": scores(0.9)}, folder / "scores.csv")
    interval = Interval(0.85, 0.8, 0.9, 2)
    cell = Segmentation("unet", None, 0, interval, None, 0.85, 0.0, arm=name, scores="scores.csv")
    asked = ("x", "dermprompt", None, None, 0, "unet", 0, 64, "phantom", None, {})
    save_results(Results(*asked, segmentation=(cell,)), folder / "results.json")
    return folder


DAMAGE: dict[str, Callable[[Path], object]] = {
    "results.json cut": lambda job: os.truncate(job / "results.json", 100),
    "results.json empty": lambda job: (job / "results.json").write_text(""),
    "results.json of another kind": lambda job: (job / "results.json").write_text("[]"),
    "no scores": lambda job: (job / "scores.csv").unlink(),
    "scores empty": lambda job: (job / "scores.csv").write_text(""),
    "scores cut": lambda job: os.truncate(job / "scores.csv", 130),
    "scores from elsewhere": lambda job: replace_in(job / "results.json", '"scores.csv"', '"../../scores.csv"'),
    "a picture from elsewhere": lambda job: replace_in(
        job / "results.json", '"validation_pictures": []', '"validation_pictures": ["../../x"]'
    ),
    "an error of bytes": lambda job: (job / "error.txt").write_bytes(b"damaged: \xff\x00"),
    "an error that is a device": lambda job: (job / "error.txt").symlink_to("/dev/null"),
    "a split that is a folder": lambda job: (job / "split.json").mkdir(),
    "a split that is none": lambda job: (job / "split.json").write_text("[]"),
    "a picture that is missing": lambda job: replace_in(
        job / "results.json", '"validation_pictures": []', '"validation_pictures": ["x.png"]'
    ),
}


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_sweeps_page_lists_a_damaged_job_as_failed(damage: str, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    write_job(sweep, "good")
    bad = write_job(sweep, "bad")
    DAMAGE[damage](bad)
    page = write_sweep_page(sweep)
    assert page is not None
    text = page.read_text()
    assert "bad" in text
    assert "damaged: " in text


def test_a_sweep_of_damaged_jobs_alone_has_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGE["results.json cut"](write_job(tmp_path, "bad"))
    assert write_sweep_page(tmp_path) is None
    assert "results.json" in capsys.readouterr().out


def published(folder: Path) -> None:
    setting = Setting("phantom", 64, "unet", None)
    arms = {"s_only": 0.8, "controlnet_1k": 0.9}
    records = [
        Record(
            setting, ArmId("" if name == "s_only" else "open", name, 0, None), 0, None, image, scores(dice + k / 100)
        )
        for name, dice in arms.items()
        for k, image in enumerate("abc")
    ]
    publish(records, {"ours": "controlnet_1k", "world": "open", "segmenter": "unet", "num_real": None}, folder)


def edit_csv(path: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    rows = list(csv.reader(gzip.decompress(path.read_bytes()).decode().splitlines()))
    path.write_bytes(gzip.compress(("\n".join(",".join(row) for row in change(rows)) + "\n").encode()))


def edit_tables(folder: Path, change: Callable[[dict], dict]) -> None:
    path = folder / TABLES
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


CONTRADICTIONS: dict[str, Callable[[Path], object]] = {
    "no rows": lambda folder: edit_csv(folder / SCORES, lambda rows: rows[:1]),
    "an empty file": lambda folder: (folder / SCORES).write_text(""),
    "a row twice": lambda folder: edit_csv(folder / SCORES, lambda rows: [*rows, rows[-1]]),
    "two rows that contradict": lambda folder: edit_csv(
        folder / SCORES, lambda rows: [*rows, [one.replace("0.9", "0.1") for one in rows[-1]]]
    ),
    "a row less": lambda folder: edit_csv(folder / SCORES, lambda rows: rows[:-1]),
    "another number": lambda folder: edit_csv(
        folder / SCORES, lambda rows: [*rows[:-1], [one.replace("0.92", "0.5") for one in rows[-1]]]
    ),
    "a number that is none": lambda folder: edit_csv(
        folder / SCORES, lambda rows: [*rows[:-1], [one.replace("0.92", "x") for one in rows[-1]]]
    ),
    "bytes": lambda folder: (folder / SCORES).write_bytes(gzip.compress(b"\xff\xfe\x00")),
    "a cell without end": lambda folder: (folder / SCORES).write_bytes(gzip.compress(b"id\n" + b"x" * 200_000)),
    "a device": lambda folder: ((folder / SCORES).unlink(), (folder / SCORES).symlink_to("/dev/null")),
    "no tables": lambda folder: edit_tables(folder, lambda found: found | {"tables": []}),
    "nothing but the primary": lambda folder: edit_tables(folder, lambda found: {"primary": found["primary"]}),
    "no primary": lambda folder: edit_tables(folder, lambda found: {"tables": found["tables"]}),
    "a key more": lambda folder: edit_tables(folder, lambda found: found | {"more": [1]}),
    "a list": lambda folder: (folder / TABLES).write_text("[]"),
}


def test_tables_that_their_scores_give_are_verified(tmp_path: Path) -> None:
    published(tmp_path)
    assert verify(tmp_path) == []


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_tables_that_their_scores_do_not_give_are_not(case: str, tmp_path: Path) -> None:
    published(tmp_path)
    CONTRADICTIONS[case](tmp_path)
    try:
        found = verify(tmp_path)
    except ValueError as error:
        found = [str(error)]
        assert str(tmp_path) in found[0]
    assert found


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_and_a_card_hold_texts_and_no_program(text: str, tmp_path: Path) -> None:
    row = {**dict.fromkeys(COLUMNS, ""), "prompt": text, "diagnosis": text, "attributes": None, "distance": -0.5}
    write_index(tmp_path / "samples.csv", [row])
    with open(tmp_path / "samples.csv", newline="") as file:
        (found,) = csv.DictReader(file)
    assert found["prompt"].removeprefix("'") == text
    assert not found["prompt"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert found["distance"] == "-0.5"
    facts = DatasetFacts("t", "layout", {text: 1}, {text: text}, {text: text})
    card = dataset_card(facts, [{**row, "decision": "keep"}])
    assert "<img" not in card


def test_pages_load_nothing_and_run_nothing_of_others() -> None:
    for name in ("page", "quiz"):
        text = (REPOSITORY / f"dermprompt/report/{name}.html").read_text()
        policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', text)
        assert policy is not None
        assert policy[1].startswith("default-src 'none'; img-src data:;")
        assert ("script-src" in policy[1]) == ("<script" in text)
