"""Error details of a failed call or input, and retries."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

T = TypeVar("T")


@dataclass
class Failure:
    code: int
    message: str
    # Reason from docs/ERRORS.md; empty if the call did not reach leadsd.
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    # Seconds before a retry, if a retry can succeed.
    retry_after: float | None = None

    @classmethod
    def of(cls, status: status_pb2.Status) -> "Failure":
        """Reads the details of an input of a batch, or of a call."""
        failure = cls(status.code, status.message)
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                failure.reason, failure.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(request):
                failure.fields = {v.field: v.description for v in request.field_violations}
            elif detail.Unpack(retry):
                failure.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        return failure

    @classmethod
    def of_call(cls, error: grpc.RpcError) -> "Failure":
        status = rpc_status.from_call(error)
        # Errors that the gRPC library generates have no details.
        return cls.of(status) if status else cls(error.code().value[0], error.details() or "")

    def __str__(self) -> str:
        text = f"{self.code} {self.reason}: {self.message} {self.fields or ''}".rstrip()
        # HubSpot's support asks for this id.
        if correlation_id := self.metadata.get("correlationId"):
            text += f" (HubSpot's id: {correlation_id})"
        return text


def retry(call: Callable[[], T], attempts: int = 5) -> T:
    """Retries a call that is safe to repeat: a read, an update, an upsert, an archive, or a create
    whose repeat leadsd recognizes ("Safe creates" in docs/USING.md). Waits for the stated delay, or
    else with exponential backoff."""
    pause = 0.2
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except grpc.RpcError as error:
            failure = Failure.of_call(error)
            passes = error.code() == grpc.StatusCode.UNAVAILABLE or failure.reason == "OVERLOADED"
            if attempt == attempts or not (passes or failure.retry_after):
                raise
            time.sleep((failure.retry_after or pause) + random.uniform(0, pause))
            pause *= 2
    raise AssertionError("the last attempt returns or raises")
