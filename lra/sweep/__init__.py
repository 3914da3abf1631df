"""Many runs: each in its own process, whatever is recorded is not done again, a table at the end.

job        one run of a sweep: the words that name it
once       known already, or run now
crew       runs side by side
spread     a sweep in the hands of a cluster
launch     ways to have a run done
minutes    as many runs as fit into a given time
estimate   how long a run will take
points     a point of the cost curves
largest    the largest batch that fits
overview   done, running, waiting, interrupted, failed
abilities  the ability card of a model
lengths    every model at every length
callbacks  Hydra's side of it
"""
