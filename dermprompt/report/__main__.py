"""``python -m dermprompt.report FOLDER``: write a page again, of a sweep or of one job."""

from __future__ import annotations

import sys
from pathlib import Path

from dermprompt.report.callback import write_sweep_page
from dermprompt.report.page import write_page
from dermprompt.results import load_results


def main() -> None:
    """Write the page of the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m dermprompt.report FOLDER   (make report FOLDER=runs/...)")
    folder = Path(sys.argv[1])
    if (folder / "results.json").exists():
        results = load_results(folder / "results.json")
        print(write_page([(folder, results)], folder, f"dermprompt · {results.experiment}"))
        return
    page = write_sweep_page(folder)
    if page is None:
        sys.exit(f"error: {folder}: no results.json in it, nor in its folders")
    print(page)


if __name__ == "__main__":
    main()
