"""What several candidates share.

heads      projections into heads, rotary positions
layers     the way through the layers of a stack
factory    each is built with what it names of the facts
pattern    blocks of queries and the keys they see
patterned  attention over such a pattern
flex       the same on CUDA by a compiled kernel
chance     what is drawn in training, keyed by seed, step, module and example
eager      what stays out of compiled programs
tiles      working through the length in pieces that stay in cache
softmax    attention over all keys, with dropout on CPUs too
conv       convolution along the whole length by FFT
modes      exponentials of linear systems: powers, kernels, initial values
scan       diagonal linear recurrences along the length
redrawn    random buffers, drawn again every N training steps
recurrent  two directions, gates and norms of mixers with a matrix for a memory
decay      linear attention with a decay, one a head or one a channel
delta      the delta rule
chunks     how these cut the length
cross      attention from one set of vectors to another
pma        pooling by attention
squared    attention by the square of a ReLU
taps       a short convolution whose taps are another at each position
switch     experts in place of a feed-forward layer
short_conv a short convolution of each channel by itself
"""
