"""PostgreSQL and Valkey as private child processes, for a single machine, development and tests.

    with start_embedded(None) as stack:
        ...  # stack.database_url, stack.redis_url

Pure standard library, so it can be imported and used before grpc and before any event loop.
"""

from runengine_server.adapters.embedded.errors import EmbeddedError
from runengine_server.adapters.embedded.postgres import RunningPostgres, start_postgres
from runengine_server.adapters.embedded.stack import EmbeddedStack, start_embedded
from runengine_server.adapters.embedded.valkey import RunningValkey, start_valkey

__all__ = [
    "EmbeddedError",
    "EmbeddedStack",
    "RunningPostgres",
    "RunningValkey",
    "start_embedded",
    "start_postgres",
    "start_valkey",
]
