"""Exports all leads with HubSpot's official client, as a short script does it: page after page into a list,
then a CSV file.

Usage: naive.py BASE_URL TOKEN OUT
Prints the number of leads and of pages.
"""

import csv
import sys

import hubspot

PROPERTIES = ["hs_lead_name", "hs_lead_label"]


def main() -> None:
    base_url, token, out = sys.argv[1:4]
    client = hubspot.Client.create(access_token=token)
    client.config["host"] = base_url
    leads, pages, after = [], 0, None
    while True:
        page = client.crm.objects.basic_api.get_page(
            "leads", limit=100, after=after, properties=PROPERTIES
        )
        pages += 1
        leads += page.results
        if page.paging is None or page.paging.next is None:
            break
        after = page.paging.next.after
    with open(out, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", *PROPERTIES])
        for lead in leads:
            rows.writerow([lead.id, *(lead.properties.get(name) for name in PROPERTIES)])
    print(len(leads), pages)


if __name__ == "__main__":
    main()
