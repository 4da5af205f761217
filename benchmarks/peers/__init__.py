"""Other engines, doing the same work: one program each, which runs in an environment of its own."""
