"""Finding, reading and resampling speech, and the features computed from it."""
