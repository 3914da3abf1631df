"""`python -m lra.data`: the data of every task.

places     where they are, what is missing
release    the official archive: its parts, fetched and unpacked
download   one large file over HTTP
traps      what is known to go wrong with a copy of the release
"""
