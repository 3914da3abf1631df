"""A smaller network out of one that holds many: the beginning of an elastic one (lra.treatments.prefix).

Of a model that was not trained for it, what comes of it shows what that training is worth.
"""

from __future__ import annotations

from typing import Any

from lra.treatments.examples import flops, weight_bytes
from lra.treatments.prefix import Size, cut, kept, layers_of


class Cut:
    """width: the share of heads and of feed-forward neurons of each layer. depth: of layers. Raises ValueError if one
    is not in (0, 1]."""

    def __init__(self, width: float = 1.0, depth: float = 1.0) -> None:
        for field, value in (("width", width), ("depth", depth)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise ValueError(f"treatment.{field}: {value!r} is not in (0, 1]")
        self.size = Size(float(width), float(depth))

    def after(self, trainee: Any) -> Any:
        layers, whole = kept(len(layers_of(trainee.model)), self.size.depth), flops(trainee)
        trainee.model = cut(trainee, self.size)
        left, own = layers_of(trainee.model), flops(trainee)
        self.facts = {
            "layers": layers,
            "heads": [layer.mixer.heads for layer in left],
            "neurons": [layer.mlp.inner.out_features for layer in left],
            "flops": own,
            "of_flops": own / whole if own and whole else None,
            "weight_bytes": weight_bytes(trainee.model),
        }
        return trainee
