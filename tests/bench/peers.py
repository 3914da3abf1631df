"""What is compared with what: one function a model.

A function is called with the length L and returns two factories, ours and the peer's, of which
each measuring process calls only its own. Ours makes a mixer, called as `mixer(x, mask)`; the
peer's makes any module, called as `module(x)`: wrap it in `Peer` if it wants something else.
Both map (B, L, 256) to (B, L, 256) with four heads, projections included, no dropout.

Imports of a peer's package stand inside its factory, so that our side never loads it. `@case`
names the distribution that holds the peer and the bar: the most that ours / peer may be in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

DIM, HEADS = 256, 4

Factory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Case:
    """One comparison. `module` is what the peer's package is imported as, "torch" if it is torch."""

    name: str
    module: str
    peer: str
    bar: float
    lengths: tuple[int, ...]
    pair: Callable[[int], tuple[Factory, Factory]]


CASES: dict[str, Case] = {}


def case(module: str, peer: str, bar: float, lengths: tuple[int, ...] = (4096, 16384)) -> Callable:
    """Register a function under its name."""

    def register(pair: Callable[[int], tuple[Factory, Factory]]) -> Callable:
        CASES[pair.__name__] = Case(pair.__name__, module, peer, bar, lengths, pair)
        return pair

    return register


class Peer(nn.Module):
    """A module whose forward is `call(inner, x)`."""

    def __init__(self, inner: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.call = inner, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.inner, x)


class Projected(nn.Module):
    """Projections, heads and output around a bare attention function of (B, H, L, E) tensors."""

    def __init__(self, attend: nn.Module | Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.attend = attend
        self.inner = nn.Linear(DIM, 3 * DIM, bias=False)
        self.outer = nn.Linear(DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.inner(x).chunk(3, dim=-1))
        return self.outer(self.attend(q, k, v).transpose(1, 2).flatten(2))


@case(module="torch", peer="fused SDPA", bar=1.1)
def transformer(length: int) -> tuple[Factory, Factory]:

    def ours() -> nn.Module:
        from lra.models.transformer import FullAttention

        return FullAttention(DIM, HEADS, length)

    def fused() -> nn.Module:
        return Projected(torch.nn.functional.scaled_dot_product_attention)

    return ours, fused


@case(module="local_attention", peer="local-attention", bar=0.70)
def local(length: int) -> tuple[Factory, Factory]:
    """Blocks of 128, each seeing the one before and the one after."""

    def ours() -> nn.Module:
        from lra.models.local import Local

        return Local(DIM, HEADS, length, block=128, neighbours=1)

    def peer() -> nn.Module:
        from local_attention import LocalAttention

        return Projected(
            LocalAttention(
                window_size=128,
                causal=False,
                look_backward=1,
                look_forward=1,
                dim=DIM // HEADS,
                use_rotary_pos_emb=False,
            )
        )

    return ours, peer


@case(module="transformers", peer="transformers Longformer", bar=0.30)
def longformer(length: int) -> tuple[Factory, Factory]:
    """Window 512 (256 each side), the first token global."""

    def ours() -> nn.Module:
        from lra.models.longformer import Longformer

        return Longformer(DIM, HEADS, length, window=512, global_tokens=1)

    def peer() -> nn.Module:
        from transformers.models.longformer.modeling_longformer import LongformerConfig, LongformerSelfAttention

        config = LongformerConfig(
            hidden_size=DIM,
            num_attention_heads=HEADS,
            attention_window=[512],
            attention_probs_dropout_prob=0.0,
            num_hidden_layers=1,
        )

        class Layer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention, self.outer = LongformerSelfAttention(config, 0), nn.Linear(DIM, DIM, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                mask = x.new_zeros(x.shape[:2])
                mask[:, 0] = 10_000.0
                y = self.attention(
                    x,
                    attention_mask=mask,
                    is_index_masked=mask < 0,
                    is_index_global_attn=mask > 0,
                    is_global_attn=True,
                )[0]
                return self.outer(y)

        return Layer()

    return ours, peer


@case(module="transformers", peer="transformers BigBird", bar=0.50)
def bigbird(length: int) -> tuple[Factory, Factory]:
    """Blocks of 64: three in the window, three random, the first and the last global."""

    def ours() -> nn.Module:
        from lra.models.bigbird import BigBird

        return BigBird(DIM, HEADS, length, block=64, random_blocks=3)

    def peer() -> nn.Module:
        from transformers.models.big_bird.modeling_big_bird import (
            BigBirdBlockSparseAttention,
            BigBirdConfig,
            BigBirdModel,
        )

        config = BigBirdConfig(
            hidden_size=DIM,
            num_attention_heads=HEADS,
            block_size=64,
            num_random_blocks=3,
            max_position_embeddings=length,
            attention_probs_dropout_prob=0.0,
            use_bias=False,
            attention_type="block_sparse",
        )

        class Layer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention, self.outer = BigBirdBlockSparseAttention(config, 0), nn.Linear(DIM, DIM, bias=False)

            def forward(self, x: Tensor) -> Tensor:
                masks = BigBirdModel.create_masks_for_block_sparse_attn(x.new_ones(x.shape[:2]), 64)
                blocked, band, begin, end = masks
                y = self.attention(
                    x,
                    band_mask=band,
                    from_mask=begin,
                    to_mask=end,
                    from_blocked_mask=blocked,
                    to_blocked_mask=blocked,
                )[0]
                return self.outer(y)

        return Layer()

    return ours, peer


@case(module="torch", peer="SDPA, dense mask", bar=0.40, lengths=(4096,))
def sparse(length: int) -> tuple[Factory, Factory]:
    """Strided pattern, stride 128, against the same pattern as a dense mask."""

    def ours() -> nn.Module:
        from lra.models.sparse import Sparse

        return Sparse(DIM, HEADS, length, pattern="strided", stride=128)

    def peer() -> nn.Module:
        position = torch.arange(length)
        apart = (position[:, None] - position).abs()
        mask = (apart <= 128) | (apart % 128 == 0)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.device))

        return Projected(attend)

    return ours, peer


