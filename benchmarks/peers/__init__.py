"""What people would otherwise install, timed beside ours in the same run (docs/peers.md)."""
