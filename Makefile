# make demo    send real files through every hand-off of both apps, on an embedded S3 server, and print what became of them
# make test    every check and test
# make docs    the documentation as a site in build/docs, with every link checked
# make contract-all  the contract, whole, on all three stores or on one (STORES=moto)
# make faults  the tests of broken clients, stores and processes, whole
# make waiting-all  the same, and the tests of processes, of tus clients, of the benchmark and of the fuzzer, whole
# make contract-uvicorn  the contract, the faults and the end of the process, with the Quart app on uvicorn
# make contract-nginx  the contract and the kill tests, with nginx and TLS in front of both apps (needs Debian's nginx-light)
# make browser the page at / and the clients of docs/clients.md in Chromium (`apt-get install chromium npm`): one test of each kind
# make browser-all  the tests in Chromium, whole; screenshots in build/browser
# make tus-all cut the connections of other people's tus clients 200 times each, on each app (ROUNDS=200); kill each app 20 times for each
# make soak    kill a thousand clients, half a minute of ten times the load, restart each app a hundred times under load
# make memory  half an hour of mixed load on both apps, and how much memory each holds, minute by minute (MINUTES=30)
# make soak-hour  an hour of uploads, downloads and killed clients on a store that comes and goes (MINUTES=60)
# make faults-table  break the store in every way, on every call of an upload, and write what became of it (twenty minutes)
# make evidence  everything above and below again on this commit, and docs/evidence.md (STAGES="demo soak"; many hours)
# make loads   how much memory uploads take of a slow store, and what slow clients cost others (five minutes)
# make nox     the explainer's tests on the oldest and the newest frameworks (SESSIONS=oldest_quart)
# make fuzz    fuzz the core by coverage, on from where it ended (MINUTES=10, or RUNS=… of each target; TARGETS, JOBS=2)
# make serve   the S3 server and both apps, until Ctrl-C
# make bench   measure uploads in the apps and their peers, and write a report: 10 to 15 minutes
# make bench-full   measure everything and write a report: many hours
# make bench-smoke  test the benchmark, in about a minute
# make matrix  run each cause and fix on many versions of the frameworks, and write docs/matrix.md (many minutes)
# make pythons the unit tests, and the contract on moto, on every Python from 3.11 on that is present
# make release build the wheel, the source distribution and the bill of materials in build/release/dist, and check them
# make lock    update the pinned dependencies (needs uv)
#
# UPLOAD_S3 selects the S3 server of demo and serve: moto (default), rclone, swift, or the URL of a running one.
# Needs Python 3.11 or newer, and takes the newest that it finds; PYTHON=… names another one.

VENV := .venv
PYTHONS := $(addprefix python3.,15 14 13 12 11)
BIN := $(VENV)/bin
# loading schemathesis takes each process two seconds, and only one test file needs it
PYTEST := $(BIN)/pytest --maxfail 10 -p no:schemathesis
READY := $(VENV)/ready
# some images set it: then each of some 300 processes of the tests compiles our modules again
unexport PYTHONDONTWRITEBYTECODE
# two targets at once, because one leaves a core idle; each prints its output at its end
TWO_AT_ONCE := $(MAKE) --no-print-directory -j 2 $(if $(filter 3.%,$(MAKE_VERSION)),,--output-sync=target)
OF_A_STORE := $(addprefix tests/contract/test_,stores.py grid.py presigned.py)

ENDS := tests/processes/test_servers.py tests/faults

.PHONY: help demo serve test lint unit docs contract contract-moto contract-rclone contract-swift contract-all contract-uvicorn
.PHONY: browser browser-all processes tus-all faults faults-table waiting waiting-all soak soak-hour memory
.PHONY: evidence loads nox
.PHONY: contract-nginx fuzz
.PHONY: bench bench-full bench-smoke matrix pythons release lock clean
.SILENT:
# without its bytecode, each of some hundred processes would compile the packages anew
unexport PYTHONDONTWRITEBYTECODE

help:
	sed -n 's/^# \(make .*\)/  \1/p' Makefile

demo: $(READY)
	exec $(BIN)/python -m demo

serve: $(READY)
	exec $(BIN)/python -m demo.serve

test: $(READY)
	$(TWO_AT_ONCE) lint unit docs
	$(TWO_AT_ONCE) waiting contract-moto contract-rclone contract-swift browser

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') quart_app/request.py

