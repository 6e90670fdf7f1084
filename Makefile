# Every target works from a bare clone: the environment is a prerequisite, not a chore.
PYTHON ?= $(or $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo dev test lint types check benchmark faulty-day soak lock clean

demo: $(READY)
	@$(BIN)/clarity demo

dev: $(READY)
	@$(BIN)/clarity dev

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/pyright

check: lint types test

benchmark: $(READY)
	@$(BIN)/python benchmarks/daily_sync.py

faulty-day: $(READY)
	@$(BIN)/python -m benchmarks.faulty_day

soak: $(READY)
	@$(BIN)/python -m benchmarks.soak

$(READY): requirements.lock pyproject.toml
	@echo "Preparing $(VENV) with $(PYTHON) (about a minute, once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "clarity_pipeline needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)")'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# uv resolves once for all supported Pythons; the lock names versions and hashes, never a host.
lock:
	@python3 -m venv --clear $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install --quiet uv
	@$(VENV)-lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-strip-extras --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock
	@rm -rf $(VENV)-lock

clean:
	@rm -rf $(VENV) .clarity build *.egg-info
