"""What measures speed, and never asserts it."""
