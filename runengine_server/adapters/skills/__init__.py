"""The skill port over gRPC, in this process, and over several targets at once."""
