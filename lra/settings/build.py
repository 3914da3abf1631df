"""From settings to a task and a model: the only place where the two meet. Nothing here names one."""

from __future__ import annotations

from typing import Any

from lra.errors import UserError
from lra.names import resolved, with_todays_names
from lra.settings.files import told, trouble
from lra.settings.schema import Settings
from lra.settings.sources import targets
from lra.uncompiled import uncompiled


def task(settings: Settings) -> Any:
    """The task that `settings.task` names. Costs nothing: no data are touched."""
    multiple = settings.data.pad_multiple or (128 if settings.compile else 1)
    return instantiate(settings.task, "task", pad_to=settings.data.pad_to, pad_multiple=multiple)


def model(settings: Settings, exam: Any) -> Any:
    """The model that `settings.model` describes, sized by what the task knows of itself."""
    # Handed on only where it departs from the usual, so that a model that knows of sequences alone is built too.
    asked = {} if exam.answers == "sequence" else {"answers": exam.answers}
    if getattr(exam, "aux", None) is not None:
        asked["aux"] = exam.aux
    if settings.about.get("uses_2d"):
        asked["grid"] = grid(settings, exam)
    return instantiate(
        settings.model,
        "model",
        vocab_size=exam.vocab_size,
        num_classes=exam.num_classes,
        max_len=exam.max_len,
        documents=exam.documents,
        **asked,
    )


def grid(settings: Settings, exam: Any) -> tuple[int, int]:
    """Rows and columns of the images of an exam, which only a model that says that it uses them is told."""
    if getattr(exam, "grid", None) is None:
        raise UserError(
            f"model: {settings.choices.model} reads the rows and columns of an image, which"
            f" task={settings.choices.task} has not; image, image_jpeg, pathfinder, pathx and pathx256 have"
        )
    return exam.grid


def outline(settings: Settings, exam: Any) -> Any:
    """The model without its weights, so that sizes that do not fit are refused at once; null of a constructor that
    needs real numbers, as the real build will show."""
    import torch

    try:
        with torch.device("meta"), uncompiled():
            return model(settings, exam)
    except (NotImplementedError, RuntimeError):
        return None


def instantiate(node: Any, field: str, **facts: Any) -> Any:
    """Hydra's instantiate; what the class objects to becomes a UserError."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as build

    try:
        return build(with_todays_names(node), **facts, _convert_="all")
    except InstantiationException as error:
        for target in targets(node):
            if wrong := trouble(resolved(target)):
                raise UserError(f"{field}: {wrong}") from error
        cause = error.__cause__ or error
        if isinstance(cause, (MemoryError, NotImplementedError, RuntimeError)):
            raise cause from None  # of the machine, or of the meta device
        raise UserError(_said(cause, field)) from error
    except ValueError as error:
        raise UserError(str(error)) from error


def _said(cause: BaseException, field: str) -> str:
    """A constructor's complaint. A ValueError is one that was written to be read."""
    if isinstance(cause, ValueError):
        return str(cause).split("\nfull_key")[0]
    if isinstance(cause, TypeError):
        return f"{field}: {str(cause).split(chr(10))[0]}"
    return f"{field}: {told(cause)}"
