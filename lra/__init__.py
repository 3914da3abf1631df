"""lra: the honest measurement of long-sequence models.

    import lra
    task, model = lra.build("task=listops", "model=performer")

Importing this loads nothing heavy; `build` does.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def build(*overrides: str, config_dir: str | None = None) -> tuple[Any, Any]:
    """The task and the model that the command line `python -m lra OVERRIDES` would use.

    Raises lra.errors.UserError for a bad override, in one line.
    """
    from lra.settings.build import model, task
    from lra.settings.compose import config

    cfg = config(list(overrides), config_dir)
    exam = task(cfg)
    return exam, model(cfg, exam)
