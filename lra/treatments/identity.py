"""Nothing is done: what stands beside the parent then is the parent, and shows how far two measurements differ."""

from __future__ import annotations

from typing import Any


class Identity:
    def after(self, trainee: Any) -> Any:
        return trainee
