"""Where figures lie and what their files are called; nothing is drawn here, so that a page can ask without waiting
for what draws."""

from __future__ import annotations

FOLDER = "figures"


def slug(text: str) -> str:
    """A file name from free text."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
