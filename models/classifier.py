"""Tokens to logits: embedding, position, stack, pooling, head. The same for every model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lra.models.parts.chance import Dropout
from lra.models.parts.factory import build
from lra.models.parts.heads import led, told
from lra.models.parts.pma import AttentionPooling
from lra.models.parts.queries import Queries
from lra.models.parts.tiles import wide

POSITIONS = ("learned", "sinusoidal", "rotary", "none")
POOLINGS = ("cls", "mean", "last", "max", "pma")
ANSWERS = ("sequence", "token", "middle", "last")


def sinusoids(length: int, dim: int, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Fixed positions (L, D), in float32 at least: even columns sin, odd columns cos of p 10000^(-2i/D).

    Vaswani et al. 2017, section 3.5; for an odd D the last cosine is dropped.
    """
    position = torch.arange(length, device=device, dtype=wide(dtype))[:, None]
    even = torch.arange(0, dim, 2, device=device, dtype=wide(dtype))
    angle = position * torch.exp(-even * (math.log(10_000.0) / dim))
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :dim]


def pool(x: Tensor, mask: Tensor, how: str) -> Tensor:
    """(B, L, D), (B, L) -> (B, D) over real tokens only.

    The official code averages over padding too (spec 0.3): there, longer padding moves the answer.
    """
    if how == "cls":
        return x[:, 0]
    if how == "last":
        last = mask.int().cumsum(1).argmax(1)
        return x[torch.arange(len(x), device=x.device), last]
    if how == "max":
        return x.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1).masked_fill(~mask.any(1, keepdim=True), 0)
    weight = mask.to(x.dtype).unsqueeze(-1)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


def read_at(x: Tensor, mask: Tensor, where: str) -> Tensor:
    """(B, L, D), (B, L) -> (B, L, D): at each position p, the state of the middle or last real token, and p's code."""
    real = mask.sum(1, keepdim=True)
    number = real // 2 if where == "middle" else real - 1
    reader = (mask.cumsum(1) == number + 1).int().argmax(1)
    state = x[torch.arange(len(x), device=x.device), reader]
    return state.unsqueeze(1) + sinusoids(x.shape[1], x.shape[2], x.dtype, x.device)


