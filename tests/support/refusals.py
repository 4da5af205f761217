"""Raw calls without the client library, and what their refusals say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from runengine_client.pb.runengine.v1 import cache_pb2_grpc, run_engine_pb2_grpc, workflow_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class RawApi:
    """Blocking stubs of every service over one channel."""

    engine: run_engine_pb2_grpc.RunEngineStub
    registry: workflow_pb2_grpc.WorkflowRegistryServiceStub
    cache: cache_pb2_grpc.CacheAdminServiceStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A refused call: its status and the details of its google.rpc.Status."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    violations: dict[str, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    retry_after_s: float | None = None

    def expect(self, code: grpc.StatusCode, reason: str, *words: str) -> None:
        """It has this code and reason, comes from RunEngine, and its message has all of the words."""
        assert (self.code, self.reason, self.domain) == (code, reason, "runengine.v1"), self
        for word in words:
            assert word in self.message, (word, self.message)


@contextmanager
def raw_api(target: str) -> Iterator[RawApi]:
    """Blocking stubs for a server, on a channel that is closed at the end."""
    with grpc.insecure_channel(target) as channel:
        yield RawApi(
            engine=run_engine_pb2_grpc.RunEngineStub(channel),
            registry=workflow_pb2_grpc.WorkflowRegistryServiceStub(channel),
            cache=cache_pb2_grpc.CacheAdminServiceStub(channel),
        )


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Call metadata with a token."""
    return (("authorization", f"Bearer {token}"),)


def refusal(call: Callable[..., Any], request: Any, token: str | None) -> Refusal:
    """Make a call that must be refused; a stream is read to its end."""
    with pytest.raises(grpc.RpcError) as caught:
        answer = call(request, metadata=bearer(token) if token is not None else (), timeout=20)
        if isinstance(answer, Iterator):
            list(answer)
    return refusal_of(caught.value)


def refusal_of(error: Any) -> Refusal:
    """What an RpcError says; one without ErrorInfo fails the test."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_s = None
    for packed in status.details:
        for known in (info, bad):
            packed.Unpack(known)
        if packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    return Refusal(
        code=error.code(),
        message=error.details(),
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        violations={each.field: each.description for each in bad.field_violations},
        kinds=frozenset(packed.TypeName().rpartition(".")[2] for packed in status.details),
        retry_after_s=retry_after_s,
    )
