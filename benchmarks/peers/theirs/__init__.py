"""The peers' side, run by their own environment's Python; it imports nothing of `stages`."""
