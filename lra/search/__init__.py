"""`python -m lra.search`: which shape of which mixer fits a bound of latency and memory.

A grid of shapes is measured, their cost predicted from what they are made of, and what is predicted to be best measured
again. Nothing is trained.

asked     the words
space     the shapes that there are, and the grid of them
bench     measures a block of points, in a process of its own
child     that process
shelf     what was measured, kept and found again
counts    FLOPs, bytes and operations of a step, counted without doing it
frame     measured points as a table
predict   the predictor
scored    how good it is, and what choosing by it costs
evolve    the evolutionary search
found     from measurements to the shapes that are named
run       all of it
told      what is said
"""
