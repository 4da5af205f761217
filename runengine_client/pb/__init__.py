"""Generated protobuf and gRPC code; only the client, rpc, http and the gRPC skill adapter import it."""
