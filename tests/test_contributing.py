"""What CONTRIBUTING.md shows is what works: its model is written out, audited by a run, recorded."""

from __future__ import annotations

import re
from pathlib import Path

from lra.record import store
from tests.help import tiny


def test_the_model_of_the_guide_runs(tmp_path: Path) -> None:
    guide = (tiny.ROOT / "CONTRIBUTING.md").read_text()
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", guide, flags=re.S))
    (tmp_path / "average.py").write_text(blocks["python"])
    (tmp_path / "my_configs" / "model").mkdir(parents=True)
    (tmp_path / "my_configs" / "model" / "average.yaml").write_text(blocks["yaml"])
    command = blocks["sh"].split()
    assert command[:3] == ["python", "-m", "lra"]
    done = tiny.lra(*command[3:], *tiny.words(tmp_path, "measure.enabled=false"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (r,) = [r for _, r in store.find(tmp_path / "results") if r.kind == "model"]
    assert (r.model, r.status) == ("average", "ok")
