"""Checks the fake with HubSpot's Python client.

Usage: python_client.py BASE_URL TOKEN CONTACT_ID
"""

import sys

import hubspot
from hubspot.crm.objects import (
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    PublicObjectSearchRequest,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.objects.exceptions import ApiException

base_url, token, contact = sys.argv[1:4]
client = hubspot.Client.create(access_token=token)
client.config["host"] = base_url
leads = client.crm.objects

to_contact = [
    {
        "to": {"id": contact},
        "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 578}],
    }
]


def new(name, **properties):
    return SimplePublicObjectInputForCreate(
        properties={"hs_lead_name": name, **properties}, associations=to_contact
    )


created = leads.basic_api.create("leads", new("From Python", hs_lead_label="HOT"))
assert created.properties["hs_lead_name"] == "From Python", created

read = leads.basic_api.get_by_id(
    "leads", created.id, properties=["hs_lead_label"], associations=["contacts"]
)
assert read.properties["hs_lead_label"] == "HOT", read
assert read.associations["contacts"].results[0].id == contact, read

updated = leads.basic_api.update(
    "leads", created.id, SimplePublicObjectInput(properties={"hs_lead_label": "COLD"})
)
assert updated.properties["hs_lead_label"] == "COLD", updated

batch = leads.batch_api.create(
    "leads",
    BatchInputSimplePublicObjectBatchInputForCreate(inputs=[new("B1"), new("B2"), new("B3")]),
)
ids = [result.id for result in batch.results]
assert len(set(ids)) == 3, batch

found = leads.batch_api.read(
    "leads",
    BatchReadInputSimplePublicObjectId(
        inputs=[{"id": i} for i in ids + ["999999"]],
        properties=["hs_lead_name"],
        properties_with_history=[],
    ),
)
assert {r.properties["hs_lead_name"] for r in found.results} == {"B1", "B2", "B3"}, found

changed = leads.batch_api.update(
    "leads",
    BatchInputSimplePublicObjectBatchInput(
        inputs=[{"id": i, "properties": {"hs_lead_label": "WARM"}} for i in ids]
    ),
)
assert all(r.properties["hs_lead_label"] == "WARM" for r in changed.results), changed

search = leads.search_api.do_search(
    "leads",
    PublicObjectSearchRequest(
        filter_groups=[
            {"filters": [{"propertyName": "hs_lead_label", "operator": "EQ", "value": "WARM"}]}
        ],
        properties=["hs_lead_name"],
        sorts=[],
        limit=100,
        after="0",
    ),
)
assert {i for i in ids} <= {r.id for r in search.results}, search

page = leads.basic_api.get_page("leads", limit=2)
assert len(page.results) == 2 and page.paging.next.after, page

leads.batch_api.archive("leads", BatchInputSimplePublicObjectId(inputs=[{"id": i} for i in ids]))
leads.basic_api.archive("leads", created.id)
leads.basic_api.archive("leads", created.id)
gone = leads.basic_api.get_by_id("leads", created.id, archived=True)
assert gone.archived, gone

try:
    leads.basic_api.get_by_id("leads", created.id)
    raise SystemExit("an archived lead was found")
except ApiException as error:
    assert error.status == 404, error

try:
    leads.basic_api.create("leads", new("Bad", hs_lead_label="BOILING"))
    raise SystemExit("an invalid option was taken")
except ApiException as error:
    assert error.status == 400 and "INVALID_OPTION" in error.body, error

print("python client: all as expected")
