"""How fast the commands are: what they cost by their shapes, and what they take on this machine."""
