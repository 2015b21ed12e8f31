# Mamba-2 Lab. `make` alone says what there is.
#
# Kept to what GNU Make 3.81 (macOS) and a plain sh understand. Everything is installed in .venv, nothing outside it.

MIN_PYTHON  = 3.11
TORCH       = 2.13.0
CONSTRAINTS ?= constraints.txt

# On the command line, when you need them:
#   PYTHON=/path/to/python3.12     the interpreter for .venv
#   PIP_ARGS="--no-cache-dir"      more arguments for pip install
#   LAB_ARGS="--no-browser"        more arguments for JupyterLab
#   VOILA_ARGS="--no-browser"      more arguments for Voilà, which shows the playground; --theme=dark is another
#   CONSTRAINTS=other.txt          other pins than constraints.txt
#   COURSE=folder                  your copies of the notebooks, elsewhere than in my-course/

# Python 3.11 comes first because the pins are tested with it, not because it is the best.
CANDIDATES = $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3.14 python3)
VENV_PYTHON = .venv/bin/python
COURSE ?= my-course
# A process for each core, and a file's tests in one of them. In the order of the folders: the long ones begin first.
IN_PARALLEL = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
SAY = @echo "==>"

.DEFAULT_GOAL := help
.PHONY: help lab again playground test notebooks pins clean
.NOTPARALLEL:

help:
	@echo "Mamba-2 Lab"
	@echo
	@echo "  make lab        install in .venv (the first time), make your copies of the notebooks in $(COURSE)/, open them"
	@echo "  make again      make one notebook anew and keep yours aside: make again CHAPTER=05"
	@echo "  make playground the same, and open the playground alone, as a page without code"
	@echo "  make test       install the test tools too; check style and types, run every notebook and test"
	@echo "  make notebooks  run the notebooks from their sources and write them with their outputs"
	@echo "  make pins       resolve constraints.txt anew from pyproject.toml, with torch $(TORCH)"
	@echo "  make clean      remove .venv and every cache"
	@echo
	@echo "Python $(MIN_PYTHON) or newer is needed; PYTHON=/path/to/python chooses one."

# In a container one is root, and JupyterLab does not start for root unless told that this is meant.
lab: .venv/lab-installed
	@$(VENV_PYTHON) -m mamba2_lab course "$(COURSE)"
	$(SAY) "JupyterLab opens $(COURSE)/00_start_here.ipynb in your browser; Ctrl-C here stops it"
	@as_root=; if [ "`id -u`" = 0 ]; then as_root=--allow-root; fi; \
	exec $(VENV_PYTHON) -m jupyterlab --ServerApp.root_dir="$(COURSE)" $$as_root $(LAB_ARGS) "$(COURSE)/00_start_here.ipynb"

again: .venv/lab-installed
	@test -n "$(CHAPTER)" || { echo "say which notebook, by its number: make again CHAPTER=05" >&2; exit 1; }
	@$(VENV_PYTHON) -m mamba2_lab course "$(COURSE)" --again "$(CHAPTER)"

playground: .venv/lab-installed
	$(SAY) "the playground opens in your browser; Ctrl-C here stops it"
	@$(VENV_PYTHON) -m mamba2_lab.widgets.playground.app $(VOILA_ARGS)

test: .venv/test-installed
	$(SAY) "style: ruff reads the code and the notebooks"
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check
	@failed=; \
	$(VENV_PYTHON) -m mypy >.venv/types.log 2>&1 & types=$$!; \
	echo "==> notebooks: every notebook runs top to bottom, its long trainings shortened"; \
	MAMBA2_LAB_FAST=1 $(VENV_PYTHON) -m pytest $(IN_PARALLEL) --nbmake --nbmake-timeout=600 notebooks || failed=yes; \
	echo "==> types: what mypy, which read the package meanwhile, has to say"; \
	wait $$types || failed=yes; cat .venv/types.log; \
	echo "==> tests: the package, the environment, the notebooks as they are stored"; \
	$(VENV_PYTHON) -m pytest $(IN_PARALLEL) || failed=yes; \
	test -z "$$failed"  # all have run, so that one look shows everything that is wrong

