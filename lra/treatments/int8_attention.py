"""What a mixer multiplies along the length, and what it keeps of tokens, on a uniform grid, imitated in floats.

    products      every factor: queries, keys, values, scores and softmax weights, features of kernels and the sum over
                  all tokens that queries are multiplied with; what a recurrence carries stays a float
    state         what a decoder keeps, rounded after every token: a recurrence's state, of kernel attention the sum
                  and its normaliser, of softmax attention keys and values
    keys_values   keys and values alone
    all           products, and a state after every token

Grids are symmetric (lra.treatments.ranges), one a head and site, whose end is fixed on training examples, or with
`token` one a row as it comes, of a state one a head. Linear layers and a kernel's random features stay floats: a chain
with treatment=fake_quant rounds linear layers too. For mixers that show what they multiply, by a method `opened`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from lra.treatments import ranges
from lra.treatments.examples import at_least_one, linear_share, linears, one_of, weight_bytes, whole
from lra.treatments.fake_quant import BITS, TOKEN
from lra.treatments.sites import BACK, Ends, ends, open_up, opening, sites

OF = ("all", "products", "state", "keys_values")
KEYS_VALUES, KEPT, READ = ("key", "value"), ("state", "total"), "answer"


class Int8Attention:
    """bits: of each number, 2 to 24, where nothing is left of the effect. of: see the module. calibration: a rule of
    lra.treatments.ranges, or "token"; `percentile`: of the rule of that name. examples: that are seen for it. Raises
    ValueError."""

    def __init__(
        self, bits: int = 8, of: str = "all", calibration: str = "max", percentile: float = 99.99, examples: int = 32
    ) -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"treatment.percentile: {percentile!r} is not in (0, 100]")
        self.bits, self.of, self.percentile = whole("bits", bits, *BITS), one_of("of", of, OF), percentile
        self.calibration = one_of("calibration", calibration, (*ranges.RULES, TOKEN))
        self.examples = at_least_one("examples", examples)

    def after(self, trainee: Any) -> Any:
        mixers, each = opening(trainee), self.of in ("all", "state")
        share = linear_share(trainee, linears(trainee))
        rounded = {name: self.rounded(found) for name, found in sites(trainee, mixers, each).items()}
        known: Ends = {name: {} for name in mixers}
        if self.calibration != TOKEN:
            rule = self.bits, self.calibration, self.percentile
            known = ends(trainee, mixers, self.examples, each, *rule)

        def at(name: str, site: str, t: Tensor) -> Tensor:
            return on_grid(site, t, known[name].get(site), self.bits) if site in rounded[name] else t

        self.facts = {
            "executed": False,
            "sites": {name: sorted(found) for name, found in rounded.items()},
            "linear_flops": share,
            "bound": 1 / share if share and self.of in ("all", "products") else None,
            "state_bytes": self.state_bytes(mixers.values(), trainee.exam.max_len),
            "weight_bytes": weight_bytes(trainee.model),
            "ends": {
                name: {site: end.tolist() for site, end in found.items() if site in rounded[name]}
                for name, found in known.items()
            },
        }
        open_up(mixers, at, each)
        return trainee

    def rounded(self, shown: Iterable[str]) -> set[str]:
        """Of the sites that a mixer shows those that are put on a grid."""
        names = {site: site.removesuffix(BACK) for site in shown}
        if self.of in ("all", "products"):
            return {site for site, name in names.items() if name != READ}
        kept = KEPT if self.of == "state" and set(KEPT) & set(names.values()) else KEYS_VALUES
        return {site for site, name in names.items() if name in kept}

    def state_bytes(self, mixers: Iterable[nn.Module], length: int) -> dict[str, int | None]:
        """Of all mixers, after so many tokens, in float32 and as it is kept; null where one does not say its state."""
        numbers = [getattr(m, "state_floats", lambda _: None)(length) for m in mixers]
        total = None if None in numbers else sum(numbers)
        bits = 32 if self.of == "products" else self.bits
        return {"before": total and 4 * total, "after": total and -(-total * bits // 8)}


def on_grid(site: str, t: Tensor, end: Tensor | None, bits: int) -> Tensor:
    """t (B, H, n, m) on a grid that ends for each head at `end` (H,), or by what comes, each row's or state's own."""
    if end is None:
        own = (-2, -1) if site.removesuffix(BACK) in KEPT else -1
        return ranges.onto(t, t.abs().amax(own, keepdim=True), bits)
    return ranges.onto(t, end.to(t.device, t.dtype).view(-1, 1, 1), bits)
