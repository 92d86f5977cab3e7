"""The networks that all models share, and the files they are kept in."""
