"""One run from start to record.

draft      what a run knows so far
phases     prepare, measure, ask for the contract, train, test
run        the whole, and what becomes of whatever ends it
keeper     who starts a run in a process of its own, and sees to its record however that ends
child      that process
bounds     what a run may take
known      what is recorded already, and so need not be done
place      where a run is kept while it has no record
resume     how one that was stopped goes on
elsewhere  a run in a process of its own, asked for from Python
rescue     where a record is kept that its folder cannot take
summary    the short table at the end
mirror     the optional wandb mirror
"""
