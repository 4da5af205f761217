"""The hot tier of the step cache on Redis (6.2 or later) or Valkey (7.2 or later)."""

from runengine_server.adapters.valkey.output_cache import ValkeyOutputCache, open_valkey_cache

__all__ = ["ValkeyOutputCache", "open_valkey_cache"]
