"""Everything that turns speech into frames for k-means."""
