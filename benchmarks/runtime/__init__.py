"""The paper's Figure 3: how long each method takes to make sound, and what that costs in steps,
arithmetic and memory traffic (`docs/benchmarks.md`)."""
