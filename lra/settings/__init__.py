"""From the command line's words to typed settings, and from those to a task and a model.

schema     what may be set: types, ranges, and what each field is to a run's identity
words      what the command line may name
compose    words in, settings out
merged     what Hydra composes, in a fiftieth of its time
explain    one line for a bad word
files      where in the user's files an error stands
again      the command that does a run again
identity   what makes two runs the same
build      the only place where tasks and models meet
"""
