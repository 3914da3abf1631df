"""One run from start to record.

draft      what a run knows so far
phases     prepare, measure, train, test
run        the whole, and what becomes of whatever ends it
summary    the short table at the end
mirror     the optional wandb mirror
"""
