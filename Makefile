# Two commands for people (install, up) and what CI runs. Stamps in .venv make a second `make up` start at once.
PYTHON ?= python3
BIN := .venv/bin
NAME ?=
ARGS ?=
DATA ?=
SCORES ?=
MINUTES ?=
SEED ?=
BROKER ?=
MUTATION ?=
SECONDS ?=

.PHONY: help install up test lint types contracts wheel docs bench chaos soak fuzz clean

help:
	@echo "make install    a virtual environment in .venv with everything in it"
	@echo "make up         install, then run the whole product here; ARGS='--data DIR --port N' are passed on"
	@echo "make test       all tests; ARGS='tests/unit -k spool' chooses"
	@echo "make lint | types | contracts | wheel | docs    the other checks of CI"
	@echo "make bench      list the benchmarks; make bench NAME=ingest runs one"
	@echo "                NAME=anomaly DATA=folder SCORES=folder scores labelled series"
	@echo "make chaos      kill and stop everything for three minutes, and prove that nothing is lost or doubled;"
	@echo "                MINUTES=60, SEED=1, BROKER=nats|mosquitto|cluster, MUTATION=trim|dedup"
	@echo "make soak       the whole product under load, MINUTES=60: memory of every process, judged by its slope"
	@echo "make fuzz       atheris against every entry point of the wire, SECONDS=60, SEED=1"
	@echo "make clean      remove .venv and everything built"

install: .venv/.installed
up: .venv/.installed
	@exec $(BIN)/drumbeat up $(ARGS)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "drumbeat needs Python 3.11 or newer; choose one with make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "no virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }

.venv/.installed: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.installed

test: .venv/.dev
	$(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

contracts: .venv/.dev
	$(BIN)/lint-imports

wheel: .venv/.dev
	$(BIN)/python .ci/check_wheel.py

docs: .venv/.dev
	$(BIN)/python .ci/check_documents.py

bench: .venv/.dev
	$(BIN)/python tests/bench/run.py $(NAME) $(if $(DATA),data=$(DATA)) $(if $(SCORES),scores=$(SCORES)) $(ARGS)

chaos: .venv/.dev
	$(BIN)/python tests/chaos/suite.py minutes=$(MINUTES) seed=$(SEED) broker=$(BROKER) mutation=$(MUTATION)

soak: .venv/.dev
	$(BIN)/python tests/bench/run.py soak $(if $(MINUTES),minutes=$(MINUTES)) $(ARGS)

fuzz: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python tests/fuzz/wire.py seconds=$(SECONDS) seed=$(SEED)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
