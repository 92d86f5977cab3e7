"""Analysis by synthesis: units chosen for how a recording sounds when they are spoken."""
