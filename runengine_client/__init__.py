"""Typed client of RunEngine: starts, watches and rebuilds runs."""
