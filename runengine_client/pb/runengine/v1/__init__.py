"""Generated code of the package runengine.v1: the wire contract."""
