// Example client for leadsd in Node. It prints its results and fails if they are unexpected.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import grpc from '@grpc/grpc-js'
import { call, connect } from './connect.mjs'
import { Failure, retry } from './failure.mjs'
import { transfer } from './transfer.mjs'

const { values: given } = parseArgs({
  options: {
    // One address, a dns:/// target, or several addresses with commas.
    address: { type: 'string', default: '127.0.0.1:50051' },
    // Contact for created leads.
    contact: { type: 'string', default: '101' },
    // Address of that contact.
    email: { type: 'string', default: 'ada@example.com' },
    // Address of an owner.
    owner: { type: 'string', default: 'sales@example.com' },
    // The CA of the service; turns TLS on.
    'ca-file': { type: 'string' },
    // Name in the certificate, when addresses are given.
    'server-name': { type: 'string', default: 'localhost' },
    // The bearer token, read for every call.
    'token-file': { type: 'string' },
  },
})
const server = {
  addresses: given.address.split(','),
  caFile: given['ca-file'],
  name: given['server-name'],
  tokenFile: given['token-file'],
}
const clients = connect(server)
// Unique word in the name of every lead of this run.
const word = `node${randomUUID().replaceAll('-', '')}`
// Metadata of every call: portal, priority and caller.
const metadata = {
  'leadsd-portal': 'default',
  'leadsd-priority': 'interactive',
  'leadsd-caller': word,
}
const leads = (method, request, options) =>
  call(clients.leads, method, request, { metadata, ...options })

// Creates a lead once with two calls, and reads it.
async function create() {
  const request = {
    properties: { hs_lead_name: `One of ${word}`, hs_lead_label: 'HOT' },
    primaryContactId: given.contact,
    requestId: randomUUID(),
  }
  const first = await leads('createLead', request)
  // A retry, as after a timeout: the same request id returns the same lead.
  const again = await leads('createLead', request)
  const { id } = first.response.lead
  assert.equal(again.response.lead.id, id)
  console.log(`created ${id} for ${first.header['leadsd-quota-cost']} HubSpot calls`)

  const { response } = await leads('getLead', {
    id,
    properties: ['hs_lead_name', 'hs_lead_label'],
    associations: ['contacts'],
  })
  const { lead } = response
  assert.equal(lead.properties.hs_lead_label, 'HOT')
  assert.ok(lead.associations.contacts.objects.some((object) => object.id === given.contact))
  const time = new Date(lead.createTime.seconds * 1000)
  console.log(`read '${lead.properties.hs_lead_name}' of ${time.toISOString()}`)
}

// Writes and reads a lead by labels and e-mail addresses, without ids.
async function names() {
  const request = {
    properties: { hs_lead_name: `By names of ${word}` },
    labels: { hs_pipeline_stage: 'conected', hubspot_owner_id: given.owner },
    contact: { email: given.email },
    validateOnly: true,
  }
  // Validation writes nothing. A violation names the field and the nearest label.
  const failure = await fails('INVALID_ARGUMENT', 'INVALID_REQUEST', leads('createLead', request))
  const [{ field, description }] = failure.fields
  assert.equal(field, 'labels["hs_pipeline_stage"]')
  assert.ok(description.includes('connected'), description)
  request.labels.hs_pipeline_stage = 'connected'
  assert.ok(!(await leads('createLead', request)).response.lead)
  const written = await leads('createLead', {
    ...request,
    validateOnly: false,
    requestId: randomUUID(),
  })
  const { id } = written.response.lead

  const properties = ['hs_pipeline_stage', 'hubspot_owner_id']
  const { lead } = (await leads('getLead', { id, properties, display: true })).response
  assert.deepEqual(
    { ...lead.labels },
    { hs_pipeline_stage: 'connected', hubspot_owner_id: given.owner },
  )
  // The contact that the address named is the primary one. Associating it again has no effect.
  const contacts = { leadId: id, objectType: 'contacts' }
  await leads('associateLead', { ...contacts, toId: given.contact, typeLabels: ['Primary'] })
  const { objects } = (await leads('listLeadAssociations', contacts)).response
  assert.ok(objects.some((to) => to.id === given.contact && to.label === 'Primary'))
  console.log(`created ${id} by names: ${JSON.stringify(lead.labels)}`)
}

// Creates many: one result per input, in input order.
async function batch() {
  const labels = ['HOT', 'WARM', 'BOILING', 'COLD', 'HOT', 'WARM']
  const inputs = labels.map((label, number) => ({
    properties: { hs_lead_name: `Batch ${number} of ${word}`, hs_lead_label: label },
    primaryContactId: given.contact,
  }))
  const { response } = await leads('batchCreateLeads', { inputs, requestId: randomUUID() })
  assert.equal(response.results.length, labels.length)
  response.results.forEach((result, number) => {
    if (result.outcome === 'lead') {
      assert.notEqual(labels[number], 'BOILING')
    } else {
      const failure = new Failure(result.error)
      assert.equal(labels[number], 'BOILING')
      assert.equal(failure.reason, 'VALIDATION_FAILED')
      console.log(`input ${number} failed alone: ${failure}`)
    }
  })
}

