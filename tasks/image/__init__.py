"""Image: the exam, and the reader of CIFAR-10's own files."""

from lra.tasks.image.exam import Image

__all__ = ["Image"]
