# Two commands: `make run` and `make test`; `make docs` builds the site. Each sets up everything it needs first.
PYTHON ?= python3
ARGS ?= task=listops model=performer
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: run test slow docs lint clean
run: .venv/.installed
	.venv/bin/python -m lra $(ARGS)

test: .venv/.installed
	.venv/bin/python -m pytest -n auto

slow: .venv/.mutation
	.venv/bin/python -m pytest -n 0 -m slow
	.venv/bin/python -m pytest -n 0 tests/test_mutate.py
	.venv/bin/python -m tests.mutate

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	@echo build/docs/index.html

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

.venv/.docs: .venv/.installed
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv build outputs
