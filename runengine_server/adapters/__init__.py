"""Implementations of the ports on real technology."""
