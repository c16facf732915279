"""Import and export: streams of any number of leads, which are continued if they end early."""

import time
import uuid
from collections.abc import Iterator

import grpc
from leadsd.v1 import export_pb2, leads_service_pb2 as pb, leads_service_pb2_grpc, search_pb2

from failure import Failure

Metadata = tuple[tuple[str, str], ...]


def import_rows(
    leads: leads_service_pb2_grpc.LeadsServiceStub,
    metadata: Metadata,
    rows: dict[str, pb.LeadCreate],
) -> dict[str, pb.ImportResult]:
    """Creates a lead for each row; returns one result per key. A stream that breaks or ends early is
    continued with the rows that have no result: with the same import_id, no lead is created twice."""
    settings = pb.ImportSettings(import_id=str(uuid.uuid4()))
    results = {}

    def requests() -> Iterator[pb.ImportLeadsRequest]:
        yield pb.ImportLeadsRequest(settings=settings)
        for key, lead in rows.items():
            if key not in results:
                yield pb.ImportLeadsRequest(row=pb.ImportRow(key=key, create=lead))

    for _ in range(10):
        try:
            # gRPC reads the rows in a thread, while results are read here.
            for message in leads.ImportLeads(requests(), metadata=metadata):
                if message.WhichOneof("content") == "result":
                    results[message.result.key] = message.result
                elif message.summary.complete:
                    return results
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        time.sleep(1)
    raise AssertionError("the import does not end")


def export_ids(
    leads: leads_service_pb2_grpc.LeadsServiceStub, metadata: Metadata, word: str
) -> list[str]:
    """Ids of all leads with a word in their name. The token of each message continues a stream that
    breaks or ends early, at any replica."""
    contains = search_pb2.Filter(
        property_name="hs_lead_name",
        operator=search_pb2.FilterOperator.FILTER_OPERATOR_CONTAINS_TOKEN,
        value=word,
    )
    request = export_pb2.ExportLeadsRequest(
        filter_groups=[search_pb2.FilterGroup(filters=[contains])], properties=["hs_lead_name"]
    )
    ids = []
    for _ in range(10):
        try:
            for message in leads.ExportLeads(request, metadata=metadata):
                ids += [lead.id for lead in message.leads]
                request.resume_token = message.resume_token
                if message.complete:
                    return ids
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
        time.sleep(1)
    raise AssertionError("the export does not end")


def transfer(
    leads: leads_service_pb2_grpc.LeadsServiceStub, metadata: Metadata, contact: str, word: str
) -> None:
    """Imports rows, one of which is invalid, and exports what was created."""
    labels = {"row-1": "HOT", "row-2": "BOILING", "row-3": "COLD"}
    rows = {
        key: pb.LeadCreate(
            properties={"hs_lead_name": f"{key} of {word}", "hs_lead_label": label},
            primary_contact_id=contact,
        )
        for key, label in labels.items()
    }
    results = import_rows(leads, metadata, rows)
    assert results.keys() == rows.keys(), results
    failure = Failure.of(results["row-2"].error)
    assert failure.reason == "VALIDATION_FAILED", failure
    created = {results[key].lead.id for key in ("row-1", "row-3")}
    exported = export_ids(leads, metadata, word)
    assert len(exported) == len(set(exported)) and created <= set(exported), (created, exported)
    print(f"imported {len(created)} of {len(rows)} rows, exported {len(exported)} leads")
