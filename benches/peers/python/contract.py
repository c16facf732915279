"""Messages and handlers of LeadsService from a descriptor set.

The descriptor set saves a generator in the benchmark.
"""

import os
import pathlib

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "leadsd.v1.LeadsService"

_descriptors = descriptor_pb2.FileDescriptorSet.FromString(
    pathlib.Path(os.environ["LEADS_DESCRIPTORS"]).read_bytes()
)
_pool = descriptor_pool.DescriptorPool()
for _file in _descriptors.file:
    _pool.Add(_file)
_method = _pool.FindServiceByName(SERVICE).FindMethodByName("GetLead")

GetLeadRequest = message_factory.GetMessageClass(_method.input_type)
GetLeadResponse = message_factory.GetMessageClass(_method.output_type)


def handler(get_lead):
    """Registers `get_lead` as GetLead."""
    method = grpc.unary_unary_rpc_method_handler(
        get_lead,
        request_deserializer=GetLeadRequest.FromString,
        response_serializer=GetLeadResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"GetLead": method})


def status_code(http_status):
    """gRPC code of an HTTP error status."""
    if http_status == 404:
        return grpc.StatusCode.NOT_FOUND
    if http_status == 429:
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if http_status >= 500:
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.FAILED_PRECONDITION
