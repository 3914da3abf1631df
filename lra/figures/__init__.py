"""Figures: tables in, matplotlib Figures out. No files are read or written here, and torch is not needed.

bubble    accuracy over speed, area for memory (after figure 3 of Tay et al. 2021)
cost      time and memory over length, with fitted exponents; crossing lengths
curves    learning curves
accuracy  accuracy by task with intervals and floors
style     what they share: colours, marks, notes, files
labels    where labels go
"""

FOLDER = "figures"


def slug(text: str) -> str:
    """A file name from free text."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
