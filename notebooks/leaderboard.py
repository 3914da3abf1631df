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
from lra.leaderboard import files, terminal
from lra.marks import cells, means, runs, stats
from lra.plot.bubble import bubble
from lra.record import answers

here = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "results").is_dir())
results = Path(os.environ.get("LRA_RESULTS", here / "results"))

# %% [markdown]
# ## The table
#
# A row of `table` is a record; a row of `cells` is a model on an exam, with its 95 % interval.

# %%
table = runs.load(results)
cells = cells.cells(table)
print(terminal.render(files.boards(results)))

# %% [markdown]
# ## The chart
#
# One group only: numbers of different budgets, machines or precisions never share an axis.

# %%
group = dict(zip(runs.GROUP, cells[runs.GROUP].value_counts().index[0], strict=True))
title = "budget {budget}, {machine}, {dtype}".format(**group)


def of_group(frame):
    return frame[(frame[runs.GROUP] == list(group.values())).all(axis=1)]


published = ledger.summary(ledger.load(ledger.place(results)))
chart = bubble(of_group(means.summary(table)), title, published)
chart

# %% [markdown]
# ## Are two models told apart?
#
# On one exam, from the stored answers: the items are the same, so the test is a paired one (McNemar's for
# one seed each, otherwise over seeds and items; `lra/stats.py` gives the sources). Among many pairs use
# the ranks of the leaderboard, which allow for their number.

# %%
ours = of_group(cells)
exam = ours[ours.accuracy.notna()].row.value_counts().index[0]
column = ours[(ours.row == exam) & ours.accuracy.notna()].sort_values("accuracy", ascending=False)
first, last = column.iloc[0], column.iloc[-1]
a, b = answers.right(first.answers), answers.right(last.answers)
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

    both = pd.concat([table, runs.load(mine)], ignore_index=True)
    chart = bubble(of_group(means.summary(both)), title, published)
chart
