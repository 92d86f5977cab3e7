"""What the settings of decoding are worth: one model, the same utterances, many settings."""
