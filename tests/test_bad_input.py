"""Whatever is typed or written wrongly gets exit code 2 and one line: the field, the value, what is allowed."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lra.errors import UserError
from lra.settings import build, compose
from lra.settings.explain import explained
from lra.settings.schema import Settings
from tests.help import composed, tiny

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(warm: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    """Run `python -m MODULE WORDS` here; (exit code, stdout, stderr)."""
    monkeypatch.setenv("LRA_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("LRA_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(module: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [module, *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        out = capfd.readouterr()
        return end.value.code or 0, out.out, out.err

    return run


def one_line(done: tuple[int, str, str], *parts: str) -> None:
    code, _, err = done
    lines = err.strip().splitlines()
    assert code == 2 and len(lines) == 1, err
    assert lines[0].startswith("lra: ") and "Traceback" not in err
    for part in parts:
        assert part in lines[0], lines[0]


NUMBERS = {
    "seed": (-1, "x", 0.5), "train.steps": (-1, "many", 2.5), "train.batch_size": (0, -3, "8.5"),
    "train.accumulate": (0, 3), "train.eval_every": (0,), "train.eval_batch_size": (0, "all"),
    "train.warmup_steps": (-1,), "train.weight_decay": (-0.1, "none"), "train.learning_rate": (0, -1, "fast", "nan"),
    "train.eps": (0,), "train.grad_clip": (0, -1), "train.betas": ("[0.9]", "[0.9,1.0]"),
    "train.label_smoothing": (1, -0.1), "train.diverged_at": (0.5,), "threads": (0, -1, 100000, "all"),
    "size.depth": (0,), "size.dim": (0, "wide"), "size.heads": (0, 3), "size.qkv_dim": (0,), "size.mlp_dim": (-1,),
    "size.dropout": (1, -0.1, "half"), "size.attention_dropout": (1.5,), "data.workers": (-1, "two"),
    "data.pad_multiple": (0,), "measure.steps": (2, 0), "measure.warmup_steps": (0, 1), "measure.seconds": (-1,),
    "measure.batch_size": (0,), "measure.memory_limit_gib": (0, "much"), "cost.point_seconds": (0,),
    "cost.batch_size": (0,), "cost.memory_gib": (0,), "minutes": ("soon",),
    "workers": (0, -1, "two"), "run.timeout": (0, "long"), "run.memory_gib": (0, "much"), "run.stalled": (0.5, "often"),
}  # fmt: skip
CHOICES = {
    "train.schedule": ("step", "Cosine"), "dtype": ("fp16", "float64"), "device": ("gpu", "cuda:0"),
    "data.pad_to": ("short",), "wandb.mode": ("on",), "model.pooling": ("first",), "model.position": ("absolute",),
    "cost.modes": ("[slow]",), "cost.lengths": ("[0]", "[]"), "compile": ("maybe",), "measure.enabled": ("perhaps",),
    "data.bucket": ("2x",), "data.parts": (0, "many"),
}  # fmt: skip
FILES = {
    "task": ("listop", "imdb_", "LISTOPS", "pathfinder32"), "model": ("transformr", "bert", "mamba3"),
    "budget": ("large", "papers"), "sweep": ("everything",), "treatment": ("pruned_",), "launcher": ("cloud",),
    "scale": ("huge",),
}  # fmt: skip
KEYS = (
    "train.lr=0.1", "train.stps=4", "+train.lr=0.5", "+optimizer.lr=1", "+data.num_workers=2", "+epochs=3", "lr=0.1",
    "epochs=3", "bs=4", "wd=0.1", "num_workers=2", "size.dmi=3", "modle=linear", "tsak=text", "model.mixer.stride=3",
    "task.maxlen=3", "++train.lr=1", "~train.stps", "wandb.project.name=x", "measure=fast", "hydra.jobs=2",
    "train=fast", "size=3", "cost=1", "revision.mode=2", "claims.speed=x", "budget.steps=3", "seeds=3", "verbose=true",
    "pair=nothing",
)  # fmt: skip
WORDS = ("transformer", "=3", "task", "model=", "train.steps==4", "task=listops=2", "train.steps=", "--quick", "-x")
NO_LIST = "train.betas=0.9"
SEVERAL = ("seed=0,1", "model=linear,local", "train.steps=1,2")


VALUES = {**NUMBERS, **CHOICES}


@pytest.mark.parametrize("word", [f"{k}={v}" for k, values in VALUES.items() for v in values])
def test_values(tmp_path: Path, word: str) -> None:
    refused(laid_over, tmp_path, word, *parts_of(word))


@pytest.mark.slow
@pytest.mark.parametrize("word", [*(f"{k}={v}" for k, values in VALUES.items() for v in values), NO_LIST])
def test_values_as_hydra_composes_them(tmp_path: Path, word: str) -> None:
    refused(compose.config, tmp_path, word, *parts_of(word))


def laid_over(words: list[str]) -> Settings:
    with explained():
        return composed.settings(*words)


def refused(composing: Callable[[list[str]], Settings], tmp_path: Path, word: str, *parts: str) -> None:
    """Before anything is trained, in one line."""
    with pytest.raises(UserError) as caught:
        cfg = composing(tiny.words(tmp_path, "measure.enabled=true", word))
        build.model(cfg, build.task(cfg))
    line = str(caught.value)
    assert "\n" not in line and all(part in line for part in parts), line


def parts_of(word: str) -> tuple[str, str]:
    """What a line about it has to name: the field and the value."""
    key, _, value = word.partition("=")
    return key.split(".")[-1].split("_")[0], value.strip("[]").split(",")[0]


# A range, a type, a choice, and what is refused by the run's own process alone.
@pytest.mark.parametrize("word", ["train.steps=-1", "threads=all", "dtype=fp16", NO_LIST, "size.heads=3"])
def test_values_at_the_door(typed: Typed, tmp_path: Path, word: str) -> None:
    one_line(typed("lra", *tiny.words(tmp_path, "measure.enabled=true", word)), *parts_of(word))


@pytest.mark.parametrize("word", [f"{k}={v}" for k, values in FILES.items() for v in values])
def test_files(typed: Typed, tmp_path: Path, word: str) -> None:
    rest = [w for w in tiny.words(tmp_path) if not w.startswith(word.partition("=")[0] + "=")]
    one_line(typed("lra", *rest, word), *word.split("="))


@pytest.mark.parametrize("word", [pytest.param(w, marks=pytest.mark.slow if i % 2 else ()) for i, w in enumerate(KEYS)])
def test_keys(tmp_path: Path, word: str) -> None:
    refused(compose.config, tmp_path, word, word.lstrip("+~").split("=")[0].split(".")[0])


@pytest.mark.parametrize("word", KEYS[1::14])
def test_keys_at_the_door(typed: Typed, tmp_path: Path, word: str) -> None:
    one_line(typed("lra", *tiny.words(tmp_path), word), word.lstrip("+~").split("=")[0].split(".")[0])


@pytest.mark.parametrize("word", WORDS)
def test_what_is_no_option_at_all(typed: Typed, tmp_path: Path, word: str) -> None:
    code, _, err = typed("lra", *tiny.words(tmp_path), word)
    assert code == 2 and "Traceback" not in err and len(err.strip().splitlines()[-1]) < 600, err


@pytest.mark.parametrize("word", SEVERAL)
def test_several_values_without_a_sweep(typed: Typed, tmp_path: Path, word: str) -> None:
    one_line(typed("lra", *tiny.words(tmp_path), word), word.split("=")[0], "python -m lra -m")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("results_dir", "/proc/x"),
        ("output_dir", "/dev/null/x"),
        ("data_dir", "a" * 300),
        ("results_dir", "taken"),
    ],
)
def test_places(typed: Typed, tmp_path: Path, key: str, place: str) -> None:
    (tmp_path / "taken").write_text("a file")
    rest = [w for w in tiny.words(tmp_path, "measure.enabled=false") if not w.startswith(f"{key}=")]
    code, _, err = typed("lra", *rest, f"{key}={place}")
    last = err.strip().splitlines()[-1]
    assert code == 2 and "Traceback" not in err and place[:40] in last, err


DOORS = {
    "lra.leaderboard": (["results_dir=nowhere"], ["result_dir=x"], ["--chek"], ["--config-dir", "nowhere"],
                        ["--config-dir"], ["results_dir"], [""]),
    "lra.plot": (["results_dir=nowhere"], ["out=x"], ["--config-dir=nowhere"]),
    "lra.cost": (["results_dir=nowhere"], ["points"], ["-q"]),
    "lra.floors": (["task=listop"], ["task=listops", "budget=tiny"], ["tsk=x"], ["task=listops", "task.max_len=0"]),
    "lra.check": (["model=lineer"], ["model=linear", "--only", "paddin"], ["model=linear", "--length", "0"],
                  ["model=linear", "size.heads=3"], ["--config-dir", "nowhere", "model=linear"], ["model=linear,local"],
                  ["model=linear", "--length", "long"]),
    "lra.measure": (["model=lineer"], ["task=listop"], ["size.dim=0"]),
    "lra.ledger": (["results_dir=nowhere"], ["--all"]),
    "lra.data": (["prepare", "task=listop"], ["prepare"], ["verify", "task=nothing"], ["fetch", "nothing"], ["lst"]),
}  # fmt: skip


@pytest.mark.parametrize(("module", "words"), [(m, w) for m, each in DOORS.items() for w in each])
def test_every_door(typed: Typed, module: str, words: list[str]) -> None:
    code, _, err = typed(module, *words)
    lines = err.strip().splitlines()
    assert code == 2 and "Traceback" not in err and lines and len(lines[-1]) < 500, err
    assert sum(not line.startswith(("usage:", " ")) for line in lines) == 1, err


@pytest.mark.parametrize("module", [*DOORS, "lra", "lra.ceilings"])
def test_every_command_has_help(typed: Typed, module: str) -> None:
    code, out, err = typed(module, "--help")
    assert code == 0 and "python -m lra" in out and not err
    assert typed("lra", "--version")[:2] == (0, f"lra {__import__('importlib.metadata').metadata.version('lra')}\n")


# The user's own files.

HEAD = "# @package _global_\n"
MIXER = "model:\n  mixer: {_target_: %s, _partial_: true}\n"
LOCAL = "model:\n  mixer: {_target_: lra.models.local.Local, _partial_: true"
YAMLS = {
    "open": (HEAD + "model:\n  mixer: {_target_: a.B\n  x: [1\n", ["open.yaml:4", "no YAML"]),
    "tab": (HEAD + "model:\n\tmixer: 3\n", ["tab.yaml:3", "no YAML"]),
    "number": (HEAD + "model: 3\n", ["number.yaml:2", "model"]),
    "claim": (HEAD + LOCAL + "}\nclaims: {time: fast}\n", ["claim.yaml:4", "claims.time", "fast"]),
    "claimx": (HEAD + "claim: {time: 1}\n", ["claimx.yaml:2", "claim", "Did you mean claims"]),
    "list": ("- a\n- b\n", ["list.yaml"]),
    "defaults": (HEAD + "defaults:\n  - nothing/there\n", ["defaults.yaml", "nothing/there"]),
    "lost": (HEAD + "model:\n  dim: ${size.dimm}\n", ["model.dim", "size.dimm", "size.dim"]),
    "empty": ("", ["model", "mixer"]),
    "argument": (HEAD + LOCAL + ", blocks: 3}\n", ["blocks"]),
    "value": (HEAD + LOCAL + ", block: 0}\n", ["block", "0"]),
    "nomodule": (HEAD + MIXER % "nomodule.X", ["nomodule.X", "no module 'nomodule'", "nomodule.py"]),
    "noclass": (HEAD + MIXER % "raising_mixer.Y", ["raising_mixer has no 'Y'"]),
    "nodot": (HEAD + MIXER % "Local", ["'Local' is not MODULE.CLASS"]),
    "syntax": (HEAD + MIXER % "broken_mixer.X", ["broken_mixer.py:2", "SyntaxError"]),
    "name": (HEAD + MIXER % "undefined_mixer.X", ["undefined_mixer.py:1", "NameError", "not_defined"]),
    "imports": (HEAD + MIXER % "importing_mixer.X", ["importing_mixer.py:1", "not_there"]),
    "raises": (HEAD + MIXER % "raising_mixer.X", ["raising_mixer.py:4", "KeyError"]),
    "itself": (HEAD + "model:\n  dim: ${model.dim}\n", ["model"]),
}  # fmt: skip
MODULES = {
    "broken_mixer": "import torch\nclass X(torch.nn.Module\n    pass\n",
    "undefined_mixer": "not_defined\n",
    "importing_mixer": "import not_there\n",
    "raising_mixer": "import torch\nclass X(torch.nn.Module):\n    def __init__(self, dim, heads, max_len):\n"
    "        raise KeyError('dim')\n",
}


@pytest.mark.parametrize("name", YAMLS)
def test_the_users_own_files(typed: Typed, tmp_path: Path, name: str) -> None:
    text, parts = YAMLS[name]
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / f"{name}.yaml").write_text(text)
    for module, code in MODULES.items():
        (tmp_path / f"{module}.py").write_text(code)
        sys.modules.pop(module, None)
    # Such that nothing but the model is in the way: the check builds it here and now.
    one_line(typed("lra.check", f"model={name}", "--config-dir", str(tmp_path / "mine"), "--only", "size"), *parts)


HARMED = (
    (HEAD + "train: {stepz: 3}\n", [":2", "train.stepz", "train.steps"]),
    (HEAD + "train:\n  steps: many\n", [":3", "train.steps", "many"]),
    (HEAD + "train: {steps: [\n", ["no YAML"]),
    (HEAD + "unheard_of: 1\n", [":2", "unheard_of"]),
    (b"\xff\xfe\x00", ["UTF-8"]),
)


def each_once() -> Iterator[pytest.ParameterSet]:
    """Each group and each fault, in every run of the tests once."""
    for i, group in enumerate(("budget", "sweep", "treatment", "launcher", "task")):
        for j, (text, parts) in enumerate(HARMED):
            yield pytest.param(group, text, parts, id=f"{group}-{j}", marks=() if i == j else pytest.mark.slow)


@pytest.mark.parametrize(("group", "text", "parts"), list(each_once()))
def test_files_of_every_group(typed: Typed, tmp_path: Path, group: str, text: str | bytes, parts: list[str]) -> None:
    path = tmp_path / "mine" / group / "own.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = [w for w in tiny.words(tmp_path) if not w.startswith(("task.", "task=" if group == "task" else "-"))]
    one_line(typed("lra", "--config-dir", str(tmp_path / "mine"), *words, f"{group}=own"), path.name, *parts)
