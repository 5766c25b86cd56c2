"""The pictures of docs/studio: ``python tests/studio/screenshots.py`` takes each state of the page anew.

Without ``--address`` a studio is started on the weights in the box, in a folder of its own.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from serving import serve

from dermprompt.weights.box import SAMPLE

OUT = Path(__file__).parents[2] / "docs" / "studio"
WIDE, NARROW = (1500, 980), (420, 900)
PHOTOGRAPH = next(SAMPLE.rglob("*.jpg"))
WAIT = 300_000.0


def paint(page: Any) -> None:
    """A ragged lesion, drawn in two turns of the hand."""
    page.locator("#clear").click()
    page.locator("#brush").fill("26")
    at = page.locator("#canvas").bounding_box()
    for turn, width in enumerate((18, 52)):
        for step in range(61):
            angle = step / 60 * 2 * math.pi
            radius = (width + 5 * math.sin(5 * angle) + 4 * math.cos(3 * angle)) * at["width"] / 360
            x = at["x"] + at["width"] * 0.52 + 1.35 * radius * math.cos(angle + 0.4)
            y = at["y"] + at["height"] * 0.48 + radius * math.sin(angle)
            page.mouse.move(x, y)
            if turn == 0 and step == 0:
                page.mouse.down()
    page.mouse.up()
    page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] + 300)


def drawn(page: Any, number: int) -> None:
    page.wait_for_selector(f"#stage .trust:not([hidden]) >> nth={number - 1}", timeout=WAIT)
    page.wait_for_timeout(800)


def size(page: Any, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(500)


def save(folder: Path, page: Any, name: str) -> None:
    """The whole page as a PNG of at most 150 kB: scaled down, in 200 colours."""
    path = folder / f"{name}.png"
    window = page.viewport_size
    size(page, window["width"], page.evaluate("document.documentElement.scrollHeight"))  # or Draw sticks to its middle
    page.screenshot(path=path)
    size(page, **window)
    image = Image.open(path).convert("RGB")
    for width in (1200, 1000, 850):
        if image.width > width:
            image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        image.quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < 150_000:
            break
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {image.width}×{image.height}")


def chip(page: Any, name: str) -> Any:
    """A generator, a diagnosis or an attribute; the counts follow its name."""
    return page.locator("#naming .chip", has_text=name)


def take(browser: Any, address: str, save: Callable[[Any, str], None]) -> None:
    """All states."""
    page = browser.new_page(color_scheme="light")
    size(page, *WIDE)
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.wait_for_selector("body[data-started=yes]")
    save(page, "empty")
    paint(page)
    chip(page, "melanoma").click()
    chip(page, "pigment network").click()
    chip(page, "Pix2PixHD").click()
    page.locator("#seed").fill("11")
    page.locator("#draw").click()
    page.wait_for_selector(".wait span:text-matches('^step'), #stage .trust:not([hidden])")
    save(page, "drawing")
    drawn(page, 2)
    save(page, "side_by_side")
    page.locator(".made summary").first.click()
    page.locator("#comparing").check()
    page.wait_for_timeout(300)
    save(page, "slider")
    page.locator("#comparing").uncheck()
    chip(page, "Pix2PixHD").click()
    page.emulate_media(color_scheme="dark")
    page.locator("#every-diagnosis").click()
    drawn(page, 3)
    for button in page.locator(".add").all():
        button.click()
    save(page, "diagnoses_dark")
    page.locator("#every-scale").click()
    drawn(page, 5)
    page.emulate_media(color_scheme="light")
    save(page, "scales")
    page.locator("#segmenting summary").click()
    page.locator("#photograph-file").set_input_files(PHOTOGRAPH)
    page.wait_for_selector("#segmented:not([hidden])")
    page.locator("#take").click()
    page.wait_for_timeout(500)
    save(page, "photograph")
    page.locator("#segmenting summary").click()
    page.locator("#four").click()
    drawn(page, 4)
    page.locator("#backdrop").select_option("picture")
    page.emulate_media(color_scheme="dark")
    size(page, *NARROW)
    save(page, "narrow_dark")
    page.emulate_media(color_scheme="light")
    page.get_by_role("radio", name="Free words").click()
    page.locator("#text").fill("melanoma " * 100)
    page.locator("#draw").click()
    page.wait_for_selector(".card.failed")
    size(page, *WIDE)
    save(page, "refused")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--address", help="of a studio that serves already")
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True, parents=True)
    with tempfile.TemporaryDirectory() as folder:
        serving = nullcontext() if options.address else serve(Path(folder) / "studio", real=True)
        with serving as served, sync_playwright() as started:
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            take(browser, options.address or served.address, partial(save, options.out))


if __name__ == "__main__":
    main()