class Intensities(nn.Module):
    """Tokens i + 1 as the intensities i that they stand for: (i / 255 - mean) / deviation times a vector, plus another.

    int64 (B, L) -> (B, L, D). The first vector starts normal with deviation `std`, the other with a tenth of it.
    """

    def __init__(self, dim: int, mean: float, deviation: float, std: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        self.weight, self.bias = nn.Parameter(torch.randn(dim) * std), nn.Parameter(torch.randn(dim) * std * 0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        number = ((tokens - 1) / 255 - self.mean) / self.deviation
        return number.to(self.weight.dtype).unsqueeze(-1) * self.weight + self.bias


class Classifier(nn.Module):
    """A sequence classifier around any stack of mixers.

    forward: tokens int64 (B, L), mask bool (B, L) -> logits (B, C); with `documents=2` tokens and
    mask are (B, 2, L), both documents go through the same encoder, and the head sees
    [u, v, u * v, u - v] (Tay et al. 2021, arXiv 2011.04006, eq. 1).

    With `answers="token"` the head answers at every position, (B, L, C), and nothing is pooled. With "middle" and
    "last" it answers for every position out of one state, that of the middle (L // 2) or last real token, to which
    the sinusoidal code of the position asked for is added.

    `pooling="cls"` prepends a learned vector, zero at first, which takes position 0 (spec 0.4);
    the stack then sees L + 1 positions. `max_len` is the longest document, without it.

    `pooling="pma"` asks for the states with a learned vector (`parts.pma`), which any model can.

    `pixels=(mean, deviation)` takes the tokens of an image for the numbers that they are (`Intensities`), as most
    papers after the first did, in place of 256 words.

    `aux="discs"` has learned queries ask the states besides (`parts.queries`), for a task that teaches where things
    are: their numbers follow the logits, (B, C + N).

    Raises ValueError for sizes that do not fit together and, in `forward`, for an input longer
    than `max_len` when positions are learned.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        max_len: int,
        mixer: Callable[..., nn.Module],
        stack: Callable[..., nn.Module],
        depth: int,
        dim: int,
        heads: int,
        mlp_dim: int,
        qkv_dim: int | None = None,
        documents: int = 1,
        answers: str = "sequence",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        position: str = "learned",
        pooling: str = "mean",
        embedding_std: float = 1.0,
        checkpoint: bool = False,
        pixels: Sequence[float] | None = None,
        aux: str | None = None,
    ) -> None:
        super().__init__()
        for field, value, allowed in (("position", position, POSITIONS), ("pooling", pooling, POOLINGS)):
            if value not in allowed:
                raise ValueError(f"model.{field}: {value!r} is not one of {', '.join(allowed)}")
        if aux not in (None, "discs") or (aux is not None and (documents, answers) != (1, "sequence")):
            raise ValueError(f"aux: {aux!r} is not discs, of one document, or null")
        if documents not in (1, 2):
            raise ValueError(f"documents: {documents} is not 1 or 2")
        if answers not in ANSWERS:
            raise ValueError(f"answers: {answers!r} is not one of {', '.join(ANSWERS)}")
        if answers != "sequence" and (documents != 1 or pooling in ("cls", "pma")):
            raise ValueError(
                "answers: at positions they need one document and model.pooling=mean, which is then unused"
            )
        self.answers, self.dim = answers, dim
        self.documents, self.position, self.pooling, self.max_len = documents, position, pooling, max_len
        positions = max_len + (pooling == "cls")
        if pixels is None:
            self.embedding = nn.Embedding(vocab_size, dim)
            nn.init.normal_(self.embedding.weight, std=embedding_std)
        elif len(pixels) == 2 and pixels[1] > 0:
            self.embedding = Intensities(dim, *pixels, embedding_std)
        else:
            raise ValueError(f"model.pixels: {list(pixels)} is not a mean and a deviation above 0")
        self.cls = nn.Parameter(torch.zeros(dim)) if pooling == "cls" else None
        if position == "learned":
            self.positions = nn.Parameter(torch.randn(positions, dim) * 0.02)
        elif position == "sinusoidal":
            table = sinusoids(positions, dim, self.embedding.weight.dtype)
            self.register_buffer("positions", table, persistent=False)
        else:
            self.positions = None
        self.dropout = Dropout(dropout)
        facts = {
            "dim": dim,
            "heads": heads,
            "qkv_dim": qkv_dim or dim,
            "max_len": positions,
            "dropout": attention_dropout,
            "rotary": position == "rotary",
            "depth": depth,
        }
        self.stack = build(
            stack,
            mixer=partial(build, mixer, **facts),
            depth=depth,
            dim=dim,
            heads=heads,
            mlp_dim=mlp_dim,
            max_len=positions,
            dropout=dropout,
            checkpoint=checkpoint,
        )
        self.pma = AttentionPooling(dim, heads, qkv_dim) if pooling == "pma" else None
        self.queries = Queries(dim, heads, qkv_dim) if aux is not None else None
        self.head = nn.Sequential(
            nn.Linear(dim * (4 if documents == 2 else 1), mlp_dim),
            nn.ReLU(),
            nn.Linear(mlp_dim, num_classes),
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Classifier:
        super()._apply(fn, recurse)
        if self.position == "sinusoidal":
            # The table follows the type of the model: one that was converted keeps the old type's rounding.
            length, dim = self.positions.shape
            self.positions = sinusoids(length, dim, self.positions.dtype).to(self.positions)
        return self

    def state_floats(self, length: int) -> int | None:
        """Numbers that the mixers of all layers keep of a document of `length` tokens; null unless each says it."""
        length += self.cls is not None
        mixers = [m for name, m in self.stack.named_modules(remove_duplicate=False) if name.split(".")[-1] == "mixer"]
        if not mixers or not all(hasattr(m, "state_floats") for m in mixers):
            return None
        return sum(m.state_floats(length) for m in mixers)

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, L), (B, L) -> what the stack leaves at each token, (B, L, D)."""
        return self.through(tokens, mask)[0][:, int(self.cls is not None) :]

    def through(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L), (B, L) -> what the stack leaves and where it is real, with the vector in front if there is one."""
        x = self.embedding(tokens)
        if self.cls is not None:
            x = torch.cat((self.cls.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
            mask = led(mask, 1)
        if self.positions is not None:
            length = x.shape[1]
            if length > len(self.positions) and self.position == "learned":
                raise ValueError(f"length {tokens.shape[1]} is above the {self.max_len} positions that are learned")
            table = self.positions
            if length > len(table):
                table = sinusoids(length, x.shape[-1], x.dtype, x.device)
            x = x + table[:length].to(x.dtype)
        return self.stack(self.dropout(x), mask), mask

    def encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, L), (B, L) -> (B, D), or (B, L, D) where answers stand at positions."""
        return self.read(*self.through(tokens, mask))

    def read(self, x: Tensor, mask: Tensor) -> Tensor:
        """What `through` gives -> the same."""
        if self.answers != "sequence":
            return x if self.answers == "token" else read_at(x, mask, self.answers)
        return pool(x, mask, self.pooling) if self.pma is None else self.pma(x, mask)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.documents == 2:
            tokens, mask = tokens.flatten(0, 1), mask.flatten(0, 1)
        mask = told(mask, mask.is_meta or bool(mask.all()))
        if self.queries is not None:
            x, mask = self.through(tokens, mask)
            return torch.cat((self.head(self.read(x, mask)), self.queries(x, mask)), -1)
        if self.documents == 1:
            return self.head(self.encode(tokens, mask))
        u, v = self.encode(tokens, mask).unflatten(0, (-1, 2)).unbind(1)
        return self.head(torch.cat((u, v, u * v, u - v), dim=-1))
