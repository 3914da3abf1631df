"""ListOps: the exam, and the generator of its expressions."""

from lra.tasks.listops.exam import ListOps

__all__ = ["ListOps"]
