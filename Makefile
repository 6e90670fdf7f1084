# Every target works from a bare clone: the environment is a prerequisite, not a chore.
PYTHON ?= $(or $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done),python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHROMIUM := /usr/bin/chromium
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

.PHONY: demo dev test test-long browser lint types check benchmark faulty-day panel-pages soak lock clean

demo: $(READY)
	@$(BIN)/clarity demo

dev: $(READY)
	@$(BIN)/clarity dev

test: $(READY) browser
	@$(PYTEST) -m "not long"

# Workers killed on PostgreSQL at every step, months in one run, a simulated month of faults.
test-long: $(READY)
	@$(PYTEST) -m long

# The panel's tests click in it. Where it cannot be installed they say so and fail.
browser:
	@test -x $(CHROMIUM) || if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "Installing Chromium for the panel's tests (once) ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends chromium fonts-dejavu-core > /dev/null; \
	else \
		echo "There is no $(CHROMIUM); the panel's browser tests need it: apt-get install chromium"; \
	fi

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

panel-pages: $(READY)
	@$(BIN)/python benchmarks/panel_pages.py

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
