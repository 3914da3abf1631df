# %% [markdown]
# # From records to the leaderboard
#
# Reads the records of a results folder, redraws the bubble chart, compares two models on the same test
# items, and puts a model of your own beside them. Neither torch nor the data are needed. This file and
# `leaderboard.ipynb` are the same notebook; `python notebooks/pair.py` makes the second from the first.

# %%
import os
from pathlib import Path

from lra import ledger
from lra.leaderboard import terminal
from lra.leaderboard.view import boards
from lra.marks import means, stats
from lra.marks.cells import cells
from lra.marks.runs import GROUP, titled
from lra.plot.bubble import bubble
from lra.results import load

here = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "results").is_dir())
results = load(os.environ.get("LRA_RESULTS", here / "results"))

# %% [markdown]
# ## The table
#
# The folder is read once. A row of `results.runs` is a record; a row of `results.cells` is a model on an exam,
# with its 95 % interval.

# %%
print(terminal.render(boards(results)))

# %% [markdown]
# ## The chart
#
# One group only: numbers of different budgets or precisions never share an axis, nor do costs of several machines.

# %%
group = dict(zip(GROUP, results.cells[GROUP].value_counts().index[0], strict=True))
title = titled(**group)


def of_group(frame):
    return frame[(frame[GROUP] == list(group.values())).all(axis=1)]


published = ledger.figure_3(results.published)
chart = bubble(of_group(means.averages_of(results.cells)), title, published)
chart

# %% [markdown]
# ## Are two models told apart?
#
# On one exam, from the stored answers: the items are the same, so the test is a paired one (McNemar's for
# one seed each, otherwise over seeds and items; `lra/marks/stats.py` gives the sources). Among many pairs use
# the ranks of the leaderboard, which allow for their number.

# %%
ours = of_group(results.cells)
exam = ours[ours.accuracy.notna()].row.value_counts().index[0]
column = ours[(ours.row == exam) & ours.accuracy.notna()].sort_values("accuracy", ascending=False)
first, last = column.iloc[0], column.iloc[-1]
a, b = (results.answers.right(cell.answers) for cell in (first, last))
gap = stats.difference(a, b)
low, high = gap.interval()
print(f"{exam}: {first.model} {100 * first.accuracy:.1f} %, {last.model} {100 * last.accuracy:.1f} %")
print(f"difference {100 * gap.value:.1f} points, 95 % from {100 * low:.1f} to {100 * high:.1f}")
print(f"p of being equally accurate: {stats.compare(a, b):.2g}")

# %% [markdown]
# ## Your own model
#
# Runs made with `python -m lra --config-dir my_configs model=mine` into this folder are in the chart
# already. Runs kept in a folder of their own join it here: give that folder in `LRA_MINE`.

# %%
mine = os.environ.get("LRA_MINE")
if mine:
    import pandas as pd

    both = pd.concat([results.runs, load(mine).runs], ignore_index=True)
    chart = bubble(of_group(means.averages_of(cells(both, results.answers))), title, published)
chart
