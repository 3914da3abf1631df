# Two commands: `make run` and `make test`. Each sets up everything it needs first.
PYTHON ?= python3
ARGS ?= task=listops model=performer
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: run test slow lint clean
run: .venv/.installed
	.venv/bin/python -m lra $(ARGS)

test: .venv/.installed
	.venv/bin/python -m pytest -n auto

slow: .venv/.mutation
	.venv/bin/python -m pytest -n 0 -m slow
	.venv/bin/python -m pytest -n 0 tests/test_mutate.py
	.venv/bin/python -m tests.mutate

lint: .venv/.installed
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

.venv/.mutation: .venv/.installed
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[mutation]'
	touch $@

clean:
	rm -rf .venv outputs
