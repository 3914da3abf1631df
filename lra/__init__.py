"""lra: the honest measurement of long-sequence models.

    import lra

    exam, model = lra.build("task=listops", "model=performer")     a task and a model, as a run would have them
    record = lra.run("task=listops", mixer=MyMixer)                a whole run in a process of its own, recorded
    assert lra.audit(MyMixer).holds                                does it keep the contract?
    lra.abilities(MyMixer)                                         what can it do? small exams, a line each

    results = lra.load("results")                                  .cells .floors .points: pandas frames
    lra.boards(results), lra.figures(results)
    lra.boards(results.select(model="mine,perf*"))     a part of them; ranks stay those of all
    lra.derive(record.run_id, "treatment=bf16")                    something done to a trained model, measured beside it
    lra.compare("performer", "transformer", task="listops")        on the same items and over seeds

Words are those of the command line. Importing this loads nothing heavy. What the user can mend raises
lra.errors.UserError, in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the candidates and the exams lie beside this folder, in a wheel inside it; either way they are
# `lra.models` and `lra.tasks`, so that a user's own models.py collides with nothing.
if not (Path(__file__).parent / "models").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lra.check.card import Card
    from lra.leaderboard.board import Board
    from lra.record.record import Record
    from lra.results import Results
    from lra.sweep.abilities import AbilityCard

__version__ = "0.2.0"
__all__ = ["abilities", "audit", "boards", "build", "compare", "derive", "figures", "load", "run"]

Mixer = Callable[..., Any]


def build(
    *words: str, config_dir: str | Path | None = None, mixer: Mixer | None = None, name: str | None = None
) -> tuple[Any, Any]:
    """The task and the model that `python -m lra WORDS [--config-dir CONFIG_DIR]` would use.

    mixer: a class or factory in place of a model's YAML. No data are touched, nothing is trained.
    """
    from lra.settings import build as made
    from lra.settings import compose
    from lra.settings.own import asked

    with asked(words, config_dir, mixer, name) as what:
        settings = compose.config(what.words, what.config_dir)
    exam = made.task(settings)
    return exam, made.model(settings, exam)


def run(
    *words: str, config_dir: str | Path | None = None, mixer: Mixer | None = None, name: str | None = None
) -> Record:
    """Measure, train and test as `python -m lra WORDS` does, in a process of its own; the record it leaves.

    mixer: an importable class or factory in place of a model's YAML, which gets a model `name` of its own.
    Any outcome that is recorded is returned (see `status`). May be called from any thread and from a notebook.
    """
    from lra.runner.elsewhere import recorded
    from lra.settings.own import asked

    with asked(words, config_dir, mixer, name) as what:
        return recorded(what)


def audit(
    mixer: Mixer | None = None,
    *words: str,
    config_dir: str | Path | None = None,
    name: str | None = None,
    length: int = 1024,
    points: Sequence[str] | None = None,
) -> Card:
    """Does a mixer, or the model that words name, keep the contract of `lra.models`? The card of
    `python -m lra.check`, with `.holds` and a finding a point; `points`: these alone, by their names.

    The whole takes about a minute, nearly all of it for "growth" and "process".
    """
    from lra.check.card import audited
    from lra.settings.own import asked

    if isinstance(mixer, str):  # lra.audit("model=performer")
        mixer, words = None, (mixer, *words)
    with asked(words, config_dir, mixer, name) as what:
        return audited(what, length, points)


def abilities(
    mixer: Mixer | None = None, *words: str, config_dir: str | Path | None = None, name: str | None = None
) -> AbilityCard:
    """What a mixer, or the model that words name, can do: small exams, a line each, as `python -m lra sweep=abilities
    WORDS` runs and records them, one after the other.

    What is recorded already is not done again: called anew after it was stopped, or with "seed=0,1,2", it goes on.
    Raises UserError for bad input, RuntimeError where it was stopped.
    """
    from lra.settings.own import asked
    from lra.sweep.abilities import taken

    if isinstance(mixer, str):  # lra.abilities("model=performer")
        mixer, words = None, (mixer, *words)
    with asked(words, config_dir, mixer, name) as what:
        return taken(what)


def derive(record: str | Path, *words: str, config_dir: str | Path | None = None) -> Record:
    """What `python -m lra.treat record=RECORD WORDS` leaves: a treatment done to a trained model that kept its weights,
    and measured beside it; the record that is there already, if one is. record: an id, or the path of a record. A
    failure of the treatment is a record too."""
    from lra.treat.asked import asked
    from lra.treat.derive import once

    return once(asked([f"record={record}", *words], config_dir))[0]


def load(folder: str | Path = "results") -> Results:
    """A results folder, read once: its records as pandas frames."""
    from lra.results import load as read

    return read(folder)


def boards(results: Results) -> list[Board]:
    """One leaderboard for each budget, machine and precision; and in `.able` one of abilities for each budget."""
    from lra.leaderboard import abilities
    from lra.leaderboard.files import Boards
    from lra.leaderboard.view import boards as made

    return Boards(made(results), abilities.boards(results))


def figures(results: Results) -> dict[str, Figure]:
    """Every figure that the records give, by name."""
    from lra.plot.render import figures as drawn

    return dict(drawn(results))


def compare(
    a: str | Sequence[str],
    b: str | Sequence[str],
    task: str | Sequence[str],
    results: Results | str | Path = "results",
    budget: str = "quick",
) -> pd.DataFrame:
    """Accuracy of `a` less that of `b`: paired on the same test items, and over seeds. A row a comparison,
    with its 95 % interval, its p, and p after Holm over all comparisons asked for.

    Each of `a`, `b` and `task` may be a list. Raises UserError where there are no answers to compare.
    """
    from lra.marks.compare import comparisons

    found = load(results) if isinstance(results, (str, Path)) else results
    return comparisons(found.cells, found.answers, a, b, task, budget)
