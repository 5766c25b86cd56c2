"""The pictures of docs/studio: ``python tests/studio/screenshots.py [ADDRESS]`` draws each state of the page anew.

Without an address a studio is started on the weights in the box, in a folder of its own.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from serving import serve

OUT = Path(__file__).parents[2] / "docs" / "studio"
WIDE, NARROW = (1500, 980), (420, 900)
WAIT = 120_000.0


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


def save(page: Any, name: str) -> None:
    """A PNG of at most 150 kB: scaled down, in 256 colours."""
    path = OUT / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    image = Image.open(path).convert("RGB")
    if image.width > 1200:
        image = image.resize((1200, round(image.height * 1200 / image.width)), Image.Resampling.LANCZOS)
    image.quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {image.width}×{image.height}")


def take(browser: Any, address: str) -> None:
    """All states."""
    page = browser.new_context(viewport=dict(zip(("width", "height"), WIDE, strict=True))).new_page()
    page.set_default_timeout(WAIT)
    page.emulate_media(color_scheme="light")
    page.goto(address)
    page.wait_for_selector("body[data-started=yes]")
    save(page, "empty")
    paint(page)
    page.get_by_role("button", name="melanoma").click()
    page.get_by_role("button", name="pigment network").click()
    page.get_by_role("button", name="Pix2PixHD").click()
    page.locator("#seed").fill("11")
    page.locator("#draw").click()
    page.wait_for_timeout(400)
    save(page, "drawing")
    drawn(page, 2)
    save(page, "side_by_side")
    page.locator("#comparing").check()
    page.wait_for_timeout(300)
    save(page, "slider")
    page.locator("#comparing").uncheck()
    page.get_by_role("button", name="Pix2PixHD").click()
    page.locator("#every-diagnosis").click()
    drawn(page, 3)
    for button in page.locator(".add").all():
        button.click()
    save(page, "diagnoses")
    page.locator("#every-scale").click()
    drawn(page, 5)
    save(page, "scales")
    page.locator("#four").click()
    drawn(page, 4)
    page.emulate_media(color_scheme="dark")
    page.locator("#backdrop").select_option("picture")
    page.wait_for_timeout(500)
    save(page, "dark")
    page.set_viewport_size(dict(zip(("width", "height"), NARROW, strict=True)))
    page.wait_for_timeout(500)
    save(page, "narrow_dark")
    page.emulate_media(color_scheme="light")
    page.get_by_role("radio", name="Free words").click()
    page.locator("#text").fill("melanoma " * 100)
    page.locator("#draw").click()
    page.wait_for_selector(".card.failed", timeout=WAIT)
    page.set_viewport_size(dict(zip(("width", "height"), WIDE, strict=True)))
    page.wait_for_timeout(400)
    save(page, "refused")


def main() -> None:
    """Take them all."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv[1] if len(sys.argv) > 1 else None
        with (
            nullcontext() if given else serve(Path(folder) / "studio", real=True) as served,
            sync_playwright() as started,
        ):
            browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            take(browser, given or served.address)


if __name__ == "__main__":
    main()
