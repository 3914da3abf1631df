"""`python -c PROGRAM` as a module, so that it may be forked (tests.help.warm):  python -m tests.help.program PROGRAM"""

import sys

exec(sys.argv[1], {"__name__": "__main__"})
