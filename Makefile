# make run: set up and start the app. make test: set up and check everything.
# make check: what a developer runs all day; without the browser and what is slow.
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= python3

.PHONY: run test check setup browser
unexport PYTHONDONTWRITEBYTECODE # or every process would compile all that it imports
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

run: setup
	$(PY) app.py

test: setup browser
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist loadfile

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist loadfile -m "not browser and not slow"

setup: $(VENV)/.installed

# Python compiles what it imports; to compile all that is installed would take longer than to fetch it.
$(VENV)/.installed: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile -r requirements-dev.txt -c constraints.txt
	touch $@

# The page is tested in a real Chromium: the system's if there is one, else the distribution's, else playwright's own build.
browser: setup
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] && S= || S=sudo; $$S apt-get update -qq && $$S apt-get install -y -qq chromium >/dev/null; }; } \
	  || $(PY) -m playwright install chromium
