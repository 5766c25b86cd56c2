"""Keys and tokens reach no page, result or run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import compose, miniature, run

from dermprompt.config.compose import dump
from dermprompt.config.secrets import MASK, mask

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("kind", ["csv", "wandb"])
def test_a_logger_has_known_keys_only(kind: str) -> None:
    with pytest.raises(ValueError, match=r"logger\.api_key: no such key; allowed are name"):
        compose(*miniature("none", "synthesis.count=0", f"logger={kind}", f"+logger.api_key={KEY}"))


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ({"api_key": "mine", "apikey": "mine"}, {"api_key": MASK, "apikey": MASK}),
        ({"nested": [{"hub_token": "mine"}]}, {"nested": [{"hub_token": MASK}]}),
        (f"key {KEY}.", f"key {MASK}."),
        ("hf_abcdefghijklmnopqrstuvwxyz", MASK),
        ("run +trainer.secret=mine x=1", f"run +trainer.secret={MASK} x=1"),
        # No secrets.
        ({"pad_token_id": 49407, "path": "token/s"}, {"pad_token_id": 49407, "path": "token/s"}),
        ("0123456789abcdef" * 4, "0123456789abcdef" * 4),
    ],
)
def test_what_looks_like_a_secret_is_masked(value: object, masked: object) -> None:
    assert mask(value) == masked


def test_secrets_of_the_environment_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "correct horse")
    assert mask({"caution": "say correct horse"}) == {"caution": f"say {MASK}"}


def test_what_is_taken_from_the_environment_is_masked_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIN_WORDS", "from the environment")
    overrides = miniature("none", "synthesis.count=0", "caution=${oc.env:PLAIN_WORDS}", f"name={KEY}")
    config = compose(*overrides)
    assert config.caution == "from the environment"
    dump(config, tmp_path / "config.yaml")
    assert "from the environment" not in (tmp_path / "config.yaml").read_text()
    assert KEY not in (tmp_path / "config.yaml").read_text()


def test_a_job_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIN_WORDS", "from the environment")
    overrides = miniature("none", "synthesis.count=0", "caution=${oc.env:PLAIN_WORDS}", f"name={KEY}")
    results = run(tmp_path, *overrides)
    assert results["caution"] == MASK
    written = [path for path in (tmp_path / "runs").rglob("*") if path.suffix in (".json", ".html", ".md", ".yaml")]
    assert len(written) >= 4
    for path in written:
        text = path.read_text()
        assert KEY not in text, path
        assert "from the environment" not in text, path
    assert json.loads((tmp_path / "runs" / "job" / "results.json").read_text())["experiment"] == MASK
