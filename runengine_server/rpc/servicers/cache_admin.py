"""The CacheAdminService, none of whose RPCs is built yet."""

from runengine_client.pb.runengine.v1 import cache_pb2_grpc


class CacheAdminServicer(cache_pb2_grpc.CacheAdminServiceServicer):
    """Registered so that its RPCs need a token and a scope like any other; `not_built` refuses them all."""
