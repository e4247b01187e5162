# make demo   a pod gets a device on the embedded cluster
# make test   every check and test
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test check bench lock clean
.DEFAULT_GOAL := demo

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "drakit needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "==> virtual environment in $(VENV)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "cannot create a virtual environment: install the venv module (Debian: apt install python3-venv)"; exit 1; }
	@echo "==> locked dependencies"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-warn-script-location --require-hashes -r requirements-dev.lock
	@echo "==> drakit"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)
	@$(VENV)/bin/dra demo

test: check
	@echo "==> tests"
	@$(VENV)/bin/python -m pytest -n 2

check: $(STAMP)
	@scripts/check.sh

bench: $(STAMP)
	@$(VENV)/bin/python -m bench

lock: $(STAMP)
	@scripts/lock.sh

clean:
	rm -rf $(VENV) .tools build dist .mypy_cache .ruff_cache .hypothesis