notebooks: .venv/test-installed
	$(SAY) "notebooks: run from notebooks/source, written with their outputs"
	@$(VENV_PYTHON) notebooks/build.py

# What torch itself pins to the last digit (CUDA libraries, triton) is left to torch: builds of the same version for
# other CUDA releases want other libraries, and a pin here would forbid them.
pins: $(VENV_PYTHON)
	$(SAY) "pins: uv resolves pyproject.toml for every platform"
	@$(VENV_PYTHON) -m pip install --quiet uv
	@( echo "# The exact versions that are installed and tested, on every platform and Python. Written by \`make pins\`:"; \
	   echo "#   echo torch==$(TORCH) | uv pip compile --universal --upgrade --all-extras --python-version $(MIN_PYTHON) \\"; \
	   echo "#     --no-header --no-annotate --constraints - pyproject.toml | grep -v -E '^(cuda|nvidia)-|^triton='"; \
	   echo "torch==$(TORCH)" | $(VENV_PYTHON) -m uv pip compile --quiet --universal --upgrade --all-extras \
	      --python-version $(MIN_PYTHON) --no-header --no-annotate --constraints - pyproject.toml \
	      | grep -v -E '^(cuda|nvidia)-|^triton=' ) > .venv/pins
	@grep -q '^torch==$(TORCH)' .venv/pins
	@mv .venv/pins constraints.txt

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -prune -exec rm -rf {} +

# The files *-installed mark what .venv holds, so that the next run starts at once; they fall out of date with the
# two files that say what belongs there. An install that was cut short leaves no mark and is taken up again.
.venv/lab-installed: $(VENV_PYTHON) pyproject.toml $(CONSTRAINTS)
	$(SAY) "install the course in .venv (some minutes, once)"
	@$(VENV_PYTHON) -m pip install --constraint $(CONSTRAINTS) --editable '.[lab]' $(PIP_ARGS)
	@touch $@

.venv/test-installed: $(VENV_PYTHON) pyproject.toml $(CONSTRAINTS)
	$(SAY) "install the course and its test tools in .venv (some minutes, once)"
	@$(VENV_PYTHON) -m pip install --constraint $(CONSTRAINTS) --editable '.[lab,test]' $(PIP_ARGS)
	@touch $@ .venv/lab-installed

# The first candidate that runs, is new enough and can make an environment. That a name is on the PATH proves nothing:
# pyenv leaves shims for versions that are not active, and they fail when run. Nothing is created before one is found.
$(VENV_PYTHON):
	@seen=; \
	for python in $(CANDIDATES); do \
	    version=`"$$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null`; \
	    if [ -z "$$version" ]; then \
	        seen="$$seen  $$python is not there, or does not run\n"; \
	    elif ! "$$python" -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MIN_PYTHON)".split("."))))'; then \
	        seen="$$seen  $$python is $$version\n"; \
	    elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        seen="$$seen  $$python is $$version, but without the venv module\n"; \
	    else \
	        echo "==> create .venv with $$python ($$version)"; \
	        exec "$$python" -m venv .venv; \
	    fi; \
	done; \
	{ echo "Mamba-2 Lab needs Python $(MIN_PYTHON) or newer, and none of these will do:"; \
	  printf '%b' "$$seen"; \
	  echo "Get one from https://www.python.org/downloads/, or with"; \
	  echo "  macOS           brew install python@$(MIN_PYTHON)"; \
	  echo "  Debian, Ubuntu  sudo apt install python3 python3-venv"; \
	  echo "  conda           conda create -n python-$(MIN_PYTHON) python=$(MIN_PYTHON)"; \
	  echo "and run make again. PYTHON=/path/to/python names one outright: make lab PYTHON=/opt/bin/python$(MIN_PYTHON)"; \
	} >&2; exit 1
