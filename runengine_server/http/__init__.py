"""The HTTP surface: JSON, event streams and pages for browsers, over the same calls as gRPC."""
