"""The gRPC surface: servicers, conversion, error table, interceptors."""
