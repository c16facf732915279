// Error details of a failed call or input, and retries.
import { setTimeout as sleep } from 'node:timers/promises'
import grpc from '@grpc/grpc-js'
import { contract } from './connect.mjs'

export class Failure {
  // `status` is a google.rpc.Status: the outcome of an input of a batch, or of a call.
  constructor({ code, message, details }) {
    const detail = (type) => details.find((any) => any['@type'].endsWith(`/google.rpc.${type}`))
    this.code = code
    this.message = message
    // Reason from docs/ERRORS.md; empty if the call did not reach leadsd.
    this.reason = detail('ErrorInfo')?.reason ?? ''
    this.metadata = detail('ErrorInfo')?.metadata ?? {}
    this.fields = detail('BadRequest')?.fieldViolations ?? []
    // Milliseconds before a retry, if a retry can succeed.
    const delay = detail('RetryInfo')?.retryDelay
    this.retryAfter = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6
  }

  static ofCall(error) {
    const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? []
    // Errors that the gRPC library generates have no details.
    return encoded
      ? new Failure(contract['google.rpc.Status'].deserialize(encoded))
      : new Failure({ code: error.code, message: error.details, details: [] })
  }

  toString() {
    const fields = this.fields.map(({ field, description }) => ` [${field} ${description}]`)
    // HubSpot's support asks for this id.
    const { correlationId } = this.metadata
    const id = correlationId ? ` (HubSpot's id: ${correlationId})` : ''
    return `${grpc.status[this.code]} ${this.reason}: ${this.message}${fields.join('')}${id}`
  }
}

// Retries a call that is safe to repeat: a read, an update, an upsert, an archive, or a create whose
// repeat leadsd recognizes ("Safe creates" in docs/USING.md). Waits for the stated delay, or else
// with exponential backoff.
export async function retry(attempt, attempts = 5) {
  for (let number = 1, pause = 200; ; number += 1, pause *= 2) {
    try {
      return await attempt()
    } catch (error) {
      const failure = Failure.ofCall(error)
      const passes = failure.code === grpc.status.UNAVAILABLE || failure.reason === 'OVERLOADED'
      if (number === attempts || !(passes || failure.retryAfter)) throw error
      await sleep((failure.retryAfter ?? pause) + Math.random() * pause)
    }
  }
}
