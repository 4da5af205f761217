"""Generated code of the protos under protos/runengine."""