// Finds the leads of the batch page by page.
async function search() {
  const request = {
    filterGroups: [
      {
        filters: [
          {
            propertyName: 'hs_lead_name',
            operator: 'FILTER_OPERATOR_CONTAINS_TOKEN',
            value: word,
          },
          {
            propertyName: 'hs_lead_label',
            operator: 'FILTER_OPERATOR_IN',
            values: ['WARM', 'COLD'],
          },
        ],
      },
    ],
    sorts: [{ propertyName: 'hs_lead_name', direction: 'SORT_DIRECTION_DESCENDING' }],
    properties: ['hs_lead_name'],
    pageSize: 2,
  }
  const names = []
  let pages = 0
  do {
    const { response } = await leads('searchLeads', request)
    assert.equal(response.total, '3')
    pages += 1
    names.push(...response.leads.map((lead) => lead.properties.hs_lead_name))
    request.pageToken = response.nextPageToken
  } while (request.pageToken)
  assert.deepEqual(names, [5, 3, 1].map((number) => `Batch ${number} of ${word}`))
  assert.equal(pages, 2)
  console.log(`found ${names.length} leads on ${pages} pages`)
}

// Selects portal and priority of single calls.
async function portals() {
  const one = { pageSize: 1 }
  await leads('listLeads', one, { metadata: { 'leadsd-priority': 'bulk' } })
  const nowhere = { metadata: { 'leadsd-portal': 'nowhere' } }
  // Errors for authenticated callers do not list the portals.
  const [code, reason] = server.tokenFile
    ? ['PERMISSION_DENIED', 'CALLER_FORBIDDEN']
    : ['INVALID_ARGUMENT', 'UNKNOWN_PORTAL']
  await fails(code, reason, leads('listLeads', one, nowhere))
}

// Reads the error details of a failed call.
async function errors() {
  await fails('NOT_FOUND', 'LEAD_NOT_FOUND', leads('getLead', { id: '999999999' }))
  const invalid = { properties: { hs_lead_name: `Invalid of ${word}` } }
  const failure = await fails('INVALID_ARGUMENT', 'INVALID_REQUEST', leads('createLead', invalid))
  assert.deepEqual(
    failure.fields.map(({ field }) => field),
    ['primary_contact_id'],
  )
}

// Sends more searches than HubSpot allows per second: calls without a permit before their deadline
// are rejected immediately, with a retry delay.
async function limits() {
  const hurried = Array.from({ length: 30 }, (_, number) =>
    leads('searchLeads', { query: `${word}${number}` }, { deadline: 500 }),
  )
  const outcomes = await Promise.allSettled(hurried)
  const failures = outcomes
    .filter(({ status }) => status === 'rejected')
    .map(({ reason }) => Failure.ofCall(reason))
  // A call may also exceed its deadline.
  const refused = failures.filter(({ code }) => code !== grpc.status.DEADLINE_EXCEEDED)
  assert.ok(refused.length > 0, 'no search was refused')
  for (const failure of refused) {
    assert.ok(failure.reason === 'RATE_LIMITED' && failure.retryAfter > 0, `${failure}`)
  }
  // A retry after the stated delay succeeds.
  await retry(() => leads('searchLeads', { query: word }))
  console.log(`${refused.length} of 30 hurried searches refused, the patient one answered`)
}

// Watches the quota until the deadline.
async function deadline() {
  const request = { interval: { seconds: 0, nanos: 100_000_000 } }
  const stream = clients.quota.watchQuota(request, { deadline: Date.now() + 500 })
  let seen = 0
  await assert.rejects(
    async () => {
      for await (const { quota } of stream) {
        assert.equal(quota.buckets.length, 3)
        seen += 1
      }
    },
    { code: grpc.status.DEADLINE_EXCEEDED },
  )
  assert.ok(seen > 1, 'the quota was not seen')
  console.log(`saw the quota ${seen} times until the deadline`)
}

// Asserts that each address served calls of one channel.
async function balancing() {
  if (server.addresses.length < 2) return
  for (let number = 0; number < 10 * server.addresses.length; number += 1) {
    await leads('listLeads', { pageSize: 1 })
  }
  for (const address of server.addresses) {
    const one = connect({ ...server, addresses: [address] })
    const { response } = await call(one.quota, 'getQuota', {})
    one.close()
    const [burst] = response.quota.buckets
    const used = burst.callers.reduce((sum, caller) => sum + caller.used, 0)
    assert.ok(used >= 5, `${address} answered ${used} calls`)
    console.log(`${address} answered ${used} calls`)
  }
}

// Waits for a call that must fail with this error.
async function fails(code, reason, answer) {
  const failure = await answer.then(
    () => assert.fail(`a success instead of ${reason}`),
    (error) => Failure.ofCall(error),
  )
  assert.deepEqual([grpc.status[failure.code], failure.reason], [code, reason], `${failure}`)
  console.log(`as it should: ${failure}`)
  return failure
}

const transferred = () => transfer(clients.leads, metadata, given.contact, word)

const steps = [create, names, batch, search, transferred, portals, errors, limits, deadline, balancing]
for (const step of steps) {
  await step()
}
clients.close()
console.log('node: all as expected')
