"""Authenticators that need no other service: tokens from a file, and anonymous access for development."""
