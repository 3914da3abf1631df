"""Retrieval: the exam, and the files of pairs that it reads."""

from lra.tasks.retrieval.exam import Retrieval

__all__ = ["Retrieval"]
