"""Does a record know that the machine was busy?"""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lra.machine import watch
from lra.measure import alone
from lra.measure.cost import Cost, failure


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def facts(**changes) -> dict:
    return {"threads": 2, "cores": 2, "clock_noise": 0.01, "other_cores": 0.0} | changes


TIMING = {"seconds_median": 1.0, "seconds_iqr": 0.1}


@pytest.mark.parametrize(
    ("changes", "timing", "verdict"),
    [
        ({}, {}, False),
        ({"other_cores": 1.0}, {}, True),
        ({"other_cores": 1.0, "threads": 1}, {}, True),  # a core for each, and yet a step took 1.7 times as long
        ({"other_cores": 0.1}, {}, False),
        ({"other_cores": 1.0, "cores": 64}, {}, False),
        ({"other_cores": None}, {}, False),
        ({}, {"seconds_iqr": 0.3}, True),
    ],
)
def test_disturbed(changes, timing, verdict):
    assert watch.disturbed(facts(**changes), TIMING, TIMING | timing) is verdict


def test_sees_work_of_others_and_not_its_own():
    if watch.busy_seconds() is None:
        pytest.skip("this system does not say how busy it is")
    with watch.Watch(1) as own:
        spin(0.2)
    program = [sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with watch.Watch(1) as both:
            spin(0.5)
        other.kill()
    assert own.facts["other_cores"] is not None and both.facts["other_cores"] > 0.4
    assert own.facts["clock_noise"] >= 0


def test_stretches_add_up_and_what_lies_between_does_not_count(monkeypatch):
    # Wall, own and busy seconds at each reading: two stretches of 1 s with 0.5 s of others in all, and 9 s between.
    wall, own, busy = ([0.0, 1.0, 10.0, 11.0], [0.0, 0.5, 0.5, 1.0], [0.0, 0.75, 9.0, 9.75])
    looking = watch.Watch(1)
    monkeypatch.setattr(
        watch, "time", SimpleNamespace(perf_counter=lambda: wall.pop(0), process_time=lambda: own.pop(0))
    )
    monkeypatch.setattr(watch, "busy_seconds", lambda: busy.pop(0))
    for _ in range(2):
        with looking:
            pass
    assert looking.facts["other_cores"] == 0.25


def test_steps_that_keep_step_with_the_clock_are_steady():
    seconds, paces = [1.0, 2.0, 1.0, 2.0, 4.0], [4.0, 2.0, 4.0, 2.0, 1.0]
    timing = {"seconds": seconds, "paces": paces, "seconds_iqr": 1.0, "seconds_median": 2.0}
    assert watch.spread(timing) == 0 and watch.spread(timing | {"paces": None}) == 0.5
    assert not watch.disturbed(facts(), timing) and watch.disturbed(facts(), timing | {"paces": None})


def answers(monkeypatch, *found):
    queue = list(found)
    monkeypatch.setattr(alone, "attempt", lambda *_: queue.pop(0))
    return alone.measure({})


def answer(disturbed: bool, others: float) -> Cost:
    return Cost("ok", disturbed=disturbed, conditions={"other_cores": others})


def test_a_disturbed_measurement_is_repeated_once_and_marked_if_it_stays_so(monkeypatch):
    quiet, busy, worse = answer(False, 0.0), answer(True, 0.5), answer(True, 1.5)
    assert answers(monkeypatch, quiet) == quiet
    assert answers(monkeypatch, busy, quiet) == quiet.again()
    assert answers(monkeypatch, busy, worse) == busy.again()
    assert answers(monkeypatch, worse, busy) == busy.again()
    assert answers(monkeypatch, busy, failure("oom", "x")).status == "ok"
