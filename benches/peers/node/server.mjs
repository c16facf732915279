// A thin wrapper around HubSpot: @grpc/grpc-js and undici, one HTTP request per GetLead.
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';
import { Pool } from 'undici';

const protos = fileURLToPath(new URL('../../../proto', import.meta.url));
const loaded = protoLoader.loadSync('leadsd/v1/leads_service.proto', {
  includeDirs: [protos],
  defaults: true,
});
const { LeadsService } = grpc.loadPackageDefinition(loaded).leadsd.v1;

const pool = new Pool(process.env.HUBSPOT_URL, { headersTimeout: 30_000, bodyTimeout: 30_000 });
const headers = { authorization: `Bearer ${process.env.HUBSPOT_TOKEN}` };

function timestamp(text) {
  const milliseconds = Date.parse(text);
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: (milliseconds - seconds * 1000) * 1_000_000 };
}

function code(status) {
  if (status === 404) return grpc.status.NOT_FOUND;
  if (status === 429) return grpc.status.RESOURCE_EXHAUSTED;
  return status >= 500 ? grpc.status.UNAVAILABLE : grpc.status.FAILED_PRECONDITION;
}

async function readLead({ id, properties }) {
  const query = new URLSearchParams({ properties: properties.join(',') });
  const path = `/crm/objects/2026-09/leads/${encodeURIComponent(id)}?${query}`;
  const { statusCode, body } = await pool.request({ method: 'GET', path, headers });
  if (statusCode !== 200) {
    await body.dump();
    throw Object.assign(new Error(`HubSpot answered ${statusCode}`), { code: code(statusCode) });
  }
  const lead = await body.json();
  const values = Object.entries(lead.properties).filter(([, value]) => value !== null);
  return {
    lead: {
      id: lead.id,
      properties: Object.fromEntries(values),
      createTime: timestamp(lead.createdAt),
      updateTime: timestamp(lead.updatedAt),
      archived: lead.archived,
      url: lead.url ?? '',
    },
  };
}

const server = new grpc.Server();
server.addService(LeadsService.service, {
  getLead: (call, callback) =>
    readLead(call.request).then((answer) => callback(null, answer), callback),
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.error(`127.0.0.1:${port}`);
});
