"""Signs of life: told to whoever feels them, and not too often."""

from __future__ import annotations

from typing import Any

import pytest

from lra.machine import heartbeat
from lra.machine.heartbeat import beat, felt


def test_beats_are_told_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [100.0], []
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    with felt(told.append):
        for number in range(10):
            beat(step=number)
            now[0] += 0.25
        inner: list[Any] = []
        with felt(inner.append):
            beat()
        beat(step=10)  # half a second after the last that was told
        now[0] += 0.5
        beat(step=11)
    beat(step=99)
    assert [t["step"] for t in told] == [0, 4, 8, 11] and inner == [{}]


def test_nobody_need_listen() -> None:
    beat(step=1)
