# `make help` says what there is.

PRESET ?= sample
DATA   ?=
TEST   ?=
AGAIN  ?=
BEHIND ?=
PYTHON ?=

VENV := .venv
BIN  := $(VENV)/bin
# On a terminal pip shows how far it is; in a log its hundreds of lines would bury ours.
QUIET := $(shell [ -t 2 ] || echo --quiet)

.DEFAULT_GOAL := help
.PHONY: help course test lab ship ideas outputs export clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## */  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

# The first Python that is new enough and can make environments; a shim that leads nowhere fails the try.
define venv
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  py=; for p in $(or $(PYTHON),python3.12 python3.11 python3 python); do \
	    if $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then py=$$p; break; fi; \
	  done; \
	  if [ -z "$$py" ]; then \
	    echo "This needs Python 3.11 or 3.12 with its venv module (on Debian and Ubuntu a package of its own, python3-venv);" >&2; \
	    echo "install it, or say where it is: make ... PYTHON=/path/to/python3.12" >&2; exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$py --version) ..."; $$py -m venv --clear $(VENV); \
	fi
endef

# A stamp is the last thing that is made, so a broken installation leaves none and is tried again.
$(VENV)/.course: pyproject.toml
	$(venv)
	@echo "Installing the course into $(VENV); the first time, that is some minutes and gigabytes ..."
	@$(BIN)/python -m pip install --disable-pip-version-check $(QUIET) -e '.[course]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(venv)
	@echo "Installing the course and its tests into $(VENV); the first time, that is some minutes and gigabytes ..."
	@$(BIN)/python -m pip install --disable-pip-version-check $(QUIET) -e '.[dev]'
	@touch $@ $(VENV)/.course

course: $(VENV)/.course ## run the lessons in order. PRESET=article DATA=folder TEST=folder AGAIN=1; BEHIND=1: nbs/behind, too
	@$(BIN)/colourise-course --preset '$(PRESET)' $(if $(DATA),--data '$(DATA)') $(if $(TEST),--test '$(TEST)') $(if $(AGAIN),--again) $(if $(BEHIND),--behind)

test: $(VENV)/.dev ## run all notebooks on the preset `test` from scratch, and all other tests, two at a time
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs

lab: $(VENV)/.course ## open the notebooks in JupyterLab
	@$(BIN)/jupyter-lab nbs

ship: ## put the model of the last course (PRESET=) into the package, with its card
	@cp runs/$(PRESET)/shipped/model.safetensors runs/$(PRESET)/shipped/model-card.md colourise/

ideas: $(VENV)/.dev ## train the pairs of pictures that the lessons show, ten minutes each: DATA=folder TEST=folder, LARGE=folder for 128 px, BODY=file
	@$(BIN)/python tools/ideas.py --data '$(DATA)' --test '$(TEST)' $(if $(LARGE),--large '$(LARGE)') $(if $(BODY),--body '$(BODY)')

outputs: $(VENV)/.dev ## take the outputs of the last course (PRESET=) over into nbs/
	@$(BIN)/python tools/adopt_outputs.py 'runs/$(PRESET)/notebooks'

export: $(VENV)/.dev ## make colourise/, README.md and the page of sliders from the notebooks, and the graphs for ONNX Runtime; clean the notebooks
	@$(BIN)/nbdev-export
	@$(BIN)/nbdev-clean
	@$(BIN)/python tools/export_graph.py
	@$(BIN)/python tools/build_readme.py
	@$(BIN)/python tools/build_sliders.py

clean: ## take away what tests and builds leave behind; data, models and runs stay
	@rm -rf $(VENV)-wheel runs/test runs/test-behind build dist .pytest_cache
