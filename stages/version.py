"""The toolkit's version, written into the provenance of all it makes."""

__version__ = "0.1.0"