# whole on Python 3.12 and newer; 3.11 lacks sys.monitoring, which filehandoff/explain/raising.py uses
unit: $(READY)
	file=$$(mktemp -u) && COVERAGE_FILE=$$file $(PYTEST) tests/unit -n 2 --cov \
	  --cov-fail-under=$$($(BIN)/python -c 'import sys; print(100 if hasattr(sys, "monitoring") else 99)'); \
	status=$$?; rm -f $$file; exit $$status

docs: $(READY)
	rm -rf build/docs
	$(BIN)/sphinx-build -W -q docs build/docs
	$(PYTEST) tests/docs

# On three stores that differ (tests/contract/store_differences.py): all of it on one, and on the others the tests that ask
# most of a store, the grid by one hook. They pass the rest too, for which `make test` has no time.
contract:
	$(MAKE) --no-print-directory contract-moto
	$(TWO_AT_ONCE) contract-rclone contract-swift

contract-rclone contract-swift: contract-%: $(READY)
	$(PYTEST) $(OF_A_STORE) --store $* -k "not test_each_cell or bound"

# Each interpreter has an environment of its own. A pyenv shim of a version that is not selected does not run, so pyenv's
# own folders are looked at too.
pythons:
	pyenv=$${PYENV_ROOT:-$$HOME/.pyenv}/versions; \
	for version in $(PYTHONS:python%=%); do \
	  for python in python$$version $$pyenv/$$version.*/bin/python; do \
	    $$python -c '' 2>/dev/null || continue; \
	    echo "On $$($$python --version), $$python:"; \
	    $(MAKE) --no-print-directory PYTHON=$$python VENV=.venv-$$version unit contract-moto || exit 1; \
	    break; \
	  done; \
	done

contract-moto: $(READY)
	$(BIN)/pytest --maxfail 10 tests/contract --store moto -n 2 --dist worksteal

contract-all: $(READY)
	for store in $(or $(STORES),moto rclone swift); do $(BIN)/pytest tests/contract --thorough --store $$store -n 2 --dist worksteal || exit 1; done

contract-uvicorn: $(READY)
	UPLOAD_QUART_SERVER=uvicorn $(BIN)/pytest tests/contract --store moto -n 2 --dist worksteal
	UPLOAD_QUART_SERVER=uvicorn $(PYTEST) $(ENDS) -n 2 --dist loadfile

# without the requests that nginx answers itself, the pages on the apps' own addresses, and the count of bytes that arrived
# before a cut: nginx drops those that it has not passed on
contract-nginx: $(READY)
	$(PYTEST) tests/contract --store moto --nginx -n 2 --dist worksteal -k "not openapi and not a_page_of_the_app and not cut_patch and not after_a_cut and not NUL"
	$(PYTEST) $(addprefix tests/faults/test_,restarts.py kills.py) tests/processes/test_nginx.py --thorough -k nginx -n 2 --dist worksteal

# four workers on two cores: these tests mostly wait, for processes, timeouts and a slow store
WAITING = $(PYTEST) $(addprefix tests/,faults bench processes resuming fuzz) -n 4 --dist loadfile --no-loadscope-reorder
waiting: $(READY)
	$(WAITING)

waiting-all: $(READY)
	$(WAITING) --thorough

processes: $(READY)
	$(PYTEST) tests/processes -n 3 --dist worksteal

browser: $(READY)
	$(PYTEST) tests/browser -n 2 --dist loadfile

browser-all: $(READY)
	$(PYTEST) tests/browser --thorough -n 2 --dist loadfile

# six workers on two cores: the clients mostly wait before they try again
tus-all: $(READY)
	$(BIN)/pytest --maxfail 10 tests/contract/test_tus*.py --store moto -n 2 --dist worksteal
	$(PYTEST) tests/resuming --thorough --rounds $(or $(ROUNDS),200) -n 6 --dist worksteal
	$(PYTEST) tests/browser/test_uppy.py -k tus --thorough --rounds $(or $(ROUNDS),200)

faults: $(READY)
	$(PYTEST) tests/faults --thorough -n 4 --dist loadfile --no-loadscope-reorder

faults-table: $(READY)
	PYTHONPATH=tests:. $(BIN)/python -m faults.table

soak: $(READY)
	$(PYTEST) tests/faults/test_kills.py --kills 500
	$(PYTEST) tests/faults/test_overload.py --overload-seconds 30 -rP
	$(PYTEST) tests/faults/test_restarts.py --restarts 100

fuzz: $(READY)
	PYTHONPATH=tests:. exec $(BIN)/python -m fuzz $(if $(RUNS),--runs $(RUNS)) $(if $(MINUTES),--minutes $(MINUTES)) \
	  --jobs $(or $(JOBS),2) $(if $(KEEP),--keep) $(TARGETS)

