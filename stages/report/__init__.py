"""One page of all that was measured: tables, figures, sound, claims, and how it was made."""
