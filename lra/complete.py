"""Completion for a shell: the doors, and what task=, model=, budget=, sweep=, treatment= and launcher= may name.

source <(python -m lra.complete bash)         in ~/.bashrc: in each new terminal; for zsh: zsh
source <(python -m lra.complete bash --config-dir mine)    with the files of one's own

The names are those of today, and stand in what is printed: nothing is started while a word is typed. It serves `lra`,
and `python -m lra` where `python` has no completion of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lra.errors import UserError, guarded
from lra.root import ROOT
from lra.settings.words import choices, split

SHELLS = ("bash", "zsh")
GROUPS = ("task", "model", "budget", "sweep", "treatment", "launcher")
LISTED = "models tasks budgets sweeps treatments launchers"  # what `lra list` takes

# bash splits words at "="; zsh runs the same through its emulation, where it does not.
SCRIPT = r"""%(zsh)s_lra_values() {
  case "$1" in
%(cases)s
  esac
}

_lra() {
  local line="${COMP_LINE:0:COMP_POINT}" word key value
  word="${line##*[[:space:]]}"
  COMPREPLY=()
  case "$word" in
    *=*)
      key="${word%%%%=*}" value="${word#*=}"
      local before=""
      [[ "$value" == *,* ]] && before="${value%%,*},"
      local names
      names="$(_lra_values "$key")"
      [[ -z "$names" ]] && return
      COMPREPLY=($(compgen -W "$names" -P "$before" -- "${value##*,}"))
      if [[ "${COMP_WORDBREAKS-}" != *=* ]]; then COMPREPLY=("${COMPREPLY[@]/#/$key=}"); fi
      compopt -o nospace 2>/dev/null
      ;;
    lra.*)
      COMPREPLY=($(compgen -W "%(modules)s" -- "$word"))
      ;;
    *)
      case " $line" in
        *" lra list "*|*" lra.list "*) COMPREPLY=($(compgen -W "%(listed)s" -- "$word")) ;;
        *" -m "|*" -m lra") COMPREPLY=($(compgen -W "lra %(modules)s" -- "$word")) ;;
        *" lra "*|*" lra."*)
          COMPREPLY=($(compgen -W "%(words)s" -- "$word"))
          [[ "${COMPREPLY[0]-}" == *= ]] && compopt -o nospace 2>/dev/null
          ;;
      esac
      ;;
  esac
}
complete -o default -F _lra lra
complete -p python >/dev/null 2>&1 || complete -o default -F _lra python
"""


def doors() -> list[str]:
    """Every command beside a run, as `lra VERB` has it."""
    found = []
    for path in (ROOT / "lra").iterdir():
        own = path.suffix == ".py" and '__name__ == "__main__"' in path.read_text()
        if ((path / "__main__.py").is_file() or own) and not path.stem.startswith("_"):
            found.append(path.stem)
    return sorted(found)


def script(shell: str, config_dir: str | None = None) -> str:
    """What the shell is to read."""
    cases = [f'    {group}) echo "{" ".join(choices(group, config_dir))}" ;;' for group in GROUPS]
    words = [f"{group}=" for group in GROUPS] + ["seed=", "results_dir=", "--config-dir", "--dry-run", "--help"]
    return SCRIPT % {
        "zsh": "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else "",
        "cases": "\n".join(cases),
        "modules": " ".join(f"lra.{door}" for door in doors()),
        "listed": LISTED,
        "words": " ".join([*doors(), *words]),
    }


def main() -> None:
    words, config_dir = split(sys.argv[1:])
    if len(words) != 1 or words[0] not in SHELLS:
        raise UserError(f"complete: {' '.join(words) or 'nothing'} is not one of {', '.join(SHELLS)}")
    if config_dir is not None and not Path(config_dir).is_dir():
        raise UserError(f"--config-dir: {config_dir} is not a folder")
    print(script(words[0], config_dir), end="")


if __name__ == "__main__":
    guarded(main, __doc__)