memory: $(READY)
	PYTHONPATH=tests:. exec $(BIN)/python -m faults.memory --minutes $(or $(MINUTES),30)

soak-hour: $(READY)
	PYTHONPATH=tests:. exec $(BIN)/python -m faults.hour --minutes $(or $(MINUTES),60)

loads: $(READY)
	$(PYTEST) tests/faults/test_slow_store.py -rP
	PYTHONPATH=tests:. $(BIN)/python -m faults.slow_clients

nox: $(READY)
	test -x build/nox/bin/nox || { $(BIN)/python -m venv build/nox && \
	  build/nox/bin/python -m pip install --quiet --disable-pip-version-check "nox>=2025.5"; }
	build/nox/bin/nox $(and $(SESSIONS),--session $(SESSIONS))

# goes on after an interruption; the records and logs are in build/evidence
evidence: $(READY)
	exec $(BIN)/python -m evidence $(STAGES)

bench: $(READY)
	exec $(BIN)/python -m benchmarks run --plan default

bench-full: $(READY)
	exec $(BIN)/python -m benchmarks run --plan full

bench-smoke: $(READY)
	$(PYTEST) tests/bench --thorough -n 2 --dist loadfile

matrix: $(READY)
	exec $(BIN)/python -m matrix

lock:
	command -v uv >/dev/null || { echo "make lock needs uv on the PATH" >&2; exit 1; }
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --no-header --all-extras --group dev --unsafe-package=filehandoff pyproject.toml -o requirements.lock

# Built from the last commit, so that a release holds no other file. The bill of materials is of the wheel with every
# extra, by the pins. The tools have an environment of their own, because no test needs them.
RELEASE := build/release
release: $(READY)
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)/source
	git archive HEAD | tar -x -C $(RELEASE)/source
	$(BIN)/python -m venv $(RELEASE)/tools
	$(RELEASE)/tools/bin/python -m pip install --quiet --disable-pip-version-check build==1.* twine==6.* cyclonedx-bom==7.*
	$(RELEASE)/tools/bin/python -m build --outdir $(RELEASE)/dist $(RELEASE)/source >$(RELEASE)/log
	$(RELEASE)/tools/bin/twine check --strict $(RELEASE)/dist/*
	$(BIN)/python -m venv --without-pip $(RELEASE)/installed
	grep -o '^[A-Za-z0-9._-]*==[^\]*' requirements.lock >$(RELEASE)/pins.txt
	$(BIN)/python -m pip --python $(RELEASE)/installed/bin/python install --quiet --disable-pip-version-check \
	  -c $(RELEASE)/pins.txt "$$(echo $(RELEASE)/dist/*.whl)[flask,quart,uvicorn]"
	$(RELEASE)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library \
	  --output-file $(RELEASE)/dist/bill-of-materials.cdx.json $(RELEASE)/installed
	ls $(RELEASE)/dist

# One environment, rebuilt when the pins change, or when PYTHON names another interpreter than the one it was made with.
INTERPRETER := import os, sys; print(os.path.realpath(sys.base_prefix), "%d.%d.%d" % sys.version_info[:3])
ifdef PYTHON
ifneq ($(shell { $(PYTHON) -c '$(INTERPRETER)'; } 2>/dev/null),$(shell $(BIN)/python -c '$(INTERPRETER)' 2>/dev/null))
$(READY): another-interpreter
endif
endif
.PHONY: another-interpreter

# Of PYTHON, or of the newest interpreter found
$(READY): requirements.lock pyproject.toml
	python= ; seen= ; newest=0; \
	for candidate in $(or $(PYTHON),$(PYTHONS) python3 python); do \
	  version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	  seen="$$seen $$candidate=$$version"; \
	  if [ "$${version%%.*}" = 3 ] && [ "$${version#*.}" -ge 11 ] && [ "$${version#*.}" -gt $$newest ]; then \
	    python=$$candidate; newest=$${version#*.}; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "filehandoff needs Python 3.11 or newer; found:$${seen:- none}. Name one: make PYTHON=/path/to/python3.11 …" >&2; exit 1; \
	fi; \
	echo "Making the environment in $(VENV) with $$($$python --version); this takes a minute."; \
	rm -rf $(VENV); \
	$$python -m venv $(VENV) || { echo "$$python cannot make an environment; install its venv module (Debian: python3-venv)" >&2; exit 1; }; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . || \
	{ echo "cannot install the dependencies; see above" >&2; exit 1; }; \
	touch $(READY)

clean:
	rm -rf $(VENV) .venv-* .nox build *.egg-info .mypy_cache .pytest_cache .ruff_cache .coverage
