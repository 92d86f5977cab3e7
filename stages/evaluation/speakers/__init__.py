"""Voices as vectors: one SpeakerEncoder interface; Resemblyzer and WavLM x-vectors behind it."""
