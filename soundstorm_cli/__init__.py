"""The `soundstorm` command: one thin module a subcommand."""