@case(module="performer_pytorch", peer="performer-pytorch", bar=0.60)
def performer(length: int) -> tuple[Factory, Factory]:
    """FAVOR+, 256 features."""

    def ours() -> nn.Module:
        from lra.models.performer import Performer

        return Performer(DIM, HEADS, length, features=256)

    def peer() -> nn.Module:
        from performer_pytorch import SelfAttention

        return SelfAttention(DIM, causal=False, heads=HEADS, dim_head=DIM // HEADS, nb_features=256)

    return ours, peer


@case(module="performer_pytorch", peer="performer-pytorch, linear core", bar=0.90)
def linear(length: int) -> tuple[Factory, Factory]:

    def ours() -> nn.Module:
        from lra.models.linear import LinearAttention

        return LinearAttention(DIM, HEADS, length)

    def peer() -> nn.Module:
        from performer_pytorch.performer_pytorch import linear_attention

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return linear_attention(nn.functional.elu(q) + 1, nn.functional.elu(k) + 1, v)

        return Projected(attend)

    return ours, peer


@case(module="linformer", peer="linformer", bar=0.75)
def linformer(length: int) -> tuple[Factory, Factory]:
    """Rank 256, one E and one F for all heads."""

    def ours() -> nn.Module:
        from lra.models.linformer import Linformer

        return Linformer(DIM, HEADS, length, rank=256, sharing="heads")

    def peer() -> nn.Module:
        from linformer import LinformerSelfAttention

        return LinformerSelfAttention(DIM, length, k=256, heads=HEADS)

    return ours, peer


@case(module="nystrom_attention", peer="nystrom-attention", bar=0.90)
def nystromformer(length: int) -> tuple[Factory, Factory]:
    """64 landmarks, no convolution."""

    def ours() -> nn.Module:
        from lra.models.nystromformer import Nystromformer

        return Nystromformer(DIM, HEADS, length, landmarks=64, conv_kernel=None)

    def peer() -> nn.Module:
        from nystrom_attention import NystromAttention

        return NystromAttention(DIM, dim_head=DIM // HEADS, heads=HEADS, num_landmarks=64, residual=False)

    return ours, peer


@case(module="reformer_pytorch", peer="reformer-pytorch", bar=0.50)
def reformer(length: int) -> tuple[Factory, Factory]:
    """Chunks of 64, four rounds of hashing."""

    def ours() -> nn.Module:
        from lra.models.reformer import LSHAttention

        return LSHAttention(DIM, HEADS, length, chunk=64, rounds=4)

    def peer() -> nn.Module:
        from reformer_pytorch import LSHSelfAttention

        return LSHSelfAttention(DIM, heads=HEADS, bucket_size=64, n_hashes=4)

    return ours, peer


@case(module="transformers", peer="transformers XLNet", bar=0.60)
def transformer_xl(length: int) -> tuple[Factory, Factory]:
    """Segments of 512 with 512 of detached memory, both directions.

    The peer runs segment by segment, which is how it is made and faster than all segments as one
    batch; its layer norm is left out, as ours has none.
    """
    segment = 512

    def ours() -> nn.Module:
        from lra.models.transformer_xl import RelativeAttention

        return RelativeAttention(DIM, HEADS, length, segment=segment, memory=segment)

    def peer() -> nn.Module:
        from transformers import XLNetConfig
        from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

        config = XLNetConfig(d_model=DIM, n_head=HEADS, dropout=0.0, n_layer=1, vocab_size=2)
        positions = XLNetModel(config).relative_positional_encoding

        class Layer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = XLNetRelativeAttention(config)
                self.attention.layer_norm = nn.Identity()
                for parameter in self.attention.parameters():
                    nn.init.normal_(parameter, std=0.02)

            def forward(self, x: Tensor) -> Tensor:
                memory, out = None, []
                for h in x.transpose(0, 1).split(segment):
                    seen = len(h) if memory is None else len(memory) + len(h)
                    r = positions(len(h), seen, device=x.device).to(x.dtype)
                    out.append(self.attention(h, None, None, None, r, None, mems=memory)[0] - h)
                    memory = h.detach()
                return torch.cat(out).transpose(0, 1)

        return Layer()

    return ours, peer


@case(module="sinkhorn_transformer", peer="sinkhorn-transformer", bar=0.90)
def sinkhorn(length: int) -> tuple[Factory, Factory]:
    """Blocks of 64, seven Sinkhorn iterations with noise, a sort network on block sums.

    The peer takes its sorted values from the sorted keys (version 0.11), which spares it work.
    """

    def ours() -> nn.Module:
        from lra.models.sinkhorn import SinkhornAttention

        return SinkhornAttention(DIM, HEADS, length, block=64, iterations=7)

    def peer() -> nn.Module:
        from sinkhorn_transformer.sinkhorn_transformer import SinkhornSelfAttention

        return SinkhornSelfAttention(
            DIM, 64, length, heads=HEADS, non_permutative=False, sinkhorn_iter=7, use_simple_sort_net=True
        )

    return ours, peer
