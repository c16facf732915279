// A walk through leadsd from Node: what it prints is what it saw, and it ends with an error if that is
// not what it should be.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import grpc from '@grpc/grpc-js'
import { call, connect } from './connect.mjs'
import { Failure, retry } from './failure.mjs'

const { values: given } = parseArgs({
  options: {
    // One address, a dns:/// target, or several addresses with commas.
    address: { type: 'string', default: '127.0.0.1:50051' },
    // A contact that leads can be about.
    contact: { type: 'string', default: '101' },
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
// In the name of every lead of this run and of no other.
const word = `node${randomUUID().replaceAll('-', '')}`
// Whoever calls says for which account, how urgent it is, and who it is.
const metadata = {
  'leadsd-portal': 'default',
  'leadsd-priority': 'interactive',
  'leadsd-caller': word,
}
const leads = (method, request, options) =>
  call(clients.leads, method, request, { metadata, ...options })

// Makes a lead once, although the call is made twice, and reads it.
async function create() {
  const request = {
    properties: { hs_lead_name: `One of ${word}`, hs_lead_label: 'HOT' },
    primaryContactId: given.contact,
    requestId: randomUUID(),
  }
  const first = await leads('createLead', request)
  // As after a timeout: the same request id, so the same lead.
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

// Creates many: each input has an outcome of its own, in the order of the inputs.
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
    sorts: [{ propertyName: 'hs_object_id', direction: 'SORT_DIRECTION_DESCENDING' }],
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

// Names the account and the urgency of single calls.
async function portals() {
  const one = { pageSize: 1 }
  await leads('listLeads', one, { metadata: { 'leadsd-priority': 'bulk' } })
  const nowhere = { metadata: { 'leadsd-portal': 'nowhere' } }
  // Known callers are not told which portals there are.
  const [code, reason] = server.tokenFile
    ? ['PERMISSION_DENIED', 'CALLER_FORBIDDEN']
    : ['INVALID_ARGUMENT', 'UNKNOWN_PORTAL']
  await fails(code, reason, leads('listLeads', one, nowhere))
}

// Reads what a failed call says beside its code.
async function errors() {
  await fails('NOT_FOUND', 'LEAD_NOT_FOUND', leads('getLead', { id: '999999999' }))
  const nobody = { properties: { hs_lead_name: `Nobody of ${word}` } }
  const failure = await fails('INVALID_ARGUMENT', 'INVALID_REQUEST', leads('createLead', nobody))
  assert.deepEqual(
    failure.fields.map(({ field }) => field),
    ['primary_contact_id'],
  )
}

// Asks for more searches than HubSpot allows in a second: those whose turn would come after their
// deadline are refused at once, with the time to wait.
async function limits() {
  const hurried = Array.from({ length: 30 }, (_, number) =>
    leads('searchLeads', { query: `${word}${number}` }, { deadline: 500 }),
  )
  const outcomes = await Promise.allSettled(hurried)
  const failures = outcomes
    .filter(({ status }) => status === 'rejected')
    .map(({ reason }) => Failure.ofCall(reason))
  // One whose turn came too late for its deadline may run out of time instead.
  const refused = failures.filter(({ code }) => code !== grpc.status.DEADLINE_EXCEEDED)
  assert.ok(refused.length > 0, 'no search was refused')
  for (const failure of refused) {
    assert.ok(failure.reason === 'RATE_LIMITED' && failure.retryAfter > 0, `${failure}`)
  }
  // Waiting as long as the refusal says is all it takes.
  await retry(() => leads('searchLeads', { query: word }))
  console.log(`${refused.length} of 30 hurried searches refused, the patient one answered`)
}

// Watches the quota until its time is up.
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

// Shows that each address answered some of the calls of one channel.
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

// Waits for a call that must fail like this.
async function fails(code, reason, answer) {
  const failure = await answer.then(
    () => assert.fail(`a success instead of ${reason}`),
    (error) => Failure.ofCall(error),
  )
  assert.deepEqual([grpc.status[failure.code], failure.reason], [code, reason], `${failure}`)
  console.log(`as it should: ${failure}`)
  return failure
}

for (const step of [create, batch, search, portals, errors, limits, deadline, balancing]) {
  await step()
}
clients.close()
console.log('node: all as expected')
