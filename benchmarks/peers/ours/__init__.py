"""Our side of each comparison, and what both sides are given."""
