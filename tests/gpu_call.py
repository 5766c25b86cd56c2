"""The GPU's call with stand-ins for all that takes long, in a module that imports nothing heavy."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).parents[1] / "tools"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # for its dataclass
    spec.loader.exec_module(module)
    return module


gpu = load("gpu")


def drive(hangs: str, work: str) -> None:
    """The call with stand-ins for all that takes long: ``hangs`` never ends, and says that it was begun."""

    def stand_in(name: str) -> list[str]:
        run = f"mkdir -p {work}/runs/{name}; echo '[1]' > {work}/runs/{name}/results.json"
        return ["sh", "-c", f"touch {work}/at-{name}; sleep 1000" if name == hangs else run]

    def job(call: object, generator: str, *more: str) -> list[str]:
        name = "base" if "stage=train_base" in more else generator
        return stand_in(name + ("_report" if "stage=report" in more else ""))

    def pack(call: gpu.Call) -> None:  # type: ignore[name-defined]
        with call.lock:
            for number in range(3):
                gpu._put(call.out / f"weights.tar.{number}", b"0" * 2**20)

    gpu.job, gpu.pack_weights = job, pack
    gpu.benchmarks = lambda call: [("masks", 0.5, stand_in("benchmark_masks"))]
    gpu.tests = lambda: stand_in("tests")
    gpu.main()
