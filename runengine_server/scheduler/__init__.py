"""Leases ready steps, runs attempts and commits what they return."""
