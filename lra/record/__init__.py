"""What a run leaves, and how it is found again.

record    what a record holds
sheet     a record opened, its fields checked; nothing else reads one
checks    what each field may hold
content   a file that somebody else may have made, of bounded size
store     written once, whole; found again
reserve   room for a record to come, and the tidying up after killed runs
answers   the stored predictions beside it
merge     records of one folder brought into another
claim     who does a run, and that no second record comes of it
unfinished  what a run without a record has left
place     the results folder that a command names, and what is published there
"""
