"""Derived records: a trained model, something done to it, and both measured side by side.

    python -m lra.treat record=ID treatment=int8_dynamic

The parent is a record that kept its weights (keep=best). It is built again from its recorded configuration, and its
answers have to be the recorded ones; the treatment (lra.treatments) is done to a second copy. Both answer the same test
items, and are timed in turns in one process. What comes of it is a record of kind `derived`, with its predictions
beside it like any other; what training would fill in is null. It can be a parent in its turn. A failure is a record
too, with its reason.

A record's field `derived` holds, child less parent throughout:

flipped        share of the answers that are others; `broken`, `mended`: how many became wrong, and right
difference     of accuracy, with a 95 % interval that equality can be claimed by (lra.marks.stats.beside), and `p` of
               McNemar's test, which proves none
loss           change of the mean log-loss, with its interval
inference      for the run's batch and for one of 1: examples per second, peak bytes and the seconds of a first call of
               both, and the ratio of the rates with its interval; empty of a treatment that is only imitated
facts          what the treatment says of itself (lra.treatments)
parent_differs answers of the parent, built again, that are not the recorded ones

parents   which records can be one, and how it is built again
asked     what the words of the command ask for: each treatment of each parent
chosen    which parents they name
known     the record that is there already
each      several, one after the other
derive    the process that does it, and the record that is left
child     that process
bench     two models timed in turns
beside    the answers of two models on the same items
table     what the records of a folder say
"""
