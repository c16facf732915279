// What leadsd says about a call or an input that failed, and when to try again.
import { setTimeout as sleep } from 'node:timers/promises'
import grpc from '@grpc/grpc-js'
import { contract } from './connect.mjs'

export class Failure {
  // `status` is a google.rpc.Status: the outcome of an input of a batch, or of a call.
  constructor({ code, message, details }) {
    const detail = (type) => details.find((any) => any['@type'].endsWith(`/google.rpc.${type}`))
    this.code = code
    this.message = message
    // One of docs/ERRORS.md; empty if the call did not reach leadsd.
    this.reason = detail('ErrorInfo')?.reason ?? ''
    this.metadata = detail('ErrorInfo')?.metadata ?? {}
    this.fields = detail('BadRequest')?.fieldViolations ?? []
    // Milliseconds to wait, where waiting helps.
    const delay = detail('RetryInfo')?.retryDelay
    this.retryAfter = delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6
  }

  static ofCall(error) {
    const [encoded] = error.metadata?.get('grpc-status-details-bin') ?? []
    // Errors that the library makes itself have no details.
    return encoded
      ? new Failure(contract['google.rpc.Status'].deserialize(encoded))
      : new Failure({ code: error.code, message: error.details, details: [] })
  }

  toString() {
    const fields = this.fields.map(({ field, description }) => ` [${field} ${description}]`)
    // What HubSpot's support asks for.
    const { correlationId } = this.metadata
    const id = correlationId ? ` (HubSpot's id: ${correlationId})` : ''
    return `${grpc.status[this.code]} ${this.reason}: ${this.message}${fields.join('')}${id}`
  }
}

// Repeats a call that may be repeated: a read, an update, an archive, or a write with a request id.
// Waits as long as the failure says, else longer each time.
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
