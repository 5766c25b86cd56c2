"""``python -m dermprompt``: compose the configuration, run the pipeline or the studio, report mistakes in one line."""

from __future__ import annotations

import difflib
import os
import re
import sys
from dataclasses import fields, is_dataclass
from typing import Any

from dermprompt.entry import in_words, interruptible

with interruptible():
    import hydra
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from dermprompt.config import compose, schema

    ERRORS = OmegaConfBaseException | hydra.errors.HydraException


@hydra.main(version_base="1.3", config_path=str(compose.CONF), config_name="config")
def run(composed: DictConfig) -> None:
    """Run one job."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from dermprompt.job.run import run_job

    settings = HydraConfig.get()
    try:
        run_job(compose.freeze(composed), settings.runtime.output_dir, list(settings.overrides.task))
    except (ValueError, OSError) as error:
        if settings.mode == RunMode.MULTIRUN:  # the other jobs go on, and the page names this one
            raise
        raise SystemExit(error) from error  # which Hydra lets pass; of another exception it prints all overrides first


@in_words
def main() -> None:
    """Run Hydra; its errors are reported in one line too."""
    # Hydra would print a shortened traceback and exit before a suggestion could be made.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    os.environ.setdefault("WANDB_SILENT", "true")
    compose.register()
    try:
        if sys.argv[1:2] == ["studio"]:
            from dermprompt.studio.command import main as open_studio

            open_studio(sys.argv[2:])
        elif {"-h", "--help"} & {*sys.argv[1:]}:
            # Hydra's own help takes seconds, because it searches all groups again for each group.
            print(compose.help_page())
        else:
            # argparse finds no option, such as -m, between overrides, so these go last.
            sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word[:1] == "~" or ("=" in word and word[:1] != "-"))
            _run()
    except OmegaConfBaseException as error:  # some are also ValueErrors
        sys.exit(f"error: {_explain(error)}")
    except Exception as error:
        if not isinstance(error.__cause__ or error, ERRORS):
            raise
        sys.exit(f"error: {_explain(error)}")


def _run() -> None:
    """Run Hydra, and raise the exception that :func:`run` sent past it."""
    try:
        run()
    except SystemExit as ended:
        if isinstance(ended.code, Exception):
            raise ended.code from None
        raise


def _explain(error: BaseException) -> str:
    """Hydra's message, with the nearest known keys if a key is unknown."""
    ours = re.search(r"ValueError raised while resolving interpolation: (.*)", str(error))
    if ours is not None:
        return ours[1]  # OmegaConf keeps only the message of a resolver's error
    # The cause may also be the stack of another process.
    cause = error.__cause__ if isinstance(error.__cause__, ERRORS) else error
    text = "\n".join(dict.fromkeys(map(str, (error, cause)))).partition("\nConfig search path")[0]
    unknown = re.search(r"Key '([^']+)' (?:is )?not in|Could not override '([^']+)'", text)
    if unknown is None:
        return text
    key = next(group for group in unknown.groups() if group).rpartition(".")[2]
    section = re.search(r"object_type=(\w+)", text)
    if section and section[1] != "dict":  # no key can be appended
        text = re.sub(r"\nTo append to your config use .*", "", text)
    near = difflib.get_close_matches(key, sorted(_keys(section[1] if section else "Config")), 3)
    return f"{text}\ndid you mean {' or '.join(near)}?" if near else text


def _keys(section: str) -> set[str]:
    """The names of the keys of the section of that class; of an open section such as trainer none."""
    kinds: list[Any] = [schema.Config, *(kind for group in schema.KINDS.values() for kind in group.values())]
    while kinds:
        kind = kinds.pop()
        if kind.__name__ == section:
            return {one.name for one in fields(kind)}
        kinds += [one.default_factory for one in fields(kind) if is_dataclass(one.default_factory)]
    return set()


if __name__ == "__main__":
    main()
