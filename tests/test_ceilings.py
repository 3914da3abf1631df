"""The door of the ceilings: what it takes, and what it hands on."""

from __future__ import annotations

import json
import sys

import pytest

from lra import __main__ as door
from lra import ceilings
from lra.errors import UserError


def test_words_are_handed_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []
    monkeypatch.setattr(ceilings, "ceilings", lambda *given: asked.append(given) or {"a": 1.0})
    for words in (["device=cpu", "threads=3"], ["threads=2"], []):
        monkeypatch.setattr(sys, "argv", ["lra.ceilings", *words])
        assert ceilings.main() == 0 and json.loads(capsys.readouterr().out) == {"a": 1.0}
    assert asked[0] == ("cpu", 3) and asked[1][1] == 2 and asked[2][1] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpu=1", "all=2"], "all, gpu: there is no such option; allowed: device=auto|cpu|cuda, threads=N"),
        (["device=tpu"], "device: 'tpu' is not one of auto, cpu, cuda"),
        (["threads=0"], "threads: '0' is not a number of at least 1"),
        (["threads=x"], "threads: 'x' is not"),
    ],
)
def test_other_words_are_refused(monkeypatch: pytest.MonkeyPatch, words: list[str], said: str) -> None:
    monkeypatch.setattr(sys, "argv", ["lra.ceilings", *words])
    with pytest.raises(UserError, match=said.replace("|", r"\|")):
        ceilings.main()


@pytest.mark.parametrize(("word", "said"), [("--help", "python -m lra task=listops"), ("--version", "lra ")])
def test_help_and_version_are_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    """Hydra has its own, which come too late and say other things."""
    monkeypatch.setattr(sys, "argv", ["lra", word])
    monkeypatch.setattr(door, "typed_run", lambda: pytest.fail("Hydra is asked"))
    with pytest.raises(SystemExit) as end:
        door.main()
    assert end.value.code == 0 and said in capsys.readouterr().out
