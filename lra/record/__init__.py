"""What a run leaves, and how it is found again.

record    what a record holds
sheet     a record opened, with its conditions, its schema checked
store     written once, whole; found again
answers   the stored predictions beside it
place     the results folder that a command names
"""
