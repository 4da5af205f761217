"""Authenticators: tokens from a file, JSON Web Tokens of an issuer, anonymous access for development; watch tokens."""
