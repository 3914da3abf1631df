"""`python -m lra.leaderboard`: from cells to what is shown, and into each format.

board     what a board is
view      what a board holds, worked out once for all formats
chosen    the part of a board that somebody chose
abilities the same of a board of abilities, and what stands beneath it
notes     what a reader must know beneath the table
terminal, markdown, latex, csv, page      a format each: boards in, text out
columns   further columns of the page, a file each
race      what is learnt per minute, in words
predict   do abilities predict?
pick      the chart of the page whose axes are picked
look      how the page looks and sorts
files     what is published
verify    is what is published what the records give?
"""
