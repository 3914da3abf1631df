"""The conditions of a number.

facts      names and sizes of the machine, versions, commit
device     device, precision, seeds
watch      was the machine quiet while something was timed?
pace       how fast is it just now?
signals    Ctrl-C and SIGTERM, heard by somebody else
alive      which process is meant, and is it still there?
heartbeat  work goes on
channel    between a process and one that it starts
tree       a process and all that it starts, which end together
guard      the process that sees to that
processes  those below one: found, ended
lease      a device for a moment alone
company    who else is at work, and for how long this process stood still for them
memory     what processes hold, and whether the system has killed one for it
"""
