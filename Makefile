# Everything a newcomer runs; needs make, git and Python 3.11 or newer. The environment is .venv, pinned by constraints.txt.

PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SMAE := cd demo && ../$(BIN)/smae

.DEFAULT_GOAL := help
.PHONY: help test reliability demo docs lint gpu clean

help:
	@echo "make test         the default tests; all of them with SLOW=1, or where CI is set"
	@echo "make reliability  kills, full disks, damage, hostile files, races: thousands of trials, one table (minutes)"
	@echo "make demo         synthetic recordings -> store -> pre-training -> evaluation -> page, in demo/"
	@echo "make docs         the pages as a site, in build/site"
	@echo "make gpu          tests, timings and a training on the GPU that is here, in gpu-results/ (nine minutes)"
	@echo "make lint         ruff and mypy"
	@echo "make clean        remove .venv and demo/"

# The whole environment is made anew when what it holds is declared anew: no package of an older list stays behind.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found: name one, for example make PYTHON=/path/to/python3.12 test" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# A process for each core: the default tests a file at a time, which keeps what a file's tests share, in their order
# (xdist would put files of few tests last, and those are the long ones); then, where
# they are asked for, the slow ones, each for itself, since a few of them take minutes.
test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
	$(if $(CI)$(SLOW),$(BIN)/python -m pytest -m slow --numprocesses auto --maxprocesses 8 --dist worksteal)

reliability: $(STAMP)
	$(BIN)/python -m pytest tests/reliability

# Without a visible GPU the recipe runs on the CPU, whose numbers repeat to the last bit.
demo: export CUDA_VISIBLE_DEVICES :=
demo: $(STAMP)
	rm -rf demo
	mkdir demo
	$(SMAE) synth ntu
	$(SMAE) prepare --raw ntu/ --out ntu.zarr
	$(SMAE) pretrain --recipe demo
	$(SMAE) eval --protocol xsub
	$(SMAE) report

# The variable silences an advertisement.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "$(CURDIR)/build/site/index.html"

# An environment that takes torch, and what else is there, from GPU_PYTHON: it has the build for this GPU.
# A .pth file, since --system-site-packages would not see what another environment holds.
GPU_PYTHON ?= python3
GPU_OUT ?= gpu-results
gpu:
	@$(GPU_PYTHON) -c 'import torch' || { echo "no torch in $(GPU_PYTHON): name another, make gpu GPU_PYTHON=..." >&2; exit 1; }
	test -d .venv-gpu || $(GPU_PYTHON) -m venv .venv-gpu
	$(GPU_PYTHON) -c 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))' > $$(.venv-gpu/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch-from-outside.pth
	.venv-gpu/bin/python -m pip install --quiet --editable '.[triton]' pytest pytest-timeout hypothesis
	.venv-gpu/bin/python -m benchmarks.gpu --out $(GPU_OUT)

# mypy looks for the import name smae_cli, which only the installed package has; a link in build/ stands for it.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p build/types && ln -sfn ../../cli build/types/smae_cli
	MYPYPATH=build/types $(BIN)/mypy -p smae -p smae_cli

clean:
	rm -rf $(VENV) .venv-gpu demo build
