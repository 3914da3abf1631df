"""Pathfinder: the exam, the generator of its images, and the reader of the release."""

from lra.tasks.pathfinder.exam import Pathfinder

__all__ = ["Pathfinder"]
