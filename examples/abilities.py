"""What can a mixer of one's own do? The ability card; in a notebook the last line alone shows it.

    python examples/abilities.py [task=shift,state] [seed=0,1,2]

Stopped and started again, it goes on. Records go to results/ in the folder where it is typed.
"""

import sys

from gate import Gate

import lra

card = lra.abilities(Gate, *sys.argv[1:])
print(card.cells[["row", "learnt", "seeds", "score", "sequences"]].to_string(index=False))
