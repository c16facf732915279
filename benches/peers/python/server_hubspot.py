"""A thin wrapper around HubSpot's official client, whose calls block: grpcio with a thread pool."""

import concurrent.futures
import os
import sys

import grpc
import hubspot
from hubspot.crm.objects.leads.exceptions import ApiException

import contract

# More threads than that compete for the interpreter lock.
THREADS = 64


class Server:
    def __init__(self):
        client = hubspot.Client.create(
            access_token=os.environ["HUBSPOT_TOKEN"],
            host=os.environ["HUBSPOT_URL"],
            connection_pool_maxsize=THREADS,
        )
        # The property of the client imports and builds the API anew each time.
        self.leads = client.crm.objects.leads.basic_api

    def get_lead(self, request, context):
        try:
            lead = self.leads.get_by_id(
                request.id, properties=list(request.properties), _request_timeout=30
            )
        except ApiException as error:
            context.abort(contract.status_code(error.status), error.reason or "")
        answer = contract.GetLeadResponse()
        answer.lead.id = lead.id
        for name, value in lead.properties.items():
            if value is not None:
                answer.lead.properties[name] = value
        answer.lead.create_time.FromDatetime(lead.created_at)
        answer.lead.update_time.FromDatetime(lead.updated_at)
        answer.lead.archived = lead.archived
        answer.lead.url = getattr(lead, "url", None) or ""
        return answer


def main():
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=THREADS)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers([contract.handler(Server().get_lead)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", file=sys.stderr, flush=True)
    server.wait_for_termination()


main()
