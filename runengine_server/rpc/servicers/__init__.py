"""The services of the contract over the use cases: convert, call, convert back; the guard does the rest."""
