"""Semantic tokens: encoders, k-means over their frames, and rates."""
