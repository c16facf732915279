//! Stands between the service and a fake, and changes what the fake answers: its body, its status, its
//! headers, and where it ends.

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

use crate::{dice::Dice, json};

/// Bodies as HubSpot and Vault have them for what went wrong.
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

/// Headers of answers that the service looks at.
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

/// The proxy; it stops when dropped.
pub(crate) struct Proxy {
    pub(crate) url: String,
    course: Arc<Mutex<Course>>,
    running: JoinHandle<()>,
}

/// What is done to answers from now on.
#[derive(Clone)]
struct Course {
    dice: Dice,
    /// One answer in so many comes as it is.
    whole: usize,
    /// So do all answers to a path with this in it; empty if there is none.
    spared: &'static str,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) async fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let course = Arc::new(Mutex::new(Course { dice: Dice::new(0), whole: 1, spared: "" }));
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let running = tokio::spawn({
            let course = Arc::clone(&course);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let (course, http, upstream) =
                        (Arc::clone(&course), http.clone(), upstream.clone());
                    tokio::spawn(async move {
                        let _ = serve(socket, &http, &upstream, &course).await;
                    });
                }
            }
        });
        Self { url, course, running }
    }

    /// Rolls these dice from now on; lets one answer in `whole` through as it is, and those that are
    /// `spared` to be able to go on.
    pub(crate) fn roll(&self, dice: &Dice, whole: usize, spared: &'static str) {
        *self.course.lock().unwrap() = Course { dice: dice.clone(), whole, spared };
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// One request, as far as a proxy needs to know it.
struct Asked {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

async fn serve(
    mut socket: TcpStream,
    http: &reqwest::Client,
    upstream: &str,
    course: &Mutex<Course>,
) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut buffer = Vec::new();
    loop {
        let asked = read(&mut socket, &mut buffer).await?;
        let Course { mut dice, whole, spared } = course.lock().unwrap().clone();
        // Calls that run at the same time come in any order: each has dice of its own.
        let mut hasher = DefaultHasher::new();
        (dice.roll(), &asked.method, asked.path.split('?').next()).hash(&mut hasher);
        let mut dice = Dice::new(hasher.finish());
        let is_spared = !spared.is_empty() && asked.path.contains(spared);
        let whole = if is_spared { 1 } else { whole };
        let bytes = answer(&mut dice, whole, http, upstream, asked).await?;
        socket.write_all(&bytes).await.ok()?;
        if dice.one_in(12) {
            return None;
        }
    }
}

async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
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
    Some(Asked { method, path, headers, body })
}

async fn answer(
    dice: &mut Dice,
    whole: usize,
    http: &reqwest::Client,
    upstream: &str,
    asked: Asked,
) -> Option<Vec<u8>> {
    let method = reqwest::Method::from_bytes(asked.method.as_bytes()).ok()?;
    let mut request = http.request(method, format!("{upstream}{}", asked.path)).body(asked.body);
    for (name, value) in &asked.headers {
        if !["host", "content-length", "accept-encoding", "connection"].contains(&name.as_str()) {
            request = request.header(name, value);
        }
    }
    let real = request.send().await.ok()?;
    let mut status = real.status().as_u16();
    let mut body = real.bytes().await.ok()?.to_vec();
    let mut headers: Vec<(&str, Vec<u8>)> = vec![("content-type", b"application/json".to_vec())];
    if !dice.one_in(whole) {
        for _ in 0..=dice.below(3) {
            spoil(dice, &mut status, &mut headers, &mut body);
        }
    }
    Some(written(dice, status, &headers, &body, whole))
}

fn spoil(
    dice: &mut Dice,
    status: &mut u16,
    headers: &mut Vec<(&'static str, Vec<u8>)>,
    body: &mut Vec<u8>,
) {
    match dice.below(8) {
        0 => *status = *dice.pick(&STATUSES),
        1 => dice.spoil(body),
        2 => {
            let name = *dice.pick(&HEADERS[..12]);
            let value = match dice.below(3) {
                0 => dice.number().to_string().into_bytes(),
                1 => dice.text().into_bytes(),
                _ => dice
                    .pick(&["gzip", "zstd", "1", "0", "Wed, 21 Oct 2026 07:28:00 GMT"])
                    .as_bytes()
                    .to_vec(),
            };
            headers.push((name, value));
        }
        3 => {
            *status = *dice.pick(&STATUSES);
            let failure = *dice.pick(&FAILURES);
            *body = match serde_json::from_str::<Value>(failure) {
                Ok(mut value) => {
                    if dice.one_in(2) {
                        json::spoil(dice, &mut value);
                    }
                    json::written(dice, &value)
                }
                Err(_) => failure.as_bytes().to_vec(),
            };
        }
        _ => {
            if let Ok(mut value) = serde_json::from_slice::<Value>(body) {
                json::spoil(dice, &mut value);
                *body = json::written(dice, &value);
            }
        }
    }
}

/// As it goes over the wire; sometimes its end is not where it says.
fn written(
    dice: &mut Dice,
    status: u16,
    headers: &[(&str, Vec<u8>)],
    body: &[u8],
    whole: usize,
) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        // What would end the head early goes to where the body is changed.
        bytes.extend(value.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
        bytes.extend_from_slice(b"\r\n");
    }
    let wrong = whole != 1 && dice.one_in(20);
    if wrong && dice.one_in(2) {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        let size = dice.text();
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
