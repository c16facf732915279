// Connection to leadsd: one or several addresses, plain text or TLS with a bearer token.
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url))

// Load balancing, retry policy and timeouts: the same for every language.
const serviceConfig = readFileSync(path('../service_config.json'), 'utf8')

// At least grpc.max_response_size of leadsd, whose default fits every client.
const maxResponseSize = 64 << 20

// The contract as it is; `json` has the details of errors decoded wherever one stands.
export const contract = protoLoader.loadSync(
  ['leads_service', 'quota_service']
    .map((name) => `leadsd/v1/${name}.proto`)
    .concat('google/rpc/error_details.proto'),
  {
    includeDirs: [path('../../proto'), path('../../third_party/googleapis')],
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
    json: true,
  },
)
const services = grpc.loadPackageDefinition(contract).leadsd.v1

// Clients of both services on one channel, which spreads its calls over all addresses.
//
// addresses: replicas, or one target: in Kubernetes dns:/// and a headless Service
// caFile: turns TLS on
// name: what the certificate says, where the address does not
// tokenFile: holds the bearer token; it needs TLS
export function connect({ addresses, caFile, name, tokenFile }) {
  const options = {
    'grpc.service_config': serviceConfig,
    'grpc.max_receive_message_length': maxResponseSize,
  }
  let [target] = addresses
  if (!target.includes('://')) {
    target = `ipv4:${addresses.join()}`
    options['grpc.default_authority'] = name
    options['grpc.ssl_target_name_override'] = name
  }
  let credentials = grpc.credentials.createInsecure()
  if (caFile) {
    credentials = grpc.credentials.createSsl(readFileSync(caFile))
    if (tokenFile) {
      credentials = grpc.credentials.combineChannelCredentials(credentials, bearer(tokenFile))
    }
  }
  const leads = new services.LeadsService(target, credentials, options)
  const quota = new services.QuotaService(target, credentials, {
    ...options,
    channelOverride: leads.getChannel(),
  })
  return { leads, quota, close: () => leads.close() }
}

// Reads the token for every call, so that a rotated token is used immediately.
function bearer(tokenFile) {
  return grpc.credentials.createFromMetadataGenerator((_, done) => {
    readFile(tokenFile, 'utf8').then((token) => {
      const metadata = new grpc.Metadata()
      metadata.set('authorization', `Bearer ${token.trim()}`)
      done(null, metadata)
    }, done)
  })
}

// One call as a promise. `deadline` is in milliseconds from now.
export function call(client, method, request, { metadata = {}, deadline } = {}) {
  const sent = new grpc.Metadata()
  for (const [key, value] of Object.entries(metadata)) sent.set(key, value)
  const options = deadline ? { deadline: Date.now() + deadline } : {}
  return new Promise((resolve, reject) => {
    let header
    client[method](request, sent, options, (error, response) =>
      error ? reject(error) : resolve({ response, header: header.getMap() }),
    ).on('metadata', (received) => (header = received))
  })
}
