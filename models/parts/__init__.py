"""What several candidates share.

heads      projections into heads, rotary positions
factory    each is built with what it names of the facts
pattern    blocks of queries and the keys they see
patterned  attention over such a pattern
flex       the same on CUDA by a compiled kernel
tiles      working through the length in pieces that stay in cache
conv       convolution along the whole length by FFT
modes      exponentials of linear systems: powers, kernels, initial values
scan       diagonal linear recurrences along the length
redrawn    random buffers, drawn again every N training steps
"""
