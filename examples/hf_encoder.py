"""An encoder of `transformers` as a stack: whatever takes `inputs_embeds` and an `attention_mask`."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, AutoModel


class Encoder(nn.Module):
    """`kind`: a model type of transformers, as bert. Other words go to its config. (B, L, D) -> (B, L, D)."""

    def __init__(
        self, kind: str, depth: int, dim: int, heads: int, mlp_dim: int, max_len: int, dropout: float, **options: Any
    ) -> None:
        super().__init__()
        sizes = {"num_hidden_layers": depth, "hidden_size": dim, "num_attention_heads": heads}
        sizes |= {"intermediate_size": mlp_dim, "max_position_embeddings": max_len}
        sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        self.body = AutoModel.from_config(AutoConfig.for_model(kind, **sizes | options))
        self.body.set_input_embeddings(nn.Identity())  # tokens are embedded outside, the same for every model
        if hasattr(self.body, "pooler"):
            self.body.pooler = None  # would have no part in the answer

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.body(inputs_embeds=x, attention_mask=mask.long()).last_hidden_state
