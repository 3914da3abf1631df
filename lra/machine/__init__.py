"""The conditions of a number.

facts     names and sizes of the machine, versions, commit
device    device, precision, seeds
watch     was the machine quiet while something was timed?
pace      how fast is it just now?
signals   Ctrl-C and SIGTERM, heard by somebody else
alive     which process is meant, and is it still there?
channel   between a process and one that it starts
"""
