"""The candidates. Nothing here knows of `tasks` or `lra`.

Shape legend, used in every docstring and comment of this package:

    B batch    L length    D width    H heads    E width of one head (H x E = qkv_dim)
    M keys one query sees   W window or block   S number of blocks   K rank, features, landmarks

Two contracts, and nothing to inherit:

*Mixer* -- mixes information along the length.

    forward(x, mask) -> x        x (B, L, D) float, mask (B, L) bool, True on real tokens

*Stack* -- all layers, with the residuals, norms and feed-forward layers between the mixers.

    forward(x, mask) -> x        the same map

Rules for both: what stands in `x` where `mask` is False must not reach any other position, any
L from 1 to `max_len` is taken, two calls in `eval()` agree, and no example sees another of its
batch. `python -m lra.check model=NAME` tells whether they hold.

A mixer is built once a layer and is handed, of the following, what its `__init__` names (see
`lra.models.parts.factory.build`):

    dim         D, always
    heads       H
    qkv_dim     H x E (the official suite lets it differ from D)
    max_len     the longest L it will see (a CLS token counts)
    dropout     on attention weights, where the paper has it
    rotary      True: rotate queries and keys (a mixer that does not name it cannot be rotary)
    layer       index of the layer from 0
    depth       number of layers
    shared      a dict common to all layers of one stack, for parameters shared between layers

What a model may ask of training, and needs no registration for:

    parameter.lra = {"rate": r, "decay": w}    r a ratio to the schedule's rate, w its weight decay; either or both
    self.extra_loss = scalar                   set in `forward` while training, already weighted: it is added to
                                               what is differentiated and is no part of the loss that is reported;
                                               a mean over examples, or the model couples them
    idle_parameters = n                        of a module: how many of its parameters a token does not meet
    couples_examples = True                    of a class: while training, examples of a batch see each other (a
                                               batch norm is known without it), so that the batch stays whole

What a mixer may say of itself:

    state_floats(length) -> int                numbers that it keeps of `length` tokens to answer at any further one, in
                                               the form that takes a token at a time, of both directions together: H E E
                                               for linear attention and delta rules and E more a head for a normaliser,
                                               channels x modes of a diagonal state space, two for a complex one, 2 L D
                                               for attention. A short convolution's taps hold nothing over a distance
                                               and do not count. One that has no such form does not say it

    relations(x, mask) -> q, k, v              (B, L, width) each, of which widths may differ: what a position asks by,
                                               is found by, and gives. x: what `forward` is given. By them one mixer
                                               can be trained beside another one

    attended(x, mask) -> (B, L)                the weight that each position gets, a mean over heads and real queries,
                                               0 at padding. By it the least attended ones can be left out

What a stack may say of itself:

    packs = False                              of a class: outside of its mixers each position is treated alone, and
                                               where this is True of an object only real ones are (`parts.layers`)

What is drawn in training is keyed by seed, optimizer step, module and example (`parts.chance`), so that the
parts of a batch, their order and their padding do not move it: `parts.chance.Dropout` in place of nn.Dropout, and
`MultiHead.drops` for attention weights. Whoever trains calls `parts.chance.tell` before each forward pass; where
nobody does, or a module is of other hands, torch's generator serves. On CUDA torch's fused attention drops weights
by its own generator. A mixer whose kernel depends on where it runs says which it is: `path(device)`.

A stack is handed `mixer` (a factory to call with `layer=i, shared=d`) and, by the same rule, dim,
depth, mlp_dim, max_len, dropout, checkpoint. A model outside this repository needs one class and
one YAML: see CONTRIBUTING.md.
"""
