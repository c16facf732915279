//! Messages of an export, across streams: connects again with the resume token after a stream has ended or
//! failed.

use std::time::Duration;

use http::Uri;
use tokio::{sync::watch, time::timeout};
use tonic::{Streaming, metadata::MetadataMap};

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

/// Name of the command in errors.
const COMMAND: &str = "export";

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

/// Definitions of all properties of the portal, ordered by name.
pub(super) async fn property_definitions(
    session: &Session,
) -> Result<Vec<pb::LeadProperty>, SessionError> {
    let connection = session.connect().await?;
    let client = SchemaServiceClient::with_origin(connection.channel(), session.origin.clone());
    let mut client = client.max_decoding_message_size(session.max_response);
    let (mut properties, mut page_token) = (Vec::new(), String::new());
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
        properties.extend(page.properties);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            drop(client);
            connection.close().await;
            return Ok(properties);
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
            self.session.check_deadline(COMMAND)?;
            let failure = match self.read().await {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => None,
                Err(SessionError::Failed(failure)) => Some(failure),
                Err(error @ SessionError::Usage(_)) => return Err(error),
            };
            let had_leads = self.close().await;
            self.session.check_deadline(COMMAND)?;
            self.attempts.wait(failure, had_leads).await.map_err(SessionError::Failed)?;
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
        let message = self.session.response(open.messages.message()).await?;
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
        let request = self.session.request(self.request.clone());
        let messages = self.session.response(client.export_leads(request)).await?.into_inner();
        self.channel.send_replace(Some(channel));
        Ok(OpenStream { connection, messages, had_leads: false })
    }
}
