"""Where the real ISIC data are: tests that need them are marked ``real_data`` and skipped where there are none."""

import os
from pathlib import Path

REAL = Path(os.environ.get("DERMPROMPT_DATA") or Path(__file__).parents[2] / "shared" / "data")
