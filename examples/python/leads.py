"""Example client for leadsd in Python. It prints its results and fails if they are unexpected."""

import argparse
import uuid
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from leadsd.v1 import (
    lead_pb2,
    leads_service_pb2 as pb,
    leads_service_pb2_grpc,
    quota_service_pb2,
    quota_service_pb2_grpc,
    search_pb2,
)

from connect import Server
from failure import Failure, retry
from transfer import transfer


class Walk:
    """Client and its state."""

    def __init__(self, server: Server, channel: grpc.Channel, given: argparse.Namespace) -> None:
        self.server = server
        self.leads = leads_service_pb2_grpc.LeadsServiceStub(channel)
        self.quota = quota_service_pb2_grpc.QuotaServiceStub(channel)
        self.contact, self.email, self.owner = given.contact, given.email, given.owner
        # Unique word in the name of every lead of this run.
        self.word = "python" + uuid.uuid4().hex
        # Metadata of every call: portal, priority and caller.
        self.metadata = (
            ("leadsd-portal", "default"),
            ("leadsd-priority", "interactive"),
            ("leadsd-caller", self.word),
        )

    def create(self) -> None:
        """Creates a lead once with two calls, and reads it."""
        request = pb.CreateLeadRequest(
            properties={"hs_lead_name": f"One of {self.word}", "hs_lead_label": "HOT"},
            primary_contact_id=self.contact,
            request_id=str(uuid.uuid4()),
        )
        first, call = self.leads.CreateLead.with_call(request, metadata=self.metadata)
        # A retry, as after a timeout: the same request id returns the same lead.
        again = self.leads.CreateLead(request, metadata=self.metadata)
        assert again.lead.id == first.lead.id, (first, again)
        cost = dict(call.initial_metadata())["leadsd-quota-cost"]
        print(f"created {first.lead.id} for {cost} HubSpot calls")

        lead = self.leads.GetLead(
            pb.GetLeadRequest(
                id=first.lead.id,
                properties=["hs_lead_name", "hs_lead_label"],
                associations=["contacts"],
            ),
            metadata=self.metadata,
        ).lead
        assert lead.properties["hs_lead_label"] == "HOT", lead
        assert self.contact in [to.id for to in lead.associations["contacts"].objects], lead
        print(f"read {lead.properties['hs_lead_name']!r} of {lead.create_time.ToDatetime()}")

    def names(self) -> None:
        """Writes and reads a lead by labels and e-mail addresses, without ids."""
        request = pb.CreateLeadRequest(
            properties={"hs_lead_name": f"By names of {self.word}"},
            labels={"hs_pipeline_stage": "conected", "hubspot_owner_id": self.owner},
            contact=lead_pb2.ContactReference(email=self.email),
            validate_only=True,
        )
        # Validation writes nothing. A violation names the field and the nearest label.
        failure = expect(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            lambda: self.leads.CreateLead(request, metadata=self.metadata),
        )
        stage = 'labels["hs_pipeline_stage"]'
        assert list(failure.fields) == [stage] and "connected" in failure.fields[stage], failure
        request.labels["hs_pipeline_stage"] = "connected"
        valid = self.leads.CreateLead(request, metadata=self.metadata)
        assert not valid.HasField("lead"), valid
        request.validate_only = False
        request.request_id = str(uuid.uuid4())
        lead_id = self.leads.CreateLead(request, metadata=self.metadata).lead.id

        lead = self.leads.GetLead(
            pb.GetLeadRequest(
                id=lead_id, properties=["hs_pipeline_stage", "hubspot_owner_id"], display=True
            ),
            metadata=self.metadata,
        ).lead
        expected = {"hs_pipeline_stage": "connected", "hubspot_owner_id": self.owner}
        assert dict(lead.labels) == expected, lead
        # The contact that the address named is the primary one. Associating it again has no effect.
        self.leads.AssociateLead(
            pb.AssociateLeadRequest(
                lead_id=lead_id,
                object_type="contacts",
                to_id=self.contact,
                type_labels=["Primary"],
            ),
            metadata=self.metadata,
        )
        contacts = self.leads.ListLeadAssociations(
            pb.ListLeadAssociationsRequest(lead_id=lead_id, object_type="contacts"),
            metadata=self.metadata,
        ).objects
        assert (self.contact, "Primary") in [(to.id, to.label) for to in contacts], contacts
        print(f"created {lead_id} by names: {dict(lead.labels)}")

    def batch(self) -> None:
        """Creates many: one result per input, in input order."""
        labels = ["HOT", "WARM", "BOILING", "COLD", "HOT", "WARM"]
        inputs = [
            pb.LeadCreate(
                properties={
                    "hs_lead_name": f"Batch {number} of {self.word}",
                    "hs_lead_label": label,
                },
                primary_contact_id=self.contact,
            )
            for number, label in enumerate(labels)
        ]
        request = pb.BatchCreateLeadsRequest(inputs=inputs, request_id=str(uuid.uuid4()))
        response = self.leads.BatchCreateLeads(request, metadata=self.metadata)
        for number, (label, result) in enumerate(zip(labels, response.results, strict=True)):
            if result.HasField("lead"):
                assert label != "BOILING", result
            else:
                failure = Failure.of(result.error)
                assert label == "BOILING" and failure.reason == "VALIDATION_FAILED", failure
                print(f"input {number} failed alone: {failure}")

    def search(self) -> None:
        """Finds the leads of the batch page by page."""
        operator = search_pb2.FilterOperator
        word = search_pb2.Filter(
            property_name="hs_lead_name",
            operator=operator.FILTER_OPERATOR_CONTAINS_TOKEN,
            value=self.word,
        )
        label = search_pb2.Filter(
            property_name="hs_lead_label",
            operator=operator.FILTER_OPERATOR_IN,
            values=["WARM", "COLD"],
        )
        last_name_first = search_pb2.Sort(
            property_name="hs_lead_name",
            direction=search_pb2.SortDirection.SORT_DIRECTION_DESCENDING,
        )
        request = pb.SearchLeadsRequest(
            filter_groups=[search_pb2.FilterGroup(filters=[word, label])],
            sorts=[last_name_first],
            properties=["hs_lead_name"],
            page_size=2,
        )
        names, pages = [], 0
        while True:
            page = self.leads.SearchLeads(request, metadata=self.metadata)
            assert page.total == 3, page
            pages += 1
            names += [lead.properties["hs_lead_name"] for lead in page.leads]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert names == [f"Batch {number} of {self.word}" for number in (5, 3, 1)], names
        assert pages == 2, pages
        print(f"found {len(names)} leads on {pages} pages")

    def portals(self) -> None:
        """Selects portal and priority of single calls."""
        one = pb.ListLeadsRequest(page_size=1)
        self.leads.ListLeads(one, metadata=[("leadsd-priority", "bulk")])
        code, reason = grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_PORTAL"
        if self.server.token_file:
            # Errors for authenticated callers do not list the portals.
            code, reason = grpc.StatusCode.PERMISSION_DENIED, "CALLER_FORBIDDEN"
        nowhere = [("leadsd-portal", "nowhere")]
        expect(code, reason, lambda: self.leads.ListLeads(one, metadata=nowhere))

    def errors(self) -> None:
        """Reads the error details of a failed call."""
        expect(
            grpc.StatusCode.NOT_FOUND,
            "LEAD_NOT_FOUND",
            lambda: self.leads.GetLead(pb.GetLeadRequest(id="999999999"), metadata=self.metadata),
        )
        invalid = pb.CreateLeadRequest(properties={"hs_lead_name": f"Invalid of {self.word}"})
        failure = expect(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            lambda: self.leads.CreateLead(invalid, metadata=self.metadata),
        )
        assert list(failure.fields) == ["primary_contact_id"], failure

    def limits(self) -> None:
        """Sends more searches than HubSpot allows per second: calls without a permit before their
        deadline are rejected immediately, with a retry delay."""

        def search(number: int) -> pb.SearchLeadsRequest:
            return pb.SearchLeadsRequest(query=f"{self.word}{number}")

        calls = [
            self.leads.SearchLeads.future(search(number), timeout=0.5, metadata=self.metadata)
            for number in range(30)
        ]
        failures = [Failure.of_call(error) for call in calls if (error := call.exception())]
        # A call may also exceed its deadline.
        refused = [f for f in failures if f.code != grpc.StatusCode.DEADLINE_EXCEEDED.value[0]]
        assert refused, "no search was refused"
        for failure in refused:
            assert failure.reason == "RATE_LIMITED" and failure.retry_after, failure
        # A retry after the stated delay succeeds.
        retry(lambda: self.leads.SearchLeads(search(-1), metadata=self.metadata))
        print(f"{len(refused)} of 30 hurried searches refused, the patient one answered")

    def deadline(self) -> None:
        """Watches the quota until the deadline."""
        request = quota_service_pb2.WatchQuotaRequest(interval=Duration(nanos=100_000_000))
        seen = 0
        try:
            for response in self.quota.WatchQuota(request, timeout=0.5, metadata=self.metadata):
                assert len(response.quota.buckets) == 3, response
                seen += 1
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        else:
            raise AssertionError("the stream ended before its deadline")
        assert seen > 1, "the quota was not seen"
        print(f"saw the quota {seen} times until the deadline")

    def balancing(self) -> None:
        """Asserts that each address served calls of one channel."""
        addresses = self.server.addresses
        if len(addresses) < 2:
            return
        for _ in range(10 * len(addresses)):
            self.leads.ListLeads(pb.ListLeadsRequest(page_size=1), metadata=self.metadata)
        for address in addresses:
            with self.server.only(address).connect() as channel:
                stub = quota_service_pb2_grpc.QuotaServiceStub(channel)
                quota = stub.GetQuota(quota_service_pb2.GetQuotaRequest()).quota
            used = sum(caller.used for caller in quota.buckets[0].callers)
            assert used >= 5, (address, quota)
            print(f"{address} answered {used:g} calls")


