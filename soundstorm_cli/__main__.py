"""`python -m soundstorm_cli`."""

from soundstorm_cli.main import run

run()
