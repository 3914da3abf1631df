"""A process that has imported what is slow to import, and forks for every run of pytest.

    python -m tests.mutate.worker numpy torch     in a copied tree; requests on stdin, events on stdout, one a line

Nothing of ours is imported before the fork: a child reads the tree as it stands then. Requests are
{"kind": "cover", "file":, "out":} and {"kind": "try", "tests": [...]}; events {"pid":}, {"test":}, {"failed":},
{"end": exit status}. Whoever asks sets the time limits, and kills the group of the child that oversteps.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PLACES = ("lra", "models", "tasks")
ALWAYS = ["-q", "-x", "-p", "no:cacheprovider"]


class Cover:
    """Which test reaches which line, in this process and those it starts; and which test passes, how fast."""

    def __init__(self, file: str, out: Path) -> None:
        import coverage

        self.file, self.out, self.seconds = file, out, {}
        self.failed: set[str] = set()
        self.root = Path.cwd()  # whatever folder a test is in at its end
        os.environ["MUTATE_DATA"] = str(out.with_suffix(".parts") / "part")
        out.with_suffix(".parts").mkdir(exist_ok=True)
        self.coverage = coverage.Coverage(data_file=None, config_file=False, source=[str(Path(p)) for p in PLACES])
        self.coverage.start()

    def within(self, name: str) -> None:
        os.environ["MUTATE_TEST"] = name
        self.coverage.switch_context(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        start = time.perf_counter()
        self.within(item.nodeid)
        result = yield
        self.within("")
        self.seconds[item.nodeid] = time.perf_counter() - start
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """What a fixture of the file does is done for every test of the file."""
        before = os.environ.get("MUTATE_TEST", "")
        if fixturedef.scope != "function":
            self.within(self.file)
        result = yield
        self.within(before)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)

    def write(self) -> None:
        import coverage

        self.coverage.stop()
        everything = [self.coverage.get_data()]
        for part in sorted(out for out in self.out.with_suffix(".parts").iterdir() if out.is_file()):
            data = coverage.CoverageData(str(part))
            with suppress(coverage.CoverageException):  # of a process that was killed while it wrote
                data.read()
                data.measured_files()
                everything.append(data)
        lines: dict[str, dict[str, set[int]]] = {}
        for data in everything:
            for path in data.measured_files():
                of_file = lines.setdefault(Path(path).relative_to(self.root).as_posix(), {})
                for line, names in data.contexts_by_lineno(path).items():
                    for name in names:
                        of_file.setdefault(name, set()).add(line)
        made = {file: {name: sorted(these) for name, these in of.items()} for file, of in lines.items()}
        seconds = {name: s for name, s in self.seconds.items() if name not in self.failed}
        self.out.write_text(json.dumps({"seconds": seconds, "failed": sorted(self.failed), "lines": made}))


class Try:
    """The chosen tests in the chosen order, each said before it begins; the first that fails ends it."""

    def __init__(self, tests: list[str], say: Any) -> None:
        self.place, self.say = {name: i for i, name in enumerate(tests)}, say

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.place), key=lambda item: self.place[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.say(test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.say(failed=report.nodeid, why=report.longreprtext.strip().splitlines()[-1][:300])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.say(failed=report.nodeid, why=report.longreprtext.strip().splitlines()[-1][:300])


def child(request: dict[str, Any], say: Any) -> int:
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    if request["kind"] == "cover":
        cover = Cover(request["file"], Path(request["out"]))
        status = pytest.main([*ALWAYS[:1], *ALWAYS[2:], request["file"]], plugins=[cover])
        cover.write()
        return int(status)
    files = list(dict.fromkeys(name.split("::")[0] for name in request["tests"]))
    return int(pytest.main([*ALWAYS, *files], plugins=[Try(request["tests"], say)]))


def dies_with_its_parent() -> None:
    """A run that is killed leaves no endless loop behind; on Linux, elsewhere it may."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    dies_with_its_parent()
    for name in sys.argv[1:]:
        importlib.import_module(name)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**event: Any) -> None:
        print(json.dumps(event), file=out, flush=True)

    say(ready=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            dies_with_its_parent()
            status = 70
            try:
                status = child(json.loads(line), say)
            finally:
                os._exit(status)
        say(pid=pid)
        say(end=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
