"""The weights of linear layers as numbers into a table of few values, by k-means (Han et al. 2016, arXiv 1510.00149,
section 3): the lower end of what a matrix can be stored in. Looked up ahead, so that nothing runs faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lra.treatments.examples import covered, in_bits, linears, whole


class KMeans:
    """bits: of an entry, 1 to 8; a table of 2^bits values a weight, which starts evenly from its least to its largest,
    as there. Raises ValueError for other bits."""

    def __init__(self, bits: int = 4) -> None:
        self.bits = whole("bits", bits, 1, 8)

    def after(self, trainee: Any) -> Any:
        layers = linears(trainee)
        with torch.no_grad():
            for layer in layers.values():
                layer.weight.copy_(torch.from_numpy(clustered(layer.weight.detach().cpu().numpy(), self.bits)))
        tables = 4 * 2**self.bits * len(layers)
        self.facts = {
            "executed": False,
            "layers": len(layers),
            "covered": covered(trainee.model, layers),
            "weight_bytes": in_bits(trainee.model, layers, self.bits, tables),
        }
        return trainee


def clustered(weight: np.ndarray, bits: int) -> np.ndarray:
    """Each number replaced by the mean of its cluster."""
    from sklearn.cluster import KMeans as Lloyd

    numbers = weight.reshape(-1, 1).astype(np.float64)
    values = min(2**bits, len(np.unique(numbers)))
    begin = np.linspace(numbers.min(), numbers.max(), values)[:, None]
    found = Lloyd(values, init=begin, n_init=1, max_iter=1000, tol=0.0, algorithm="lloyd").fit(numbers)
    return found.cluster_centers_[found.labels_].reshape(weight.shape).astype(weight.dtype)
