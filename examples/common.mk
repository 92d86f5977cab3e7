# What every recipe here has: a shell that stops at the first failure, also within a pipe, and the
# command to run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

SOUNDSTORM ?= soundstorm
EVAL ?=
