"""One use case a file; every surface (gRPC, HTTP) goes through here."""
