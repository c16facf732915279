//! Proxy in front of a fake that mutates responses: body, status, headers and length.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{malformed_json, random::Random};

/// Error bodies in the formats of HubSpot and Vault.
const FAILURES: [&str; 12] = [
    r#"{"status":"error","message":"Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"x\\\" does not exist\",\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"x\"}]","correlationId":"1","category":"VALIDATION_ERROR"}"#,
    r#"{"status":"error","message":"x","errors":[{"message":"x","code":"INVALID","in":"hs_lead_name","context":{"propertyName":["hs_lead_name"],"ids":["1","2"]}}],"context":{"properties":["hs_lead_name"]},"category":"VALIDATION_ERROR","subCategory":"a.b"}"#,
    r#"{"category":"CONFLICT","message":"Contact already exists. Existing ID: 512"}"#,
    r#"{"category":"MISSING_SCOPES","message":"x","errors":[{"context":{"requiredGranularScopes":["crm.objects.leads.read"]}}]}"#,
    r#"{"category":"EXPIRED_AUTHENTICATION","message":"expired"}"#,
    r#"{"status":"error","message":"You have reached your limit","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}"#,
    r#"{"policyName":"DAILY"}"#,
    r#"{"policyName":"SECONDLY"}"#,
    r#"{"status":"BAD_REFRESH_TOKEN","error":"invalid_grant","error_description":"x"}"#,
    r#"{"status":"COMPLETE","results":[{"id":"1"}],"numErrors":1,"errors":[{"status":"error","category":"OBJECT_NOT_FOUND","message":"x","context":{"ids":["7"],"objectWriteTraceId":["a"]}}]}"#,
    r#"{"errors":["permission denied"]}"#,
    "<html><body>502 Bad Gateway</body></html>",
];

const STATUSES: [u16; 26] = [
    200, 201, 204, 206, 207, 299, 300, 302, 304, 400, 401, 403, 404, 409, 413, 414, 415, 423, 429,
    477, 500, 502, 503, 521, 530, 999,
];

/// Response headers that the service reads.
const HEADERS: [&str; 14] = [
    "retry-after",
    "x-hubspot-ratelimit-max",
    "x-hubspot-ratelimit-remaining",
    "x-hubspot-ratelimit-interval-milliseconds",
    "x-hubspot-ratelimit-daily",
    "x-hubspot-ratelimit-daily-remaining",
    "x-hubspot-ratelimit-secondly",
    "x-hubspot-correlation-id",
    "content-type",
    "content-encoding",
    "location",
    "date",
    "transfer-encoding",
    "content-length",
];

/// A running proxy. Dropping it stops the server.
pub(crate) struct Proxy {
    pub(crate) url: String,
    mutations: Arc<Mutex<Mutations>>,
    running: JoinHandle<()>,
}

