"""Pure generators: bytes from parameters, the same bytes for the same parameters in every process."""
