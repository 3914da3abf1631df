"""Settings as Hydra composes them, in a tenth of its time: what Hydra composes for a task, and the rest laid over it.

tests/settings/test_compose.py holds one against the other. What depends on how the words were typed is not there:
`variant` and `sources`.
"""

from __future__ import annotations

import copy
from functools import cache

from omegaconf import DictConfig, OmegaConf

from lra.root import CONFIGS
from lra.settings import compose
from lra.settings.ranges import checked
from lra.settings.schema import Settings
from lra.settings.typed import typed
from lra.settings.words import GROUPS


@cache
def settings(*words: str) -> Settings:
    """Of words such as task=listops model=local budget=paper size.dim=16. To be read only: whoever asks for the same
    gets the same."""
    choices = {"task": "listops", "model": "transformer", "budget": "quick"}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key in choices:
            choices[key] = value
        else:
            rest.append(word)
    task, model, budget = choices.values()
    own = ("pair", f"{task}-{model}.yaml"), ("recipe", budget, model, f"{task}.yaml")
    if any(CONFIGS.joinpath(*parts).exists() for parts in own) or any(map(_is_hydras, rest)):
        return compose.config(list(words))
    found = copy.deepcopy(_bodies(task, budget))
    found.merge_with(OmegaConf.load(CONFIGS / "model" / f"{model}.yaml"))
    found.merge_with(OmegaConf.from_dotlist(rest))
    return checked(typed(OmegaConf.to_container(found, resolve=True) | {"choices": {"task": task, "model": model}}))


def _is_hydras(word: str) -> bool:
    """Another group's file, or a word with more to it than a key and a value."""
    key = word.split("=")[0]
    return key in GROUPS or not key.replace(".", "").replace("_", "").isalnum()


@cache
def _bodies(task: str, budget: str) -> DictConfig:
    """What Hydra composes for a task, its interpolations as they stand, with a body that has no mixer yet
    and nothing of a model's own."""
    found = compose._hydra([f"task={task}", f"budget={budget}"], [])
    OmegaConf.set_struct(found, False)
    del found.hydra, found.model.mixer
    found.about, found.claims = {}, {}
    return found
