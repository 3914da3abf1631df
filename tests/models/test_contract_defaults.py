"""What a mixer is where a configuration is silent: the values that its papers and the official settings give it."""

from __future__ import annotations

from inspect import Parameter, signature

import pytest

from lra.models.axial import Axial
from lra.models.bigbird import BigBird
from lra.models.blockwise import Blockwise
from lra.models.clustered import Clustered
from lra.models.compressed import Compressed
from lra.models.cosformer import CosFormer
from lra.models.evolved import EvolvedStack
from lra.models.fastformer import Fastformer
from lra.models.gau import GAU
from lra.models.h_transformer import HTransformer
from lra.models.hamburger import Hamburger
from lra.models.hard_match import HardMatch
from lra.models.isab import ISAB
from lra.models.kvt import KVT
from lra.models.lambda_network import Lambda
from lra.models.linear import LinearAttention
from lra.models.linformer import Linformer
from lra.models.local import Local
from lra.models.longformer import Longformer
from lra.models.luna import Luna, LunaStack
from lra.models.nystromformer import Nystromformer
from lra.models.parts.switch import SwitchFeedForward
from lra.models.performer import Performer
from lra.models.reformer import LSHAttention, ReversibleStack
from lra.models.routing import Routing
from lra.models.short_conv import ShortConvolution
from lra.models.sinkhorn import SinkhornAttention
from lra.models.skyformer import Skyformer
from lra.models.span_conv import SpanConv
from lra.models.sparse import Sparse
from lra.models.squeeze_excite import SqueezeExcite
from lra.models.stack import ResidualStack
from lra.models.synthesizer import Synthesizer
from lra.models.transformer import FullAttention
from lra.models.transformer_xl import RelativeAttention

FACTS = {"self", "dim", "heads", "max_len", "mixer", "depth", "mlp_dim"}  # never left out
COMMON = {
    "qkv_dim": None,
    "rotary": False,
    "dropout": 0.0,
    "backend": "auto",
    "layer": 0,
    "shared": None,
    "bias": False,
}
OWN = {
    "transformer": (FullAttention, {"conv_kernel": None, "causal": False, "persistent": 0}),
    "linear": (LinearAttention, {"conv_kernel": None, "causal": False}),
    "bigbird": (
        BigBird,
        {
            "block": 64,
            "window_blocks": 3,
            "global_blocks": 2,
            "random_blocks": 3,
            "extra_tokens": 0,
            "shared_links": False,
        },
    ),
    "linformer": (Linformer, {"rank": 256, "sharing": "key-value"}),
    "local": (Local, {"block": 64, "neighbours": 0}),
    "longformer": (Longformer, {"window": 512, "dilation": 1, "global_tokens": 1}),
    "nystromformer": (Nystromformer, {"landmarks": 64, "iterations": 6, "conv_kernel": 35}),
    "performer": (Performer, {"features": 256, "kernel": "softmax", "hyperbolic": False, "redraw": "never"}),
    "reformer": (LSHAttention, {"chunk": 64, "rounds": 2, "redraw": "never"}),
    "reformer-stack": (ReversibleStack, {"feed_forward_chunks": 1}),
    "stack": (ResidualStack, {"checkpoint": False, "ffn": "dense", "experts": 4, "capacity": None}),
    "sinkhorn": (SinkhornAttention, {"block": 64, "iterations": 7, "temperature": 0.75, "noise": True}),
    "sparse": (
        Sparse,
        {"pattern": "fixed", "assign": "merged", "stride": 128, "summary": 8, "global_tokens": 0},
    ),
    "synthesizer": (Synthesizer, {"kind": "random", "dot_product": True, "rank": 8}),
    "axial": (Axial, {"width": None}),
    "blockwise": (Blockwise, {"blocks": 3}),
    "clustered": (Clustered, {"clusters": 100, "bits": 32, "iterations": 10}),
    "compressed": (Compressed, {"factor": 3, "by": "conv"}),
    "cosformer": (CosFormer, {}),
    "evolved-stack": (EvolvedStack, {"checkpoint": False}),
    "fastformer": (Fastformer, {}),
    "gau": (GAU, {"expand": 2, "keys": 128, "group": None}),
    "h_transformer": (HTransformer, {"block": 16}),
    "hamburger": (Hamburger, {"rank": 64, "steps": 6}),
    "hard_match": (HardMatch, {"patch": 3}),
    "isab": (ISAB, {"points": 32}),
    "kvt": (KVT, {"top": 100}),
    "lambda": (Lambda, {"keys": 16, "reach": 23}),
    "luna": (Luna, {}),
    "luna-stack": (LunaStack, {"checkpoint": False, "packed": 16}),
    "routing": (Routing, {"clusters": None, "block": 64, "decay": 0.999, "commitment": 1e-4}),
    "short_conv": (ShortConvolution, {"conv_kernel": 3}),
    "skyformer": (Skyformer, {"landmarks": 128, "iterations": 6, "redraw": "never"}),
    "span_conv": (SpanConv, {"kernel": 9, "mixed": True}),
    "squeeze_excite": (SqueezeExcite, {"reduction": 16}),
    "switch": (SwitchFeedForward, {"experts": 4, "capacity": None}),
    "transformer_xl": (RelativeAttention, {"segment": 512, "memory": 512}),
}


@pytest.mark.parametrize("name", OWN)
def test_defaults(name: str) -> None:
    cls, own = OWN[name]
    found = {n: p.default for n, p in signature(cls).parameters.items() if n not in FACTS}
    assert Parameter.empty not in found.values()
    assert {n: v for n, v in found.items() if n not in COMMON} == own
    assert {n: v for n, v in found.items() if n in COMMON} == {n: COMMON[n] for n in found if n in COMMON}
