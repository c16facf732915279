//! The cheapest possible HubSpot: it responds to every request with the same lead from memory, so that a
//! comparison measures the servers in front of it.

use std::{future::Future, io};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::fakes::ANY_PORT;

/// Id of the lead in every response.
pub(crate) const LEAD_ID: &str = "512345678901";

/// Headers of a HubSpot response, and a limit that never binds.
const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    content-type: application/json;charset=utf-8\r\n\
    date: Sun, 01 Mar 2026 12:30:00 GMT\r\n\
    x-hubspot-correlation-id: 019a0000-0000-7000-8000-000000000000\r\n\
    x-hubspot-ratelimit-max: 1000000\r\n\
    x-hubspot-ratelimit-remaining: 1000000\r\n\
    x-hubspot-ratelimit-interval-milliseconds: 10000\r\n\
    x-hubspot-ratelimit-secondly: 100000\r\n\
    x-hubspot-ratelimit-secondly-remaining: 100000\r\n\
    x-hubspot-ratelimit-daily: 1000000000\r\n\
    x-hubspot-ratelimit-daily-remaining: 1000000000\r\n";

/// A lead with five properties, as HubSpot returns it.
const LEAD: &str = r#"{"id":"512345678901","properties":{"hs_createdate":"2026-03-01T12:00:00.000Z","hs_lastmodifieddate":"2026-03-01T12:30:00.000Z","hs_lead_label":"WARM","hs_lead_name":"Lead 512345678901","hs_lead_source":"bench","hs_lead_type":"NEW_BUSINESS","hs_object_id":"512345678901","hs_pipeline_stage":"new-stage-id"},"createdAt":"2026-03-01T12:00:00.000Z","updatedAt":"2026-03-01T12:30:00.000Z","archived":false,"url":"https://app.hubspot.com/contacts/1/record/0-136/512345678901"}"#;

/// Response to other requests than reads of a lead or of a batch: an error of the scenario, which must not
/// hang.
const NOT_IMPLEMENTED: &str =
    "HTTP/1.1 501 Not Implemented\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Beginning of a GET.
const GET: &[u8] = b"GET ";

/// Beginning of a batch.
const POST: &[u8] = b"POST ";

/// End of the path of a batch read, in every API version.
const BATCH_READ: &str = "/batch/read";

/// End of the head of a request.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// What precedes a record id in the body of a batch read.
const ID: &str = "\"id\":\"";

/// Connections that wait to be accepted: thousands of callers connect at the same time.
const BACKLOG: u32 = 4096;

/// Space for one request.
const REQUEST_BYTES: usize = 4 * 1024;

/// Binds a free port and returns its address.
pub(crate) fn listen() -> (TcpListener, String) {
    let socket = TcpSocket::new_v4().expect("a socket can be opened");
    socket.bind(ANY_PORT.parse().expect("the address is valid")).expect("a port is free");
    let listener = socket.listen(BACKLOG).expect("the socket is bound");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    (listener, address)
}

/// Answers every GET with the lead, and batch reads with a lead for each id, once `wait` has ended. Never returns.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    wait: impl Fn() -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let response = format!("{HEAD}content-length: {}\r\n\r\n{LEAD}", LEAD.len());
    let response: &'static str = response.leak();
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve_connection(socket, wait.clone(), response));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection<F>(
    mut socket: TcpStream,
    wait: impl Fn() -> F + Send,
    response: &str,
) -> io::Result<()>
where
    F: Future<Output = ()> + Send,
{
    socket.set_nodelay(true)?;
    let mut request = Vec::with_capacity(REQUEST_BYTES);
    while socket.read_buf(&mut request).await? > 0 {
        if request.starts_with(POST) {
            if let Some(response) = batch_response(&request) {
                request.clear();
                wait().await;
                socket.write_all(response.as_bytes()).await?;
            }
        } else if !request.starts_with(GET) {
            return socket.write_all(NOT_IMPLEMENTED.as_bytes()).await;
        } else if request.ends_with(END_OF_HEAD) {
            request.clear();
            wait().await;
            socket.write_all(response.as_bytes()).await?;
        }
    }
    Ok(())
}

/// Response to a batch read; `None` until the request is complete.
fn batch_response(request: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if !head.lines().next()?.contains(BATCH_READ) {
        return Some(NOT_IMPLEMENTED.to_owned());
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    })?;
    if body.len() < length {
        return None;
    }
    let ids = body.split(ID).skip(1).filter_map(|rest| rest.split('"').next());
    let leads: Vec<String> = ids.map(|id| LEAD.replace(LEAD_ID, id)).collect();
    let body = format!(r#"{{"status":"COMPLETE","results":[{}]}}"#, leads.join(","));
    Some(format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len()))
}
