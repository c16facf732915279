// Checks the fake with HubSpot's Node client.
// Usage: node node_client.mjs NODE_MODULES BASE_URL TOKEN CONTACT_ID
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const [modules, basePath, accessToken, contact] = process.argv.slice(2)
const { Client } = createRequire(`${modules}/`)('@hubspot/api-client')
const client = new Client({ accessToken, basePath })
const leads = client.crm.objects

const associations = [
  {
    to: { id: contact },
    types: [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 578 }],
  },
]
const make = (name, more = {}) => ({ properties: { hs_lead_name: name, ...more }, associations })

const created = await leads.basicApi.create('leads', make('From Node', { hs_lead_label: 'HOT' }))
assert.equal(created.properties.hs_lead_name, 'From Node')

const read = await leads.basicApi.getById('leads', created.id, ['hs_lead_label'], undefined, ['contacts'])
assert.equal(read.properties.hs_lead_label, 'HOT')
assert.equal(read.associations.contacts.results[0].id, contact)

const updated = await leads.basicApi.update('leads', created.id, { properties: { hs_lead_label: 'COLD' } })
assert.equal(updated.properties.hs_lead_label, 'COLD')

const batch = await leads.batchApi.create('leads', { inputs: [make('N1'), make('N2'), make('N3')] })
const ids = batch.results.map((result) => result.id)
assert.equal(new Set(ids).size, 3)

const found = await leads.batchApi.read('leads', {
  inputs: [...ids, '999999'].map((id) => ({ id })),
  properties: ['hs_lead_name'],
  propertiesWithHistory: [],
})
assert.deepEqual(found.results.map((r) => r.properties.hs_lead_name).sort(), ['N1', 'N2', 'N3'])

await leads.batchApi.update('leads', {
  inputs: ids.map((id) => ({ id, properties: { hs_lead_label: 'WARM' } })),
})
const search = await leads.searchApi.doSearch('leads', {
  filterGroups: [{ filters: [{ propertyName: 'hs_lead_label', operator: 'EQ', value: 'WARM' }] }],
  properties: ['hs_lead_name'],
  limit: 100,
})
const hits = new Set(search.results.map((result) => result.id))
assert.ok(ids.every((id) => hits.has(id)))

await leads.batchApi.archive('leads', { inputs: ids.map((id) => ({ id })) })
await leads.basicApi.archive('leads', created.id)
await assert.rejects(leads.basicApi.getById('leads', created.id), (error) => error.code === 404)
await assert.rejects(
  leads.basicApi.create('leads', make('Bad', { hs_lead_label: 'BOILING' })),
  (error) => error.code === 400,
)
console.log('node client: all as expected')
