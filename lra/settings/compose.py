"""From the command line's words to settings."""

from __future__ import annotations

import copy
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lra.errors import UserError
from lra.root import CONFIGS
from lra.settings import again, identity
from lra.settings.explain import explained
from lra.settings.ranges import checked
from lra.settings.schema import EXPERIMENT, Settings, kind_of
from lra.settings.sources import sources
from lra.settings.typed import register, typed
from lra.settings.words import GROUPS, OPTIONAL, as_typed, choices, quoted

ONE_AT_A_TIME = threading.RLock()  # Hydra composes for a whole process
VARIABLES = ("LRA_DATA", "LRA_RESULTS", "HOME")  # on which settings depend
STANDARD = ("task", "model", "budget", "sweep")  # groups whose choice is no departure from the budget


def config(words: Sequence[str], config_dir: str | Path | None = None) -> Settings:
    """What the command line `python -m lra WORDS [--config-dir CONFIG_DIR]` asks for.

    Raises UserError, in one line, for an unknown option, key or value.
    """
    if config_dir is None:
        with ONE_AT_A_TIME:
            found = copy.deepcopy(_of_words(tuple(words), tuple(map(os.environ.get, VARIABLES))))
        # A notebook may have loaded an edited mixer meanwhile.
        return replace(found, sources=sources(found.task, found.model, found.treatment))
    if not Path(config_dir).is_dir():
        raise UserError(f"--config-dir: {config_dir} is not a folder")
    folders = [str(Path(config_dir).resolve())]
    with ONE_AT_A_TIME, explained(config_dir):
        return settled(_hydra(words, folders), folders)


@functools.lru_cache(maxsize=256)
def _of_words(words: tuple[str, ...], variables: tuple[str | None, ...]) -> Settings:
    """Composed once for all in a process who ask for a run: who plans it, who does it, who looks for its record; again
    where one of VARIABLES has another value."""
    with explained(None):
        return settled(_hydra(words, []))


def settled(cfg: Any, folders: Sequence[str] = (), words: Sequence[str] | None = None) -> Settings:
    """The settings of a configuration as Hydra composed it, its own part `hydra` among it; `folders`: where
    besides configs/ it found files; words: those of the run, where a sweep's were composed with them."""
    from omegaconf import OmegaConf

    refuse_old_places(folders)
    choices = cfg.hydra.runtime.choices
    words = list(cfg.hydra.overrides.task if words is None else words)
    refuse_what_does_nothing(words, folders)
    refuse_without_recipe(choices, folders)
    asked, own = (_values(cfg, resolve) for resolve in (False, True))
    for node, name in ((own, "results_dir"), (own, "output_dir"), (own, "data_dir"), (own["task"], "data_dir")):
        if isinstance(node.get(name), str):
            node[name] = os.path.expanduser(node[name])  # noqa: PTH111
    own["choices"] = {"task": choices.task, "model": choices.model}
    typed(own)  # refuses what is no option at all before anything is made of it
    own["sources"] = sources(own["task"], own["model"], own["treatment"])
    if any(map(departs, words)):
        usual = [w for w in words if w.lstrip("+").split("=")[0] in STANDARD]
        with_budget = [] if any(w.startswith("budget=") for w in usual) else [f"budget={choices.budget}"]
        standard = _standard(*usual, *with_budget) if not folders else _of_budget([*usual, *with_budget], folders)
        own["variant"] = identity.variant(own, standard | {"choices": own["choices"]}, asked)
        if own["treatment"]:
            own["variant"] += [f"treatment={choices.treatment}", *of_treatment(own["treatment"], words)]
    own["words"] = again.words(words, choices, folders)
    OmegaConf.clear_cache(cfg)
    return checked(typed(_one_budget(own, words)))


