"""The page in a real browser, Debian's Chromium, headless.

Where nothing depends on what is drawn the tests' own worker draws; bytes are compared on the weights in the box.
"""

from __future__ import annotations

import io
import itertools
import json
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import sync_playwright
from serving import Served, serve
from talking import ask, disc, png

from dermprompt.config.compose import compose
from dermprompt.job.run import run_job

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
SIZE = 128
WAIT = 180_000.0  # milliseconds: the first picture waits for the networks


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("page") / "studio") as one:
        yield one


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """On the weights in the box."""
    with serve(tmp_path_factory.mktemp("box") / "studio", real=True) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(served: Served, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A fresh page with nothing remembered."""
    with opened(served, browser, request.node.get_closest_marker("refused") is not None) as one:
        yield one


@contextmanager
def opened(served: Served, browser: Any, refused: bool = False) -> Iterator[Any]:
    """A fresh page; afterwards its console has been empty, and every request has gone to the studio."""
    ask(served.port, "PUT", "/api/v1/settings", {})
    context = browser.new_context(viewport={"width": 1500, "height": 1000}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    said: list[str] = []
    asked: list[str] = []
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    context.on("request", lambda request: asked.append(request.url))
    page.goto(served.address)
    page.wait_for_selector("body[data-started=yes]", timeout=WAIT)
    yield page
    # The browser itself notes every request that a server refuses.
    wrong = [line for line in said if not (refused and "status of 400" in line)]
    away = [url for url in asked if not url.startswith((served.address, f"blob:{served.address}"))]
    leave(page)
    assert (wrong, away) == ([], [])


def leave(page: Any) -> None:
    """What a page remembers as it goes, or a moment before, must not reach the studio after the next page's reset."""
    page.evaluate("addEventListener('pagehide', (event) => event.stopImmediatePropagation(), true)")
    page.context.set_offline(True)
    page.wait_for_timeout(100)
    page.context.close()


def remembered(served: Served, page: Any, ready: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The settings, once they are as they should be."""
    for _ in range(600):
        found = json.loads(ask(served.port, "GET", "/api/v1/settings")[2])
        if found and ready(found):
            return found
        page.wait_for_timeout(100)
    raise AssertionError(found)


def until(page: Any, holds: Callable[[], Any]) -> None:
    """Wait for what the page shows. Playwright's own way would need what the page's policy forbids: to run text."""
    for _ in range(round(WAIT / 100)):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError(page.locator("#notice").text_content() or "it never came")


def painted(served: Served, page: Any, unlike: str | None = None) -> tuple[str, np.ndarray]:
    """The mask that is remembered, with its id, once it is another than ``unlike``."""
    id = remembered(served, page, lambda found: found.get("mask") not in (None, unlike))["mask"]
    data = ask(served.port, "GET", f"/api/v1/masks/{id}.png")[2]
    return id, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def stroke(page: Any, points: list[tuple[float, float]]) -> None:
    """Paint along points on the screen."""
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def along(points: list[tuple[float, float]], radius: float) -> np.ndarray:
    """The pixels whose middles lie within a radius of a line through points (x, y) of the mask, as 0 and 255."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    inside = np.zeros((SIZE, SIZE), bool)
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        length = (bx - ax) ** 2 + (by - ay) ** 2
        share = np.clip(((columns - ax) * (bx - ax) + (rows - ay) * (by - ay)) / max(length, 1e-12), 0, 1)
        inside |= np.hypot(columns - ax - share * (bx - ax), rows - ay - share * (by - ay)) <= radius
    return inside.astype(np.uint8) * 255


def easel(page: Any) -> dict[str, float]:
    return page.locator("#canvas").bounding_box()


def paint_disc(page: Any) -> None:
    """A lesion in the middle, as wide as the brush goes."""
    page.locator("#brush").fill("60")
    at = easel(page)
    middle = (at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    stroke(page, [middle, (middle[0] + 9, middle[1] + 4)])


def drawn(page: Any, number: int = 1) -> None:
    """Wait for ``number`` pictures with their trust marks."""
    page.wait_for_selector(f"#stage .trust:not([hidden]) >> nth={number - 1}", timeout=WAIT)


@pytest.mark.parametrize("clicks", [0, 2, 4], ids=["100 %", "225 %", "506 %"])
def test_a_stroke_lands_under_the_cursor_at_every_zoom(page, served, clicks):
    for _ in range(clicks):
        page.locator("#zoom-in").click()
    at, zoom = easel(page), 1.5**clicks
    screen = [(round(at["x"]) + dx, round(at["y"]) + dy) for dx, dy in ((90, 120), (180, 150), (230, 260))]
    stroke(page, screen)
    scale, corner = at["width"] / SIZE * zoom, SIZE * (1 - 1 / zoom) / 2
    points = [((x - at["x"]) / scale + corner, (y - at["y"]) / scale + corner) for x, y in screen]
    _, mask = painted(served, page)
    assert set(np.unique(mask)) == {0, 255}
    assert mask.shape == (SIZE, SIZE)
    np.testing.assert_array_equal(mask, along(points, 8))


def test_leaving_the_canvas_in_mid_stroke_loses_nothing(page, served):
    at = easel(page)
    inside, outside = (round(at["x"]) + 60, round(at["y"]) + 60), (round(at["x"]) - 200, round(at["y"]) + 60)
    stroke(page, [inside, outside])
    _, mask = painted(served, page)
    scale = at["width"] / SIZE
    np.testing.assert_array_equal(
        mask, along([((x - at["x"]) / scale, (y - at["y"]) / scale) for x, y in (inside, outside)], 8)
    )


def test_undo_redo_eraser_fill_and_clear(page, served):
    paint_disc(page)
    first, mask = painted(served, page)
    page.locator("#canvas").press("f")
    page.mouse.click(easel(page)["x"] + 5, easel(page)["y"] + 5)
    filled, all_of_it = painted(served, page, first)
    assert all_of_it.min() == 255
    page.keyboard.press("Control+z")
    id, again = painted(served, page, filled)
    assert id == first
    np.testing.assert_array_equal(again, mask)
    page.keyboard.press("Control+Shift+z")
    assert painted(served, page, first)[0] == filled
    page.keyboard.press("e")
    page.mouse.click(easel(page)["x"] + easel(page)["width"] / 2, easel(page)["y"] + easel(page)["height"] / 2)
    assert painted(served, page, filled)[1][64, 64] == 0
    page.locator("#clear").click()
    remembered(served, page, lambda found: found["mask"] is None)


def test_brackets_change_the_brush_and_the_keyboard_paints(page, served):
    page.locator("#brush").fill("16")
    page.locator("#canvas").focus()
    page.keyboard.press("]")
    assert page.locator("#brush-said").inner_text() == "18 px"
    page.keyboard.press("[")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    np.testing.assert_array_equal(painted(served, page)[1], along([(72, 64), (72, 64)], 8))


def test_touch_paints_with_one_finger_and_zooms_with_two(page, served):
    at = easel(page)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        points = [{"x": at["x"] + x, "y": at["y"] + y, "id": k} for k, (x, y) in enumerate(fingers)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    session = page.context.new_cdp_session(page)
    touch("touchStart", (100, 100))
    touch("touchMove", (160, 100))
    touch("touchEnd")
    id, _ = painted(served, page)
    touch("touchStart", (150, 150))
    touch("touchStart", (150, 150), (200, 200))
    touch("touchMove", (100, 100), (250, 250))
    touch("touchEnd")
    until(page, lambda: page.locator("#zoom").inner_text() != "100 %")
    assert remembered(served, page, lambda found: found["mask"])["mask"] == id


def test_import_and_reload_keep_the_mask_and_the_settings(page, served):
    large = disc(512, 170) * 255
    page.locator("#mask-file").set_input_files({"name": "mask.png", "mimeType": "image/png", "buffer": png(large)})
    page.wait_for_selector("#notice.said:not([hidden])")
    assert "resized from 512×512 to 128×128" in page.locator("#notice").text_content()
    id, mask = painted(served, page)
    page.get_by_role("button", name="benign keratosis").click()
    page.locator("#seed").fill("41")
    page.locator("#seed").blur()
    remembered(served, page, lambda found: found["seed"] == 41)
    page.reload()
    page.wait_for_selector("body[data-started=yes]")
    assert page.locator("#seed").input_value() == "41"
    assert page.get_by_role("button", name="benign keratosis").get_attribute("aria-pressed") == "true"
    assert painted(served, page)[0] == id
    assert (
        page.locator("#canvas").get_attribute("aria-label") == f"Mask, {round(100 * (mask > 0).mean())} % of it painted"
    )


@pytest.mark.refused
@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("grey.png", png(np.tile(np.arange(128, dtype=np.uint8) * 2, (128, 1))), "grey values were cut at 128"),
        ("empty.png", png(np.zeros((128, 128), np.uint8)), "empty"),
        ("broken.png", b"\x89PNG\r\n\x1a\nbroken", "no image that can be read"),
        pytest.param("long.png", b"0" * (21 * 2**20), "more than 20 MB", marks=pytest.mark.slow),
    ],
)
def test_bad_masks_get_a_sentence_and_lose_nothing(page, served, name, data, words):
    paint_disc(page)
    id, _ = painted(served, page)
    page.locator("#mask-file").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
    until(page, lambda: words in page.locator("#notice").text_content())
    if name != "grey.png":
        assert remembered(served, page, lambda found: found["mask"])["mask"] == id


def test_what_goes_wrong_is_a_sentence_on_the_page_and_the_next_picture_comes(page):
    page.locator("#draw").click()
    assert "The mask is empty" in page.locator("#notice").text_content()
    paint_disc(page)
    for seed, words in (("666", "the worker ended unexpectedly"), ("668", "was not foreseen")):
        page.locator("#seed").fill(seed)
        page.locator("#seed").blur()
        page.locator("#draw").click()
        page.wait_for_selector(".card.failed", timeout=WAIT)
        assert words in page.locator("#notice").text_content()
    page.locator("#seed").fill("1")
    page.locator("#seed").blur()
    page.locator("#draw").click()
    drawn(page)


def test_labels_that_the_generator_has_not_seen_are_greyed_out_with_the_counts(page):
    seen = page.get_by_role("button", name="melanoma 316")
    assert seen.is_enabled()
    unseen = page.get_by_role("button", name="basal cell carcinoma 0")
    assert not unseen.is_enabled()
    assert unseen.get_attribute("title") == "none of its 1594 training images shows it"
    seen.click()
    page.get_by_role("button", name="streaks 62").click()
    until(page, lambda: page.locator("#prompt").inner_text() == "dermoscopic image of a melanoma with streaks")


def synthesized(command: str, store: Path) -> bytes:
    """What the command line draws."""
    words = [*shlex.split(command)[3:], f"paths.store={store}", f"paths.runs={store / 'runs'}"]
    run_job(compose(words), str(store / "runs" / "job"), words)
    (image,) = store.glob("synthesize/*/ISIC2018_Task1-2_Training_Input/SYN_0000000.jpg")
    return image.read_bytes()


def test_a_picture_has_the_bytes_that_synthesize_writes(box, browser, tmp_path):
    """Of the ControlNet, with a prompt in free words, and of Pix2PixHD."""
    with opened(box, browser) as page:
        paint_disc(page)
        page.get_by_role("radio", name="Free words").click()
        page.locator("#text").fill("dermoscopic image of a melanoma, it's odd: {a=b}")
        page.get_by_role("button", name="Pix2PixHD").click()
        page.locator("#seed").fill("7")
        page.locator("#seed").blur()
        page.locator("#draw").click()
        drawn(page, 2)
        sources = page.locator("#stage .frame img").evaluate_all("all => all.map(one => one.src)")
        assert all(page.locator("#stage .frame img").evaluate_all("all => all.map(one => one.naturalWidth === 128)"))
        for number, source in enumerate(sources):
            page.locator(".copy").nth(number).click()
            command = page.evaluate("navigator.clipboard.readText()")
            shown = ask(box.port, "GET", "/" + source.removeprefix(box.address))[2]
            assert synthesized(command, tmp_path / str(number)) == shown


def test_side_by_side_history_and_the_slider(page, served):
    paint_disc(page)
    page.get_by_role("button", name="Pix2PixHD").click()
    page.locator("#seed").fill("3")
    page.locator("#draw").click()
    drawn(page, 2)
    assert page.locator("#stage .title").all_inner_texts() == ["ControlNet seed 3", "Pix2PixHD seed 3"]
    assert "Mask obeyed: Dice 0.90" in page.locator(".trust").first.inner_text()
    page.locator("#comparing").check()
    assert page.locator("#compare").is_visible()
    id, _ = painted(served, page)
    page.locator("#clear").click()
    page.locator("#seed").fill("9")
    page.locator("#seed").blur()
    page.locator("#history button").last.click()
    until(page, lambda: page.locator("#seed").input_value() == "3")
    assert painted(served, page)[0] == id


def test_rows_of_diagnoses_and_of_conditioning_scales(page):
    paint_disc(page)
    page.locator("#every-diagnosis").click()
    drawn(page, 3)
    assert page.locator("#stage .title").all_inner_texts() == [
        f"{name} seed 0" for name in ("benign keratosis", "melanoma", "melanocytic nevus")
    ]
    page.locator("#every-scale").click()
    drawn(page, 5)
    sources = page.locator("#stage .card .frame img").evaluate_all("all => all.map(one => one.src)")
    assert len(set(sources)) == 5


def test_cancel_frees_the_queue(page, served):
    paint_disc(page)
    page.locator("#seed").fill("667")
    page.locator("#seed").blur()
    page.locator("#four").click()
    until(page, lambda: page.locator(".wait span").first.inner_text() == "drawing")
    page.locator("#cancel").click()
    until(page, lambda: json.loads(ask(served.port, "GET", "/api/v1")[2])["waiting"] == 0)
    page.wait_for_selector("#cancel", state="hidden")
    assert "cancelled" in page.locator("#stage").inner_text()


def test_a_set_goes_through_generator_folder(page, served, tmp_path):
    paint_disc(page)
    page.locator("#four").click()
    drawn(page, 4)
    for button in page.locator(".add").all()[:3]:
        button.click()
    with page.expect_download() as waiting:
        page.locator("#download").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    archive.extractall(tmp_path)
    assert {"studio_set/README.md", "studio_set/samples.csv"} <= set(archive.namelist())
    words = ["data=sample", "trainer=cpu", "generator=folder", f"generator.path={tmp_path / 'studio_set'}"]
    words += [
        "synthesis.count=3",
        "image_size=128",
        f"paths.store={tmp_path / 'store'}",
        f"paths.runs={tmp_path / 'runs'}",
    ]
    for stage in ("prepare", "synthesize"):
        run_job(compose([*words, f"stage={stage}"]), str(tmp_path / "runs" / stage), words)
    assert len(list((tmp_path / "store").glob("collect/folder-*/ISIC2018_Task1-2_Training_Input/*.jpg"))) == 3


def test_a_mask_can_be_rolled(page, served):
    page.locator("#roll").click()
    _, mask = painted(served, page)
    assert set(np.unique(mask)) == {0, 255}


def test_labels_names_and_ids_are_in_order(page):
    """Every control has a name, every id is there once, every label leads somewhere."""
    assert (
        page.evaluate("""() => {
        const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
        return ids.filter((id, at) => ids.indexOf(id) !== at);
    }""")
        == []
    )
    assert (
        page.evaluate("""() => [...document.querySelectorAll('label[for]')].map((one) => one.htmlFor)
        .filter((id) => !document.getElementById(id))""")
        == []
    )
    assert (
        page.evaluate("""() => [...document.querySelectorAll('input, select, textarea, button')]
        .filter((one) => !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim())
        .map((one) => one.outerHTML)""")
        == []
    )


def test_nothing_is_wider_than_the_window(page):
    for scheme, width in itertools.product(("light", "dark"), (360, 800, 1500)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (scheme, width)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
        assert dark == (scheme == "dark"), width
