"""From settings to a task and a model: the only place where the two meet. Nothing here names one."""

from __future__ import annotations

from typing import Any

from lra.errors import UserError


def task(cfg: Any) -> Any:
    """The task that `cfg.task` names. Costs nothing: no data are touched."""
    multiple = cfg.data.pad_multiple or (128 if cfg.compile else 1)
    return instantiate(cfg.task, "task", pad_to=cfg.data.pad_to, pad_multiple=multiple)


def model(cfg: Any, exam: Any) -> Any:
    """The model that `cfg.model` describes, sized by what the task knows of itself."""
    return instantiate(
        cfg.model,
        "model",
        vocab_size=exam.vocab_size,
        num_classes=exam.num_classes,
        max_len=exam.max_len,
        documents=exam.documents,
    )


def instantiate(node: Any, field: str, **facts: Any) -> Any:
    """Hydra's instantiate; what the class objects to becomes a UserError."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as build

    try:
        return build(node, **facts, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, (ValueError, TypeError, ImportError)) or "Error locating target" in str(error):
            text = str(cause).split("\nfull_key")[0]
            if isinstance(cause, TypeError):
                text = f"{field}: {text}"
            raise UserError(text) from error
        raise cause from None
    except ValueError as error:
        raise UserError(str(error)) from error