def of_treatment(own: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """What is said of a treatment besides which it is, by the values as they came out."""
    said = (word.lstrip("+").partition("=")[0].partition(".") for word in words)
    keys = sorted({key for group, _, key in said if group == "treatment" and key in own})
    return [f"treatment.{key}={identity.word(own[key])}" for key in keys]


def departs(word: str) -> bool:
    """May a word make of a run another one than its budget's? No seed, place or condition does."""
    key = word.lstrip("+~").split("=")[0]
    if key in STANDARD or key == "seed":
        return False
    try:
        return kind_of(key) == EXPERIMENT
    except KeyError:  # Hydra's own, or a group
        return True


def _one_budget(own: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Steps that are said stand above minutes, which then say nothing; but not where somebody asks for both."""
    train = own["train"]
    if train["steps"] is not None and train["core_minutes"] is not None:
        if any(w.lstrip("+").startswith("train.core_minutes=") for w in words):
            raise UserError(
                f"train.core_minutes: {train['core_minutes']} does nothing beside train.steps={train['steps']};"
                " budget=race has minutes alone"
            )
        train["core_minutes"] = None
    return own


def refuse_old_places(folders: Sequence[str]) -> None:
    """What 0.1 read and nothing reads any more must not be ignored: scale/BUDGET-TASK.yaml."""
    for path in sorted(p for folder in folders for p in (Path(folder) / "scale").glob("*-*.yaml")):
        budget, _, task = path.stem.partition("-")
        raise UserError(f"{path}: this now stands in scale/{budget}/{task}.yaml; move it there")


def refuse_what_does_nothing(words: Sequence[str], folders: Sequence[str]) -> None:
    """A file that is optional is passed over where it is not there, unless somebody asked for it by name."""
    for word in words:
        group, _, name = word.lstrip("+").partition("=")
        places = [Path(folder) / group / f"{name}.yaml" for folder in (CONFIGS, *folders)]
        if group in OPTIONAL and name not in ("", "null") and not any(place.is_file() for place in places):
            raise UserError(f"{group}: there is no file {group}/{name}.yaml")


def refuse_without_recipe(choices: Any, folders: Sequence[str]) -> None:
    """A budget that is a folder of recipes means nothing for a model and a task without one."""
    places = [Path(folder) / "recipe" / choices.budget for folder in (CONFIGS, *folders)]
    models = sorted({p.parent.name for place in places for p in place.glob(f"*/{choices.task}.yaml")})
    if any(map(Path.is_dir, places)) and choices.model not in models:
        raise UserError(
            f"budget: {choices.budget} has no recipe for model={choices.model} on task={choices.task};"
            f" on it there is one for {', '.join(models) or 'no model'}"
        )


def _hydra(words: Sequence[str], folders: Sequence[str]) -> Any:
    """Hydra's DictConfig, with its own part `hydra`."""
    from hydra import compose as hydras
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register()
    path = [f"hydra.searchpath=[{','.join(map(quoted, folders))}]"] if folders else []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydras("config", overrides=[*path, *as_typed(words)], return_hydra_config=True)


def _values(cfg: Any, resolve: bool) -> dict[str, Any]:
    """Plain values of all but `hydra`."""
    from omegaconf import OmegaConf

    kept = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return OmegaConf.to_container(kept, resolve=resolve)


def _of_budget(words: Sequence[str], folders: Sequence[str]) -> dict[str, Any]:
    return _values(_hydra(words, folders), resolve=True)


@functools.cache
def _standard(*words: str) -> dict[str, Any]:
    """To be read only: composed once for the many runs of a process that depart from it."""
    return _of_budget(words, [])


def folders_of(hydra: Any) -> list[str]:
    """The folders besides configs/ where Hydra found files, from its own settings."""
    own = (s for s in hydra.runtime.config_sources if s.schema == "file" and s.provider not in ("main", "hydra"))
    return [s.path for s in own]


def help_text(words: Sequence[str], config_dir: str | None = None) -> str:
    """What `--help` prints: the template of config.yaml with the groups' files and the values as they stand.

    Hydra's own takes a third longer, because it looks through its own groups too.
    """
    from string import Template

    from omegaconf import OmegaConf

    folders = [str(Path(config_dir).resolve())] if config_dir is not None else []
    with explained(config_dir):
        cfg = _hydra(words, folders)
        template = cfg.hydra.help.template
    listed = "\n".join(f"{group}: {', '.join(names)}" for group in GROUPS if (names := choices(group, config_dir)))
    values = OmegaConf.to_yaml(OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"]))
    return Template(template).safe_substitute(APP_CONFIG_GROUPS=f"{listed}\n", CONFIG=values)
