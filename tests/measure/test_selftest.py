"""The self-test passes here, and finds a measurement that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from lra.errors import UserError
from lra.measure import gauges, selftest
from lra.measure.cost import Timing
from tests.help import tiny


def run(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = selftest.main(["device=cpu"])
    return code, capsys.readouterr().out.splitlines()


def failed(lines: list[str]) -> set[str]:
    return {line.removeprefix("FAIL").split(":")[0].strip() for line in lines if line.startswith("FAIL")}


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the process of its own, which takes as long as all the rest."""
    monkeypatch.setattr(selftest, "resident_against_counted", lambda: (1000, 1000))


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Without the checks that have nothing to find."""
    for name in names:
        many = name in ("exact_bytes", "product")
        fine = selftest.Check(name, True, "", "")
        monkeypatch.setattr(selftest, name, lambda *_, found=() if many else fine: found)


def test_it_passes_and_shows_numbers(capsys: pytest.CaptureFixture[str], light: None) -> None:
    code, lines = run(capsys)
    assert code == 0 and not failed(lines), lines
    assert any("402,653,184 (right: 402,653,184 bytes)" in line for line in lines)
    assert sum(line.startswith("ok") for line in lines) >= 7 and "trusted" in lines[-1]


def test_a_byte_too_many_is_found(
    capsys: pytest.CaptureFixture[str], light: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "masks", "sleep", "product")
    right = gauges.step_peak_bytes
    monkeypatch.setattr(gauges, "step_peak_bytes", lambda *a: right(*a) + 1)
    code, lines = run(capsys)
    assert code == 1 and lines[-1].startswith("3 checks failed")
    assert failed(lines) == {
        "six tensors of 64 MiB",
        "tensors freed and made in turn",
        "what was live before",
    }


def test_a_slow_clock_and_a_wrong_count_are_found(
    capsys: pytest.CaptureFixture[str], light: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts half, FLOPs that are multiply-adds, and memory that the system sees and we do not."""

    def half(step: Callable[[], None], *_: Any) -> list[tuple[float, float]]:
        begin = time.perf_counter()
        step()
        return [Timing((time.perf_counter() - begin) / 2, 0.0)] * 3

    without(monkeypatch, "exact_bytes", "masks")
    counts = {"inference_flops": 2**30, "train_flops": 2**31}
    monkeypatch.setattr(gauges, "timed", half)
    monkeypatch.setattr(gauges, "flops", lambda *_: counts)
    monkeypatch.setattr(selftest, "resident_against_counted", lambda: (1020, 1000))
    code, lines = run(capsys)
    assert code == 1 and {"a sleep", "FLOPs of a matrix product"} <= failed(lines)
    assert not selftest.resident_memory().ok


def test_no_reading_is_a_failure_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise RuntimeError("Permission denied: /proc/self/clear_refs")

    monkeypatch.setattr(selftest, "resident_against_counted", refuse)
    check = selftest.resident_memory()
    assert not check.ok and "clear_refs" in check.measured


def test_its_only_option_is_the_device() -> None:
    with pytest.raises(UserError, match="device"):
        selftest.main(["model=linear"])


@pytest.mark.slow
def test_the_command() -> None:
    done = tiny.lra("--self-test", module="lra.measure", cold=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("program", "said"),
    [("import sys; sys.exit('first\\nlast')", "last"), ("raise SystemExit(3)", "no output"), ("1 / 0", "ZeroDivision")],
)
def test_a_reading_that_fails_says_why(program: str, said: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{said}"):
        selftest.resident_against_counted(program + "\n")
