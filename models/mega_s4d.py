"""Mega with the convolution of S4D in place of its moving average (Ma et al. 2022, arXiv 2209.10655; Gu et al. 2022,
arXiv 2206.11893): complex modes, which turn as well as decay, in place of real ones.

    x~ = silu( K * x + K' corr x + d x )

and the gated attention of `mega`. K, from lag 0 on, and K', from lag 1, are those of `s4d`, here with modes of its
own a channel; unlike the average's they have no last tap. A, Delta and C learn slowly.

The authors of S4D found 86.2 % in place of 83.4 % on Image in chunks of 128, on validation (the folder
configs/experiment/mega/lra-image of state-spaces/s4). Time and memory as `mega`, and O(L log L D) for the convolution.
"""

from __future__ import annotations

from lra.models.mega import GatedAttention
from lra.models.s4d import SLOW, S4DConvolution


class MegaS4D(GatedAttention):
    """(B, L, D), (B, L) -> (B, L, D). init, state, dt_min, dt_max, rate: as of `S4DConvolution`; the other options as
    of `Mega`. Raises ValueError for options out of range."""

    def __init__(
        self,
        dim: int,
        max_len: int,
        dropout: float = 0.0,
        chunk: int | None = 128,
        attention: str = "softmax",
        keys: int = 64,
        expand: int = 2,
        init: str = "lin",
        state: int = 16,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        rate: float = 0.1,
        inner_dropout: float = 0.0,
    ) -> None:
        average = S4DConvolution(dim, init, state, dt_min, dt_max, tie=False, rate=rate, slow=SLOW)
        super().__init__(average, dim, max_len, dropout, chunk, attention, keys, expand, inner_dropout)
