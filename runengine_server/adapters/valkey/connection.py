"""Connections to Redis or Valkey that never wait long and never retry by themselves."""

from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

SCHEMES = ("redis", "rediss", "unix")


def connect_lazily(url: str, *, timeout_s: float, connections_max: int) -> Redis:
    """A client of a redis://, rediss:// or unix:// server; connects when first used.

    The library's own defaults block 60 s on a frozen server, and retry. A connection that was cut is noticed and made
    anew when it is next taken from the pool.

    Raises:
        ValueError: another kind of URL; the message does not repeat it, for it may hold a password.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"the hot cache's URL must start with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections_max,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        decode_responses=False,
        protocol=2,
    )
    return Redis.from_pool(pool)
