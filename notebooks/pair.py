"""Make leaderboard.ipynb from leaderboard.py, whose cells begin with `# %%`: python notebooks/pair.py"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def notebook(script: str) -> str:
    """The .ipynb (nbformat 4.5, without outputs) of a script in percent format."""
    cells = []
    for number, part in enumerate(re.split(r"^# %%", script, flags=re.MULTILINE)[1:]):
        head, _, body = part.partition("\n")
        text = body.strip("\n")
        markdown = "[markdown]" in head
        if markdown:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines())
        cell = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        code = {} if markdown else {"execution_count": None, "outputs": []}
        cells.append({"cell_type": "markdown" if markdown else "code", **cell, **code})
    whole = {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (HERE / "leaderboard.ipynb").write_text(notebook((HERE / "leaderboard.py").read_text()))
