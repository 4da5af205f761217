"""What the core asks of the outside world: small protocols, implemented by adapters."""
