"""Retrieval of facts: the exam, and the generator of its documents."""

from lra.tasks.retrieval_synth.exam import RetrievalSynth

__all__ = ["RetrievalSynth"]
