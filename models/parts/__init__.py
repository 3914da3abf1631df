"""What several candidates share.

heads      projections into heads, rotary positions
factory    each is built with what it names of the facts
pattern    blocks of queries and the keys they see
patterned  attention over such a pattern
flex       the same on CUDA by a compiled kernel
chance     what is drawn in training, keyed by seed, step, module and example
tiles      working through the length in pieces that stay in cache
softmax    attention over all keys, with dropout on CPUs too
redrawn    random buffers, drawn again every N training steps
"""
