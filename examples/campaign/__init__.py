"""The example: a game campaign built from a brief by thirteen skills that make real media files."""
