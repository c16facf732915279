"""A thin wrapper around HubSpot: grpc.aio and aiohttp, one HTTP request per GetLead."""

import asyncio
import os
import sys

import aiohttp
import grpc

import contract

COLLECTION = os.environ["HUBSPOT_URL"] + "/crm/objects/2026-09/leads"
TOKEN = os.environ["HUBSPOT_TOKEN"]


class Server:
    def __init__(self, session):
        self.session = session

    async def get_lead(self, request, context):
        parameters = {"properties": ",".join(request.properties)}
        async with self.session.get(f"{COLLECTION}/{request.id}", params=parameters) as response:
            if response.status != 200:
                code = contract.status_code(response.status)
                await context.abort(code, response.reason or "")
            lead = await response.json()
        answer = contract.GetLeadResponse()
        answer.lead.id = lead["id"]
        for name, value in lead["properties"].items():
            if value is not None:
                answer.lead.properties[name] = value
        answer.lead.create_time.FromJsonString(lead["createdAt"])
        answer.lead.update_time.FromJsonString(lead["updatedAt"])
        answer.lead.archived = lead["archived"]
        answer.lead.url = lead.get("url", "")
        return answer


async def main():
    # The default limit of 100 connections would queue calls.
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout
    ) as session:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([contract.handler(Server(session).get_lead)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", file=sys.stderr, flush=True)
        await server.wait_for_termination()


asyncio.run(main())
