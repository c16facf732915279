//! Messages of an export, across streams: connects again with the resume token after a stream has ended or
//! failed.

use std::time::Duration;

use http::Uri;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{Code, Streaming, metadata::MetadataMap};

use crate::{
    cli::{
        attempts::Attempts,
        call::Failure,
        client::{Channel, Connection},
        session::{Session, SessionError},
    },
    grpc::pb::{
        self, leads_service_client::LeadsServiceClient, schema_service_client::SchemaServiceClient,
    },
};

/// Time after the deadline that the service has to end its stream by itself, with a token.
const DEADLINE_GRACE: Duration = Duration::from_millis(500);

/// Timeout for a page of properties.
const SCHEMA_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of properties per page; the service's own.
const SCHEMA_PAGE: i32 = 1_000;

/// Streams of one export.
#[derive(Debug)]
pub(super) struct Source {
    session: Session,
    request: pb::ExportLeadsRequest,
    open: Option<OpenStream>,
    attempts: Attempts,
    /// Transport of the current stream, for requests beside it.
    channel: watch::Sender<Option<Channel>>,
}

#[derive(Debug)]
struct OpenStream {
    connection: Connection,
    messages: Streaming<pb::ExportLeadsResponse>,
    had_leads: bool,
}

/// Names of all properties of the portal, ordered.
pub(super) async fn property_names(session: &Session) -> Result<Vec<String>, SessionError> {
    let connection = session.connect().await?;
    let client = SchemaServiceClient::with_origin(connection.channel(), session.origin.clone());
    let mut client = client.max_decoding_message_size(session.max_response);
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = pb::ListLeadPropertiesRequest {
            page_size: SCHEMA_PAGE,
            page_token,
            ..Default::default()
        };
        let mut request = session.request(message);
        request.set_timeout(SCHEMA_TIMEOUT);
        let response = timeout(SCHEMA_TIMEOUT, client.list_lead_properties(request)).await;
        let page = match response {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(session.failure(&status)),
            Err(_) => {
                return Err(SessionError::Failed(Failure::deadline(SCHEMA_TIMEOUT).into()));
            }
        };
        names.extend(page.properties.into_iter().map(|property| property.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            drop(client);
            connection.close().await;
            return Ok(names);
        }
    }
}

// === impl Source ===

impl Source {
    /// Streams of a request, from the position of its token on.
    pub(super) fn new(session: Session, request: pb::ExportLeadsRequest) -> Self {
        let attempts = Attempts::default();
        Self { session, request, open: None, attempts, channel: watch::Sender::new(None) }
    }

    /// Transport of the current stream; `None` while there is none.
    pub(super) fn channel(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.subscribe()
    }

    pub(super) fn origin(&self) -> &Uri {
        &self.session.origin
    }

    pub(super) fn metadata(&self) -> &MetadataMap {
        &self.session.metadata
    }

    /// The next message. Waits for another stream if one ends before the export.
    pub(super) async fn next(&mut self) -> Result<pb::ExportLeadsResponse, SessionError> {
        loop {
            self.check_deadline()?;
            let failure = match self.read().await {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => None,
                Err(SessionError::Failed(failure)) => Some(failure),
                Err(error @ SessionError::Usage(_)) => return Err(error),
            };
            let had_leads = self.close().await;
            self.check_deadline()?;
            let pause = match &failure {
                Some(failure) => self.attempts.after_failure(failure, rand::random()),
                None => self.attempts.after_end(had_leads, rand::random()),
            };
            match (pause, failure) {
                (Some(pause), _) => sleep(pause).await,
                (None, Some(failure)) => return Err(SessionError::Failed(failure)),
                (None, None) => {
                    let message = "the service ends each stream without a lead";
                    let failure = Failure::local(Code::Unavailable, message, "resume it later");
                    return Err(SessionError::Failed(failure.into()));
                }
            }
        }
    }

    /// Closes the stream; true if it had leads.
    pub(super) async fn close(&mut self) -> bool {
        self.channel.send_replace(None);
        let Some(OpenStream { connection, messages, had_leads }) = self.open.take() else {
            return false;
        };
        drop(messages);
        connection.close().await;
        had_leads
    }

    /// Reads a message of the current stream, which is opened if there is none. `None` at its end.
    async fn read(&mut self) -> Result<Option<pb::ExportLeadsResponse>, SessionError> {
        if self.open.is_none() {
            self.open = Some(self.start().await?);
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let message = open.messages.message();
        let message = match self.session.deadline {
            None => message.await,
            Some((until, length)) => match timeout_at(until + DEADLINE_GRACE, message).await {
                Ok(message) => message,
                Err(_) => return Err(SessionError::Failed(Failure::deadline(length).into())),
            },
        };
        let message = message.map_err(|status| self.session.failure(&status))?;
        let Some(message) = message else { return Ok(None) };
        self.attempts.started();
        if !message.leads.is_empty() {
            self.attempts.progressed();
            open.had_leads = true;
        }
        self.request.resume_token.clone_from(&message.resume_token);
        Ok(Some(message))
    }

    async fn start(&self) -> Result<OpenStream, SessionError> {
        let connection = self.session.connect().await?;
        let channel = connection.channel();
        let client = LeadsServiceClient::with_origin(channel.clone(), self.session.origin.clone());
        let mut client = client.max_decoding_message_size(self.session.max_response);
        let mut request = self.session.request(self.request.clone());
        if let Some((until, _)) = self.session.deadline {
            let left = until.saturating_duration_since(Instant::now());
            request.set_timeout(left.max(Duration::from_millis(1)));
        }
        let response = client.export_leads(request).await;
        let messages = response.map_err(|status| self.session.failure(&status))?.into_inner();
        self.channel.send_replace(Some(channel));
        Ok(OpenStream { connection, messages, had_leads: false })
    }

    /// Errors after the deadline. The service ends a stream with a token shortly before it.
    fn check_deadline(&self) -> Result<(), SessionError> {
        match self.session.deadline {
            Some((until, length)) if until <= Instant::now() + DEADLINE_GRACE => {
                let message = format!("the export did not end within {length:?}");
                let failure = Failure::local(Code::DeadlineExceeded, message, "resume it");
                Err(SessionError::Failed(failure.into()))
            }
            Some(_) | None => Ok(()),
        }
    }
}
