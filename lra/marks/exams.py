"""What tables know of an exam: order, title, averages."""

from __future__ import annotations

from collections.abc import Mapping

ORDER = ("listops", "text", "retrieval", "image", "pathfinder", "pathx")


def task_order(row: str) -> tuple[int, str]:
    names = [name for name in ORDER if row.startswith(name)]
    return (ORDER.index(max(names, key=len)) if names else len(ORDER), row)


# The columns every board has, in the order of the paper's table: the exam's row and its heading.
EXAMS = {
    "listops": "ListOps",
    "text": "Text",
    "retrieval": "Retrieval",
    "image": "Image",
    "pathfinder": "Path",
    "pathx": "Path-X",
}
FIVE, SIX = tuple(EXAMS)[:5], tuple(EXAMS)
ALL_OR_NOTHING = ("pathfinder", "pathx")  # exams that a seed learns or stays at chance on


def exam_of(task: str) -> str | None:
    """The exam that a task is or stands in for: retrieval_acl stands in for retrieval."""
    return next((e for e in EXAMS if task == e or task.startswith(f"{e}_")), None)


def heading(row: str) -> str:
    """A row's heading, which names all that departs from the standard: "Image (jpeg, test500)"."""
    exam = next((e for e in EXAMS if row == e or row.startswith((f"{e}_", f"{e}-"))), None)
    if exam is None:
        return row
    rest = row[len(exam) + 1 :].replace("-", ", ")
    return f"{EXAMS[exam]} ({rest})" if rest else EXAMS[exam]


def averaged_row(exam: str, models: Mapping[str, int]) -> str:
    """Of an exam's rows, with how many models have an accuracy there, the one that averages take: the
    standard one if any model has it, else the row with most models, the first by name among equals."""
    return max(sorted(models), key=lambda row: (row == exam and models[row] > 0, models[row]))
