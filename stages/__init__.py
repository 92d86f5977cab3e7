"""The stages of the SoundStorm pipeline; each sub-package is one idea (see docs/)."""
