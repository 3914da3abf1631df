"""Where this code lies: in a checkout, or in an installed package. The lowest room."""

from __future__ import annotations

from pathlib import Path

# Of a checkout the folder that holds `lra/`, `configs/` and the repository; of a wheel the one it is installed in.
ROOT = Path(__file__).resolve().parent.parent
# Beside lra/ in a checkout, inside it in a wheel.
CONFIGS = next(p for p in (ROOT / "lra" / "configs", ROOT / "configs") if p.is_dir())
