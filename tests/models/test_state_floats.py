"""What a mixer says that it keeps, against what the past can move of the future, and against the tensors kept.

Where a mixer takes a token at a time, all that the past does to later outputs goes through its state: the rank of the
Jacobian of those outputs with respect to the earlier inputs is at most the number of floats, and with enough of both
it is that number.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lra.models.chordmixer import Rotation
from lra.models.deltanet import DeltaNet
from lra.models.gla import GLA
from lra.models.identity import Identity
from lra.models.linear import LinearAttention
from lra.models.linformer import Linformer
from lra.models.lion import Lion
from lra.models.local import Local
from lra.models.longformer import Longformer
from lra.models.lru import LRU
from lra.models.lstm import LSTM
from lra.models.mamba2 import Mamba2
from lra.models.mega import Mega
from lra.models.minrnn import MinGRU, MinLSTM
from lra.models.mlstm import MLSTM
from lra.models.nystromformer import Nystromformer
from lra.models.parts.short_conv import ShortConv
from lra.models.performer import Performer
from lra.models.retnet import RetNet
from lra.models.rwkv7 import RWKV7
from lra.models.s4d import S4D
from lra.models.s5 import S5
from lra.models.synthesizer import Synthesizer
from lra.models.transformer import FullAttention
from lra.models.window5 import Window5
from lra.runner.phases import state_floats
from lra.settings import build, compose
from tests.help.paper import wake

D, L = 8, 24

# Both directions of each, and what a norm behind it hides: of each head the mean over values, for each key; of mLSTM n.
RECURRENT: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "linear, causal": (lambda: LinearAttention(D, 2, L, causal=True), 2 * 4 * 5, 0),
    "lion": (lambda: Lion(D, 2, L), 2 * 2 * 4 * 5, 0),
    "retnet": (lambda: RetNet(D, 2, L), 2 * 2 * 4 * 4, 16),
    "gla": (lambda: GLA(D, 2), 2 * 2 * 1 * 2, 0),
    "mamba2": (lambda: Mamba2(D, 2, state=3), 2 * 3 * D, 0),
    "deltanet": (lambda: DeltaNet(D, 2), 2 * 2 * 2 * 2, 0),
    "deltaproduct": (lambda: DeltaNet(D, 2, steps=2, negative_eigenvalues=True, gated=True), 2 * 2 * 2 * 2, 0),
    "rwkv7": (lambda: RWKV7(D, 1), 2 * 4 * 4, 8),
    "mlstm": (lambda: MLSTM(D, 1), 2 * 4 * 5, 16),
    "lstm": (lambda: LSTM(D), 2 * 2 * D, 0),
    "mingru": (lambda: MinGRU(D), 2 * D, 0),
    "minlstm": (lambda: MinLSTM(D), 2 * D, 0),
    "s4d": (lambda: S4D(2, state=4, dt_min=0.1, dt_max=0.5), 2 * 2 * 2 * 2, 0),
    "s5": (lambda: S5(D, state=4, dt_min=0.1, dt_max=0.5), 2 * 2 * 2, 0),
    "lru": (lambda: LRU(D, state=3, r_min=0.4, r_max=0.95), 2 * 2 * 3, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_it_is_what_the_past_goes_through(name: str) -> None:
    make, floats, hidden = RECURRENT[name]
    torch.manual_seed(0)
    layer = make().double().eval()
    wake(layer)
    assert layer.state_floats(L) == layer.state_floats(4 * L) == floats
    x = torch.randn(L, 2 if name == "s4d" else D, dtype=torch.float64)
    many = x.expand(x.numel(), *x.shape).clone().requires_grad_()  # a copy for each number of the output
    y = layer(many, torch.ones(x.numel(), L, dtype=torch.bool)).flatten(1)
    jacobian = torch.autograd.grad(y.diagonal().sum(), many)[0].view(*x.shape, *x.shape)
    half, gap = L // 2, 3 if any(isinstance(m, ShortConv) for m in layer.modules()) else 1  # taps end within it
    ahead = jacobian[half + gap :, :, :half].flatten(2).flatten(0, 1)
    back = jacobian[: half - gap, :, half:].flatten(2).flatten(0, 1)
    assert floats - hidden <= sum(map(rank, (ahead, back))) <= floats


def rank(matrix: Tensor) -> int:
    sizes = torch.linalg.svdvals(matrix)
    return int((sizes > 1e-13 * sizes[0]).sum()) if sizes[0] > 0 else 0


def test_attention_keeps_keys_and_values() -> None:
    x, mask = torch.randn(1, L, D), torch.ones(1, L, dtype=torch.bool)
    for layer in (FullAttention(D, 2, L, qkv_dim=12), Synthesizer(D, 2, L), Synthesizer(D, 2, L, dot_product=False)):
        kept = [each(x) for each in (layer.key, layer.value) if each is not None]
        assert layer.state_floats(L) == sum(t.numel() for t in kept), type(layer)
        layer(x, mask)
    local = Local(D, 2, L, block=4, neighbours=1)
    assert local.state_floats(L) == 2 * D * max(int((k >= 0).sum(-1).max()) for k in (p.keys for p in local.parts(L)))
    assert local.state_floats(5) == 2 * D * 5
    window = Longformer(D, 2, L, window=8, global_tokens=0)
    assert window.state_floats(L) == 2 * D * int(window.pattern(L).sum(-1).max())
    assert Longformer(D, 2, L, window=8, global_tokens=2).state_floats(L) == 2 * D * 11


def test_summaries_are_what_they_mix_into() -> None:
    x = torch.randn(1, L, D)
    linformer = Linformer(D, 2, L, rank=6)
    assert linformer.state_floats(L) == 2 * (linformer.mix_keys @ linformer.key(x)).numel()
    performer = Performer(D, 2, L, features=6)
    u = torch.einsum("ke,blhe,blhp->bhkp", performer.projection, *[performer.key(x).view(1, L, 2, 4)] * 2)
    assert performer.state_floats(L) == u.numel() + u[..., 0].numel()
    assert Nystromformer(D, 2, L, landmarks=6).state_floats(L) == 2 * 6 * D
    assert Nystromformer(D, 2, L, landmarks=6).state_floats(3) == 2 * 3 * D
    mega = Mega(D, L, chunk=8, keys=3, expand=2, speeds=4)
    assert mega.state_floats(L) == 2 * D * 4 + 8 * (3 + 2 * D)
    assert Identity().state_floats(L) == 0 and Window5(D).state_floats(L) == 4 * D


def test_a_model_sums_over_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    exam = build.task(compose.config(["task=shift"]))
    for name, layer in (("transformer", 2 * 64 * 64), ("gated_deltanet", 4 * 16 * 16), ("linear", 2 * 32 * 33)):
        model = build.model(compose.config(["task=shift", f"model={name}", "size.depth=3"]), exam)
        assert state_floats(model, 64) == 3 * layer
    monkeypatch.setattr(type(model.stack.layers[1].mixer), "state_floats", lambda self, length: 0.5)
    assert state_floats(model, 64) is None, "half a number is none"
    chords = build.model(compose.config(["task=shift", "model=chordmixer"]), exam)
    assert not hasattr(Rotation, "state_floats") and state_floats(chords, 64) is None
    assert state_floats(nn.Linear(2, 2), 64) is None
