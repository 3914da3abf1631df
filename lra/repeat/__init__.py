"""A recorded run done again, and what of it agrees.

asked    the record that is meant, and the command that repeats it
older    that command of a record which holds none, from its configuration
agree    what agrees to the bit, what not, and what may be why
code     the code that a record was made with
"""
