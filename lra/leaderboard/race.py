"""What is learnt per minute, as people read it."""

from __future__ import annotations

from lra.marks.race import LOOKS, NEVER, Learnt, Race


def title(race: Race) -> str:
    return f"Learnt per {race.of}-minute"


def text(race: Race, model: str, row: str) -> str:
    """ "31.2, 38.0, 41.5; 7.2": accuracies on valid after LOOKS of the minutes; minutes to the floor."""
    cell = race.cells.get((model, row))
    if cell is None:
        return "-"
    looks = ", ".join("-" if value is None else f"{100 * value:.1f}" for value in cell.best)
    return looks if cell.to_floor is None else f"{looks}; {to_floor(race, cell)}"


def to_floor(race: Race, cell: Learnt) -> str:
    if cell.to_floor is None:
        return "-"
    return f">{race.asked:g}" if cell.to_floor == NEVER else f"{cell.to_floor:.3g}"


def beneath(race: Race) -> list[str]:
    """What the minutes are, in sentences."""
    looks = ", ".join(f"{share * race.asked:g}" for share in LOOKS)
    out = [
        f"Each run has {race.asked:g} {race.of}-minutes of training, all its learning rates together"
        + (", at the pace of the machine" if race.of == "core" else "")
        + (f"; used were {race.used[0]:.3g} to {race.used[1]:.3g}." if race.used else "."),
        f"{title(race)}: best accuracy on valid after {looks} minutes; behind the semicolon the minutes until it was at"
        " the best rule on record that is blind to long range.",
    ]
    if race.paces > 1:
        out.append(f"These minutes are counted at {race.paces} paces of one machine, and are not of one length.")
    return out
