# make demo    send real files through every hand-off of both apps, on an embedded S3 server, and print what became of them
# make test    every check and test
# make soak    kill a thousand clients of each app in the middle of their uploads
# make serve   the S3 server and both apps, until Ctrl-C
# make lock    pin the dependencies anew (needs uv)
#
# UPLOAD_S3 chooses the S3 server of demo and serve: moto (default), rclone, swift, or the URL of one that runs already.
# Needs Python 3.13 or newer; name one with PYTHON=… if it is not found.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help demo serve test lint unit processes contract faults soak lock clean
.SILENT:

help:
	sed -n 's/^# \(make .*\)/  \1/p' Makefile

demo: $(READY)
	exec $(BIN)/python -m demo

serve: $(READY)
	exec $(BIN)/python -m demo.serve

test: lint unit processes contract faults

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	file=$$(mktemp -u) && COVERAGE_FILE=$$file $(BIN)/pytest tests/unit --cov --cov-fail-under=100; \
	status=$$?; rm -f $$file; exit $$status

# On three stores that differ (tests/contract/store_differences.py); the crowd is large on one of them, and what the
# description says of the apps does not depend on the store. Swift, the most like S3 and the slowest, gets the tests that
# ask most of a store; it passes the others too.
contract: $(READY)
	$(BIN)/pytest tests/contract --store moto -n 2 --dist worksteal
	$(BIN)/pytest tests/contract --store rclone -n 2 --dist worksteal --at-once 10 --ignore tests/contract/test_openapi.py
	$(BIN)/pytest tests/contract/test_stores.py tests/contract/test_grid.py tests/contract/test_objects.py --store swift \
	  -n 2 --dist worksteal

# These two wait more than they work: for processes to start, for timeouts, for a slow store.
processes: $(READY)
	$(BIN)/pytest tests/processes -n 2 --dist loadfile

faults: $(READY)
	$(BIN)/pytest tests/faults -n 3 --dist loadfile

soak: $(READY)
	$(BIN)/pytest tests/faults/test_kills.py --kills 500

lock:
	command -v uv >/dev/null || { echo "make lock needs uv on the PATH" >&2; exit 1; }
	uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --extra test --unsafe-package=handoff pyproject.toml -o requirements.lock

# One environment, made once: again when the pins change.
$(READY): requirements.lock pyproject.toml
	python= ; seen= ; \
	for candidate in $(PYTHON) python3.13 python3 python3.14 python; do \
	  version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  seen="$$seen $$candidate=$$version"; \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "handoff needs Python 3.13 or newer; found:$${seen:- none}. Name one: make PYTHON=/path/to/python3.13 …" >&2; exit 1; \
	fi; \
	echo "Making the environment in $(VENV) with $$($$python --version), once; this takes a minute."; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV) || { echo "$$python cannot make an environment: install its venv module (Debian: python3-venv)" >&2; exit 1; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . || \
	{ echo "the dependencies could not be installed: see above" >&2; exit 1; }; \
	touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .coverage
