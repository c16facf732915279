// Import and export: streams of any number of leads, which are continued if they end early.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import grpc from '@grpc/grpc-js'
import { Failure } from './failure.mjs'

const ATTEMPTS = 10

// Creates a lead for each row; returns one result per key. A stream that breaks or ends early is continued
// with the rows that have no result: with the same importId, no lead is created twice.
async function importRows(leads, metadata, rows) {
  const importId = randomUUID()
  const results = new Map()
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const stream = leads.importLeads(metadata)
    const open = [...rows].filter(([key]) => !results.has(key))
    const sending = send(stream, importId, open)
    try {
      for await (const { content, result, summary } of stream) {
        if (content === 'result') results.set(result.key, result)
        else if (summary.complete) return results
      }
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error
    } finally {
      await sending
    }
    await setTimeout(1000)
  }
  return assert.fail('the import does not end')
}

// Sends rows as fast as they are read.
async function send(stream, importId, rows) {
  const ended = once(stream, 'close').catch(() => {})
  const messages = [{ settings: { importId } }].concat(
    rows.map(([key, create]) => ({ row: { key, create } })),
  )
  for (const message of messages) {
    // The stream may end before its last row.
    if (stream.destroyed) return
    if (!stream.write(message)) await Promise.race([once(stream, 'drain'), ended])
  }
  stream.end()
}

// Ids of all leads with a word in their name. The token of each message continues a stream that breaks or
// ends early, at any replica.
async function exportIds(leads, metadata, word) {
  const filter = {
    propertyName: 'hs_lead_name',
    operator: 'FILTER_OPERATOR_CONTAINS_TOKEN',
    value: word,
  }
  const request = { filterGroups: [{ filters: [filter] }], properties: ['hs_lead_name'] }
  const ids = []
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    try {
      for await (const message of leads.exportLeads(request, metadata)) {
        ids.push(...message.leads.map((lead) => lead.id))
        request.resumeToken = message.resumeToken
        if (message.complete) return ids
      }
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error
    }
    await setTimeout(1000)
  }
  return assert.fail('the export does not end')
}

// Imports rows, one of which is invalid, and exports what was created.
export async function transfer(leads, headers, contact, word) {
  const metadata = new grpc.Metadata()
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value)
  const rows = new Map(
    Object.entries({ 'row-1': 'HOT', 'row-2': 'BOILING', 'row-3': 'COLD' }).map(([key, label]) => [
      key,
      {
        properties: { hs_lead_name: `${key} of ${word}`, hs_lead_label: label },
        primaryContactId: contact,
      },
    ]),
  )
  const results = await importRows(leads, metadata, rows)
  assert.deepEqual([...results.keys()].sort(), [...rows.keys()])
  const failure = new Failure(results.get('row-2').error)
  assert.equal(failure.reason, 'VALIDATION_FAILED', `${failure}`)
  const created = ['row-1', 'row-3'].map((key) => results.get(key).lead.id)
  const exported = await exportIds(leads, metadata, word)
  assert.equal(new Set(exported).size, exported.length)
  assert.ok(created.every((id) => exported.includes(id)), `${created} in ${exported}`)
  console.log(
    `imported ${created.length} of ${rows.size} rows, exported ${exported.length} leads`,
  )
}
