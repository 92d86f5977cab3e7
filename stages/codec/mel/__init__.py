"""The toolkit's own codec: a residual quantiser over log-mel frames, and vocoders after it."""
