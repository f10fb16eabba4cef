# make lab    set up and open the course in JupyterLab        make test     every check, as CI runs it
# make report the whole course, run headless, as HTML         make install  only the set-up; a second run takes seconds
# make site   the course and a live decoding lab as static pages
# make preflight  the same and more, before a session: student notebooks, links, versions, barriers, the cost card
# All work without the Hugging Face Hub and without code hosts: Python 3.11+ and a package registry are enough.

# The first interpreter that runs (a pyenv shim may not) and is new enough; or: make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
JOBS ?= 2
# For a machine without a screen: make lab JUPYTER_FLAGS="--no-browser --allow-root"
JUPYTER_FLAGS ?=
# The long ones first, so that no process waits for the other at the end.
NOTEBOOKS = $(shell ls -S solutions/*.ipynb) $(shell ls -S notebooks/*.ipynb)
# Results of tests go to a folder of their own; with JOBS processes at once, one thread each. Some machines keep no compiled
# modules: here they are kept. bitsandbytes asks for a compiler when it is imported, a second in every process; `test-hub`
# lets it.
PARALLEL = -n $(JOBS) --maxschedchunk 1
TESTING = PYTHONDONTWRITEBYTECODE= TORCHDYNAMO_DISABLE=1 OMP_NUM_THREADS=1 LAB_PROFILE=smoke LAB_HOME=$(CURDIR)/build/test

.PHONY: install lab test lint ruff test-unit test-slow test-all-unit test-long test-notebooks test-students test-browser \
	browser-packages test-floors test-latest test-hub test-hub-solutions test-device attack classic strip release-check \
	badges push-badges report preflight site picture bench clean
.DEFAULT_GOAL := lab

install: .venv/installed

# By uv with pip's settings, else by pip (.ci/install.py). Then the modules are compiled on all cores: but those of tests,
# and those of which a notebook imports one in a hundred, which are compiled when they are. (Some files are no Python.)
# torch is pinned without a local version: 2.13.0+cpu satisfies ==2.13.0 and outranks 2.13.0, so that a CPU build is taken
# where the registry has one. In Colab and Kaggle the notebooks install labkit alone and never touch torch.
PINNED = --quiet --constraint constraints.txt --editable
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found → install one, or make PYTHON=/path/to/python"; exit 2; }
	@echo "1/3 a virtual environment in .venv, by $(PYTHON)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "2/3 the pinned packages"
	@$(BIN)/python .ci/install.py $(PINNED) '.[lab,dev]'
	@echo "3/3 compiling them, so that the first import is fast"
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests|transformers/models|plotly/graph_objs)/' .venv/lib || true
	@touch $@

# What this machine can do is shown once: the first cell of every notebook shows it, too.
lab: .venv/doctor
	$(BIN)/jupyter lab $(JUPYTER_FLAGS) notebooks/0_setup.ipynb

.venv/doctor: .venv/installed
	$(BIN)/labkit doctor
	@touch $@

# Every notebook once from end to end: as handed out on the stand-ins, and solved on the loopback Hub. `make test-notebooks`
# and `make test-hub` run all of them on either.
# One after the other: side by side the last three gain half a minute, and a page that waits for a core fails.
test: lint test-all-unit test-students test-hub-solutions test-browser

lint: install ruff
	$(BIN)/lint-imports --no-cache

ruff: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-unit: install
	$(TESTING) $(BIN)/python -m pytest $(PARALLEL) -m 'not slow' tests/unit

# Both at once, as `make test` does: no process waits twice for the other.
test-all-unit: install
	$(TESTING) $(BIN)/python -m pytest $(PARALLEL) -m 'not long' tests/unit

# Ten seconds to two minutes each: all mutants of all solutions, twenty kills, two processes, the memory of a process …
test-long: install
	$(TESTING) $(BIN)/python -m pytest $(PARALLEL) -m long tests/unit

# Runs that are killed, measured from outside, or made of two processes: a quarter to half a minute each.
test-slow: install
	$(TESTING) $(BIN)/python -m pytest $(PARALLEL) -m 'slow and not long' tests/unit

test-notebooks: install
	rm -rf build/test
	$(TESTING) $(BIN)/python -m pytest $(PARALLEL) --nbmake --nbmake-timeout=600 $(NOTEBOOKS)

# Kernels that are forks of one process, which has imported torch and what else is not ours: eight seconds less for each.
WARM = $(BIN)/python tests/support/warm_kernels.py

# On the smallest stand-in: that every cell runs is asked here. A workflow runs `test-notebooks` on the one that students
# get, with kernels as students have them.
test-students: install
	rm -rf build/test
	$(TESTING) LAB_MODEL=mini-pythia-500k $(WARM) $(BIN)/python -m pytest $(PARALLEL) --nbmake --nbmake-timeout=600 $(filter notebooks/%,$(NOTEBOOKS))

# Notebook 1 in JupyterLab, driven in Debian's Chromium; screenshots in build/browser. Without Chromium it says so and skips.
CHROMIUM = command -v chromium || command -v chromium-browser || command -v google-chrome
test-browser: browser-packages
	@$(CHROMIUM) || { echo "test-browser skipped: no Chromium → apt install chromium"; exit 0; }; \
	$(BIN)/python -c 'import playwright' || { echo "test-browser skipped: no playwright"; exit 0; }; \
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(WARM) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -rs tests/browser

browser-packages: install
	@{ $(CHROMIUM); } >/dev/null || exit 0; \
	$(BIN)/python -c 'import playwright' 2>/dev/null || \
		$(BIN)/python .ci/install.py $(PINNED) '.[browser,site]' || \
		$(BIN)/python .ci/install.py $(PINNED) '.[browser]' || \
		{ echo "playwright cannot be installed"; exit 0; }; \
	$(SITE_PACKAGES) || echo "the site is not tested: its packages cannot be installed"

# The classic notebook with ipywidgets 7.7 and anywidget 0.9, which is what Colab has, for `make test-browser`; all else is
# taken from .venv. Without it that test says so and skips.
classic: .venv-classic/installed

.venv-classic/installed: .venv/installed
	test -x .venv-classic/bin/pip || $(BIN)/python -m venv .venv-classic
	.venv-classic/bin/python -m pip install --quiet "notebook<7" ipywidgets==7.7.1 anywidget==0.9.21
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$(.venv-classic/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lab.pth
	@touch $@

# Every notebook with nothing of the stand-ins: pythia-70m's shape and MultiWOZ's layout, from a Hub on the loopback
# address. Figures: build/hub/measured.json.
test-hub: install
	PYTHONDONTWRITEBYTECODE= $(BIN)/python tests/hub/run.py

# With a shorter train split, which no cell of these sizes looks at, and narrow layers; a workflow runs `test-hub`.
test-hub-solutions: install
	PYTHONDONTWRITEBYTECODE= HUB_TRAIN=300 HUB_WIDTH=64 HUB_WARM=1 $(BIN)/python tests/hub/run.py $(filter solutions/%,$(NOTEBOOKS))

# On a machine with a GPU, in under 8 minutes on one card: kernels, families, memory plan, speeds, resume, notebooks; the
# table at the end is for labkit/course/results.md. It installs nothing: there the torch must be the one for the card.
# Elsewhere every test skips and says why. DEVICE_PYTHON names the Python that has that torch.
DEVICE_PYTHON ?= $(shell for p in $(BIN)/python python3; do \
	$$p -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null && echo $$p && break; done)
test-device:
	PYTHONDONTWRITEBYTECODE= PYTHONPATH=$(CURDIR) LAB_HOME=$(CURDIR)/build/device/results \
		$(or $(DEVICE_PYTHON),$(wildcard $(BIN)/python),python3) -m pytest -rs tests/device

# Unit tests and notebooks on the oldest versions that pyproject.toml allows, which is what Colab has.
test-floors: .venv-floors/installed
	$(TESTING) .venv-floors/bin/python -m pytest $(PARALLEL) tests/unit
	$(TESTING) .venv-floors/bin/python -m pytest $(PARALLEL) --nbmake --nbmake-timeout=600 $(NOTEBOOKS)

.venv-floors/installed: pyproject.toml tests/floors.txt
	test -x .venv-floors/bin/pip || $(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --constraint tests/floors.txt --editable '.[lab,dev]'
	@touch $@

# Every bad input of tests/support/attacks, with a table; Linux and macOS. Not a part of `make test`: it takes minutes.
attack: install
	LAB_ATTACK=1 $(TESTING) $(BIN)/python -m pytest -m slow tests/unit/whole/test_attack.py
	PYTHONPATH=tests/support $(BIN)/python tests/support/attack.py

# The newest releases within the ranges of pyproject.toml, no pins, in an environment of their own, which is made anew.
test-latest:
	rm -rf .venv-latest
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[lab,dev]'
	.venv-latest/bin/python -m pip freeze --exclude-editable | grep -vixFf constraints.txt || true # what has moved
	$(TESTING) .venv-latest/bin/python -m pytest $(PARALLEL) tests/unit
	$(TESTING) .venv-latest/bin/python -m pytest $(PARALLEL) --nbmake --nbmake-timeout=600 $(NOTEBOOKS)

# Sources and student notebooks without outputs, counts and widget state; fails where it had to take some out.
strip: install
	$(BIN)/python -m labkit.course.strip solutions/*.ipynb notebooks/*.ipynb

release-check: install
	$(BIN)/labkit release --check

# Where this clone is hosted: make badges REPOSITORY=owner/name REF=main. On GitHub a workflow does both, also on forks.
REPOSITORY ?=
REF ?= main
badges: install
	@test -n "$(REPOSITORY)" || { echo "make badges REPOSITORY=owner/name"; exit 2; }
	$(BIN)/labkit release --repository "$(REPOSITORY)" --ref "$(REF)"

push-badges:
	git diff --quiet || { \
	git -c user.name="badges" -c user.email="badges@users.noreply.github.com" \
		commit --all --message "The notebooks know where they are hosted" && git push; }

report: install
	$(BIN)/labkit preflight --html report

# Before a session, on a quiet machine: every notebook, solved and as given out, and the cost card in the README.
PROFILES ?= smoke cpu
preflight: install
	$(BIN)/labkit preflight --html build/preflight --profiles $(PROFILES) --students --cost

# The course as static pages in build/site, with the decoding lab and a model in it: no server and no network to read it.
# The notebooks are run once, in smoke, and again when one of them or labkit changes; EXECUTED= shows them without outputs.
EXECUTED ?= build/executed
site: install $(if $(EXECUTED),$(EXECUTED)/index.html)
	$(SITE_PACKAGES)
	$(BIN)/labkit site --out build/site $(if $(EXECUTED),--executed $(EXECUTED))

build/executed/index.html: $(wildcard solutions/*.ipynb labkit/*.py labkit/*/*.py labkit/*/*/*.py) | install
	$(BIN)/labkit preflight --html build/executed --profiles smoke

SITE_PACKAGES = $(BIN)/python -c 'import sphinx_book_theme, myst_nb' 2>/dev/null || \
	$(BIN)/python .ci/install.py $(PINNED) '.[site]'

# The README's picture of the decoding lab, taken anew by its browser test; needs Chromium.
picture: install
	LAB_PICTURE=1 $(BIN)/python -m pytest -rs tests/browser/test_live_page.py -k picture

bench: install
	$(BIN)/labkit bench

clean:
	rm -rf build report .venv-floors .venv-latest
