"""The studio: seconds from ``dermprompt studio`` to the page and to the first picture, of each later picture, and what
the server adds to the sampler.

``python benchmarks/studio.py [--pictures 20]``: the weights in the box, 128×128, ten steps. Aims on two idle cores: the
first picture within 10 s, each later one within 1 s. The last line is the row of benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from typing import Any

import cv2
import numpy as np

JSON = {"Content-Type": "application/json"}


def ask(address: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    """The whole answer."""
    with urllib.request.urlopen(urllib.request.Request(address, body, headers or {})) as answer:
        return answer.read()


def draw(api: str, mask: str, generator: str, seed: int) -> tuple[float, float, float]:
    """Seconds until the picture, until its marks of trust, and those of the sampler alone by the worker's own clock."""
    asked = {"generator": generator, "mask": mask, "seed": seed}
    asked |= {"diagnosis": "MEL"} if generator == "box-controlnet" else {}
    start, sampled, shown = time.perf_counter(), 0.0, 0.0
    request = urllib.request.Request(f"{api}/pictures", json.dumps(asked).encode(), JSON)
    with urllib.request.urlopen(request) as answer:
        for line in answer:
            event: dict[str, Any] = json.loads(line)
            assert "error" not in event, event
            if "picture" in event:
                picture = event["picture"]
                ask(f"{api}/pictures/{picture['id']}.jpg")
                shown, sampled = time.perf_counter() - start, picture["seconds"]
    return shown, time.perf_counter() - start, sampled


def measure(folder: str, number: int) -> dict[str, float]:
    """All of it, once."""
    start = time.perf_counter()
    paths = [f"paths.store={folder}/store", f"paths.runs={folder}/runs"]
    command = [sys.executable, "-m", "dermprompt", "studio", "--port", "0", *paths]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("studio: ").strip()
        ask(address)
        found = {"page": time.perf_counter() - start}
        api, rows = f"{address}api/v1", np.mgrid[:128, :128]
        disc = ((rows[0] - 64) ** 2 + (rows[1] - 60) ** 2 < 35**2).astype(np.uint8) * 255
        mask = json.loads(ask(f"{api}/masks", cv2.imencode(".png", disc)[1].tobytes()))["mask"]
        draw(api, mask, "box-controlnet", 0)
        found["first picture"] = time.perf_counter() - start
        for generator in ("box-controlnet", "box-pix2pixhd"):
            draw(api, mask, generator, 1)
            timed = [draw(api, mask, generator, 2 + k) for k in range(number)]
            shown, whole, sampled = (statistics.median(column) for column in zip(*timed, strict=True))
            found |= {f"{generator}: picture": shown, f"{generator}: with trust": whole}
            found[f"{generator}: slowest picture"] = max(row[0] for row in timed)
            found[f"{generator}: sampler"] = sampled
        return found
    finally:
        process.terminate()
        process.wait()


def table_row(found: dict[str, float]) -> str:
    """Of the README's table."""
    names = ("box-controlnet", "box-pix2pixhd")
    ours, theirs = ([found[f"{name}: {part}"] for name in names] for part in ("picture", "sampler"))
    ratios = "; ".join(f"{a / b:.2f}" for a, b in zip(ours, theirs, strict=True))
    return (
        f"from the command to the first picture: {found['first picture']:.1f} s\n"
        "| `studio.py` | a later image of the ControlNet; of Pix2PixHD "
        f"| {ours[0]:.3f} s; {ours[1]:.3f} s | {theirs[0]:.3f} s; {theirs[1]:.3f} s, the sampler alone | {ratios} |"
    )


def main() -> None:
    """Print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20)
    number = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as folder:
        found = measure(folder, number)
    for name, seconds in found.items():
        print(f"{name:40} {seconds:8.3f} s")
    print(table_row(found))


if __name__ == "__main__":
    main()