def expect(code: grpc.StatusCode, reason: str, call) -> Failure:
    """Makes a call that must fail with this error."""
    try:
        answer = call()
    except grpc.RpcError as error:
        failure = Failure.of_call(error)
        assert (error.code(), failure.reason) == (code, reason), failure
        print(f"as it should: {failure}")
        return failure
    raise AssertionError(f"{answer} instead of {reason}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--address",
        default="127.0.0.1:50051",
        help="one address, a dns:/// target, or several addresses with commas",
    )
    options.add_argument("--contact", default="101", help="a contact that leads can be about")
    options.add_argument("--email", default="ada@example.com", help="address of that contact")
    options.add_argument("--owner", default="sales@example.com", help="address of an owner")
    options.add_argument("--ca-file", type=Path, help="the CA of the service; turns TLS on")
    options.add_argument("--server-name", default="localhost", help="name in the certificate")
    options.add_argument("--token-file", type=Path, help="the bearer token, read for every call")
    given = options.parse_args()
    server = Server(
        tuple(given.address.split(",")), given.ca_file, given.server_name, given.token_file
    )
    with server.connect() as channel:
        walk = Walk(server, channel, given)
        walk.create()
        walk.names()
        walk.batch()
        walk.search()
        transfer(walk.leads, walk.metadata, walk.contact, walk.word)
        walk.portals()
        walk.errors()
        walk.limits()
        walk.deadline()
        walk.balancing()
    print("python: all as expected")


if __name__ == "__main__":
    main()
