"""The `runengine` command: everything the client can do, from a terminal or a script."""