/// Mutations of later responses.
#[derive(Clone)]
struct Mutations {
    random: Random,
    /// One response in this many is not mutated.
    intact_one_in: usize,
    /// Responses to paths that contain this text are not mutated; empty for none.
    exempt_path: &'static str,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mutations = Arc::new(Mutex::new(Mutations {
            random: Random::new(0),
            intact_one_in: 1,
            exempt_path: "",
        }));
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let running = tokio::spawn({
            let mutations = Arc::clone(&mutations);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let (mutations, http, upstream) =
                        (Arc::clone(&mutations), http.clone(), upstream.clone());
                    tokio::spawn(async move {
                        let _ = serve(socket, &http, &upstream, &mutations).await;
                    });
                }
            }
        });
        Self { url, mutations, running }
    }

    /// Mutates later responses with this generator, except one in `intact_one_in` and those to
    /// `exempt_path`.
    pub(crate) fn mutate_responses(
        &self,
        random: &Random,
        intact_one_in: usize,
        exempt_path: &'static str,
    ) {
        *self.mutations.lock().unwrap() =
            Mutations { random: random.clone(), intact_one_in, exempt_path };
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Parts of a request that the proxy forwards.
struct ProxiedRequest {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

async fn serve(
    mut socket: TcpStream,
    http: &reqwest::Client,
    upstream: &str,
    mutations: &Mutex<Mutations>,
) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut buffer = Vec::new();
    loop {
        let request = read(&mut socket, &mut buffer).await?;
        let Mutations { mut random, intact_one_in, exempt_path } =
            mutations.lock().unwrap().clone();
        // Concurrent requests arrive in any order, so each has a separate generator.
        let mut hasher = DefaultHasher::new();
        (random.next_u64(), &request.method, request.path.split('?').next()).hash(&mut hasher);
        let mut random = Random::new(hasher.finish());
        let is_exempt = !exempt_path.is_empty() && request.path.contains(exempt_path);
        let intact_one_in = if is_exempt { 1 } else { intact_one_in };
        let bytes = forward(&mut random, intact_one_in, http, upstream, request).await?;
        socket.write_all(&bytes).await.ok()?;
        if random.one_in(12) {
            return None;
        }
    }
}

async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<ProxiedRequest> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < end + 4 + length {
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(ProxiedRequest { method, path, headers, body })
}

async fn forward(
    random: &mut Random,
    intact_one_in: usize,
    http: &reqwest::Client,
    upstream: &str,
    received: ProxiedRequest,
) -> Option<Vec<u8>> {
    let method = reqwest::Method::from_bytes(received.method.as_bytes()).ok()?;
    let mut request =
        http.request(method, format!("{upstream}{}", received.path)).body(received.body);
    for (name, value) in &received.headers {
        if !["host", "content-length", "accept-encoding", "connection"].contains(&name.as_str()) {
            request = request.header(name, value);
        }
    }
    let real = request.send().await.ok()?;
    let mut status = real.status().as_u16();
    let mut body = real.bytes().await.ok()?.to_vec();
    let mut headers: Vec<(&str, Vec<u8>)> = vec![("content-type", b"application/json".to_vec())];
    if !random.one_in(intact_one_in) {
        for _ in 0..=random.below(3) {
            mutate(random, &mut status, &mut headers, &mut body);
        }
    }
    Some(serialize(random, status, &headers, &body, intact_one_in))
}

fn mutate(
    random: &mut Random,
    status: &mut u16,
    headers: &mut Vec<(&'static str, Vec<u8>)>,
    body: &mut Vec<u8>,
) {
    match random.below(8) {
        0 => *status = *random.pick(&STATUSES),
        1 => random.mutate(body),
        2 => {
            let name = *random.pick(&HEADERS[..12]);
            let value = match random.below(3) {
                0 => random.number().to_string().into_bytes(),
                1 => random.text().into_bytes(),
                _ => random
                    .pick(&["gzip", "zstd", "1", "0", "Wed, 21 Oct 2026 07:28:00 GMT"])
                    .as_bytes()
                    .to_vec(),
            };
            headers.push((name, value));
        }
        3 => {
            *status = *random.pick(&STATUSES);
            let failure = *random.pick(&FAILURES);
            *body = match serde_json::from_str::<Value>(failure) {
                Ok(mut value) => {
                    if random.one_in(2) {
                        malformed_json::mutate(random, &mut value);
                    }
                    malformed_json::serialize(random, &value)
                }
                Err(_) => failure.as_bytes().to_vec(),
            };
        }
        _ => {
            if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
                malformed_json::mutate(random, &mut value);
                *body = malformed_json::serialize(random, &value);
            }
        }
    }
}

/// Serialises a response; sometimes the length is wrong.
fn serialize(
    random: &mut Random,
    status: u16,
    headers: &[(&str, Vec<u8>)],
    body: &[u8],
    intact_one_in: usize,
) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        // A line break would end the head early; such mutations belong to the body.
        bytes.extend(value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
        bytes.extend_from_slice(b"\r\n");
    }
    let wrong = intact_one_in != 1 && random.one_in(20);
    if wrong && random.one_in(2) {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        let size = random.text();
        bytes.extend_from_slice(size.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        return bytes;
    }
    let length = if wrong { body.len() / 2 } else { body.len() };
    bytes.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
    if status != 204 && status != 304 {
        bytes.extend_from_slice(body);
    }
    bytes
}
