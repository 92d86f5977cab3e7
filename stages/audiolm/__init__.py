"""AudioLM's three stages (Borsos et al., 2023): what speaks first, and SoundStorm's baseline."""
