"""Scores of speech and of models: intelligibility, quality, voice, reconstruction, token loss."""
