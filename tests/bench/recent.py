"""More of `peers`: state spaces, scans, and the mixers of the surveys.

A peer that is causal runs along the length and against it, on x and on flip(x), with one set of projections, as ours
does; all tokens are real.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.bench.peers import DIM, HEADS, Factory, Peer, case


def both_ways(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A causal layer along x (B, L, D) and against it, both in the order of x."""
    return layer(x), layer(x.flip(1)).flip(1)


class TwoWay(nn.Module):
    """A causal layer both ways, and one projection of the two; what minGRU and minLSTM are here."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.outer = layer, nn.Linear(2 * DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.cat(both_ways(self.layer, x), dim=-1))


@case(module="minGRU_pytorch", peer="minGRU-pytorch", bar=0.70)
def mingru(length: int) -> tuple[Factory, Factory]:

    def ours() -> nn.Module:
        from lra.models.minrnn import MinGRU

        return MinGRU(DIM)

    def peer() -> nn.Module:
        from minGRU_pytorch import minGRU

        return TwoWay(minGRU(DIM))

    return ours, peer


@case(module="minGRU_pytorch", peer="minGRU-pytorch, minLSTM", bar=0.70)
def minlstm(length: int) -> tuple[Factory, Factory]:

    def ours() -> nn.Module:
        from lra.models.minrnn import MinLSTM

        return MinLSTM(DIM)

    def peer() -> nn.Module:
        from minGRU_pytorch.minLSTM import minLSTM

        return TwoWay(minLSTM(DIM))

    return ours, peer


@case(module="mlstm_kernels", peer="mlstm-kernels, native", bar=0.70)
def mlstm(length: int) -> tuple[Factory, Factory]:
    """Chunks of 64. The peer is a cell: what is around it is ours, without computing anything again."""

    def ours() -> nn.Module:
        from lra.models.mlstm import MLSTM

        return MLSTM(DIM, HEADS)

    def peer() -> nn.Module:
        from mlstm_kernels.torch.chunkwise import mlstm_chunkwise__native_autograd as kernel

        from lra.models.mlstm import MLSTM, Way

        class Around(Way):
            def forward(self, u: Tensor, gone: None) -> Tensor:
                smooth = self.conv(u)
                q, k, v = self.query(smooth), self.key(smooth), self.value(u)
                gates = sum(gate(t) for gate, t in zip(self.gates, (q, k, v), strict=True))
                i, f = (t.transpose(1, 2) for t in gates.chunk(2, -1))
                q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
                if self.reverse:
                    q, k, v, i, f = (t.flip(2) for t in (q, k, v, i, f))
                h = kernel(q, k, v, i, f)
                h = (h.flip(2) if self.reverse else h).transpose(1, 2)
                h = nn.functional.layer_norm(h, h.shape[-1:], eps=1e-5).flatten(2)
                return h * self.scale + self.skip * smooth

        class Layer(MLSTM):
            def forward(self, x: Tensor) -> Tensor:
                halves = zip(self.ways, self.up(x).chunk(2, -1), strict=True)
                y = torch.cat([way(u, None) for way, u in halves], -1)
                return self.out(y * nn.functional.silu(self.gate(x)))

        layer = Layer(DIM, HEADS)
        for way in layer.ways:
            way.__class__ = Around
        return layer

    return ours, peer


@case(module="mega_pytorch", peer="mega-pytorch", bar=0.70)
def mega(length: int) -> tuple[Factory, Factory]:
    """Over the whole length, both; the peer has its relative bias by buckets and no end to its averages."""

    def ours() -> nn.Module:
        from lra.models.mega import Mega

        return Mega(DIM, length, chunk=None, keys=64, expand=2, speeds=16)

    def peer() -> nn.Module:
        from mega_pytorch.mega_pytorch import MegaLayer

        return MegaLayer(dim=DIM, ema_heads=16, attn_dim_qk=64, attn_dim_value=2 * DIM, causal=False)

    return ours, peer


@case(module="fnet", peer="fnet-pytorch", bar=1.0)
def fnet(length: int) -> tuple[Factory, Factory]:

    def ours() -> nn.Module:
        from lra.models.fnet import FNet

        return FNet()

    def peer() -> nn.Module:
        from fnet import FourierFFTLayer

        return FourierFFTLayer()

    return ours, peer


@case(module="transformers", peer="transformers Mamba-2, slow path", bar=0.70)
def mamba2(length: int) -> tuple[Factory, Factory]:
    """Inner width 256, a state of 64; two groups of B and C in the peer, which are as many numbers as ours has for
    its two ways."""

    def ours() -> nn.Module:
        from lra.models.mamba2 import Mamba2

        return Mamba2(DIM, HEADS, state=64)

    def peer() -> nn.Module:
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Config, Mamba2Mixer

        config = Mamba2Config(
            hidden_size=DIM,
            expand=1,
            num_heads=HEADS,
            head_dim=DIM // HEADS,
            state_size=64,
            n_groups=2,
            chunk_size=64,
            use_bias=False,
            num_hidden_layers=1,
        )

        return Peer(Mamba2Mixer(config, layer_idx=0), lambda layer, x: sum(both_ways(layer, x)))

    return ours, peer


@case(module="axial_attention", peer="axial-attention", bar=0.70)
def axial(length: int) -> tuple[Factory, Factory]:
    """A grid of 64 x 64, and 128 x 128."""
    width = round(length**0.5)

    def ours() -> nn.Module:
        from lra.models.axial import Axial

        return Axial(DIM, HEADS, length, width=width)

    def peer() -> nn.Module:
        from axial_attention import AxialAttention

        grid = AxialAttention(DIM, num_dimensions=2, heads=HEADS)
        return Peer(grid, lambda layer, x: layer(x.unflatten(1, (-1, width))).flatten(1, 2))

    return ours, peer


@case(module="isab_pytorch", peer="isab-pytorch", bar=0.70)
def isab(length: int) -> tuple[Factory, Factory]:
    """32 inducing points."""

    def ours() -> nn.Module:
        from lra.models.isab import ISAB

        return ISAB(DIM, HEADS, points=32)

    def peer() -> nn.Module:
        from isab_pytorch import ISAB

        return Peer(ISAB(dim=DIM, heads=HEADS, num_latents=32), lambda layer, x: layer(x)[0])

    return ours, peer


@case(module="routing_transformer", peer="routing-transformer", bar=0.70)
def routing(length: int) -> tuple[Factory, Factory]:
    """Two local heads in blocks of 64, two routed ones in clusters of 64."""

    def ours() -> nn.Module:
        from lra.models.routing import Routing

        return Routing(DIM, HEADS, length, clusters=length // 64, block=64)

    def peer() -> nn.Module:
        from routing_transformer.routing_transformer import SelfAttention

        layer = SelfAttention(DIM, 1, length, HEADS, HEADS // 2, 64, local_attn_window_size=64, rel_pos_emb=False)
        return Peer(layer, lambda layer, x: layer(x)[0])

    return ours, peer


@case(module="flash_pytorch", peer="FLASH-pytorch", bar=0.70)
def flash(length: int) -> tuple[Factory, Factory]:
    """Groups of 256, keys of 128, values of 512; the peer has its norm and residual inside."""

    def ours() -> nn.Module:
        from lra.models.gau import GAU

        return GAU(DIM, expand=2, keys=128, group=256)

    def peer() -> nn.Module:
        from flash_pytorch import FLASH

        return FLASH(dim=DIM, group_size=256, query_key_dim=128, expansion_factor=2.0)

    return ours, peer


@case(module="fast_transformer_pytorch", peer="fast-transformer-pytorch", bar=0.70)
def fastformer(length: int) -> tuple[Factory, Factory]:

    def ours() -> nn.Module:
        from lra.models.fastformer import Fastformer

        return Fastformer(DIM, HEADS)

    def peer() -> nn.Module:
        from fast_transformer_pytorch.fast_transformer_pytorch import FastAttention

        layer = FastAttention(DIM, heads=HEADS, dim_head=DIM // HEADS, max_seq_len=length)
        return Peer(layer, lambda layer, x: layer(x, mask=torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)))

    return ours, peer


@case(module="transformers", peer="transformers ConvBERT", bar=0.70)
def span_conv(length: int) -> tuple[Factory, Factory]:
    """Two heads of attention, two of convolution with spans of 9."""

    def ours() -> nn.Module:
        from lra.models.span_conv import SpanConv

        return SpanConv(DIM, HEADS, kernel=9)

    def peer() -> nn.Module:
        from transformers.models.convbert.modeling_convbert import ConvBertConfig, ConvBertSelfAttention

        config = ConvBertConfig(
            hidden_size=DIM,
            num_attention_heads=HEADS,
            head_ratio=2,
            conv_kernel_size=9,
            attention_probs_dropout_prob=0.0,
        )
        config._attn_implementation = "sdpa"

        class Layer(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention, self.outer = ConvBertSelfAttention(config), nn.Linear(DIM, DIM)

            def forward(self, x: Tensor) -> Tensor:
                return self.outer(self.attention(x)[0])

        return Layer()

    return ours, peer
