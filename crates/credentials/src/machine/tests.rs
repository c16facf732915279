//! Each machine individually: tables of events and the commands that they cause.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    context::{Context, Jitter, Journal, MachineFacts},
    event::{Event, MachineCommand, PortCall},
};
use crate::{
    counters::{Counters, Meter},
    source::{GrantError, RefreshRequest, TokenResponse},
    store::{PortalSecret, VersionedSecret},
};
use leadsd_base::{secret::Secret, time::Timestamp};

mod coordinator;
mod intake;
mod secret_watch;
mod token_cycle;
mod write_back;

/// Handles one event.
type Handler<M> = fn(&mut M, &Event, &mut Context<'_>);

/// A machine with its surroundings. Random numbers are 0, so all times are the earliest.
struct Bench<M> {
    machine: M,
    handler: Handler<M>,
    start: Instant,
    journal: Journal,
    jitter: Jitter,
}

// === impl Bench ===

impl<M> Bench<M> {
    fn new(machine: M, handler: Handler<M>) -> Self {
        let meter = Meter::new(&Arc::default());
        let journal = Journal { portal: "default".into(), meter, last_failure: None };
        Self { machine, handler, start: Instant::now(), journal, jitter: Box::new(|| 0.0) }
    }

    /// Time `ms` milliseconds after the start.
    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// Hands over an event at `ms`.
    fn send(&mut self, ms: u64, event: &Event, facts: MachineFacts) -> Vec<MachineCommand> {
        let now = self.at(ms);
        let (jitter, journal) = (&mut self.jitter, &mut self.journal);
        let mut cx = Context { now, facts, jitter, journal, commands: Vec::new() };
        (self.handler)(&mut self.machine, event, &mut cx);
        cx.commands
    }

    /// Hands over an event at `ms` and expects these commands.
    #[track_caller]
    fn expect(&mut self, ms: u64, event: Event, facts: MachineFacts, commands: &[MachineCommand]) {
        let got = self.send(ms, &event, facts);
        assert_eq!(got, commands, "{event:?} at {ms} ms");
    }

    fn counters(&self) -> Counters {
        self.journal.meter.read()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn call(call: PortCall) -> MachineCommand {
    MachineCommand::Call(call)
}

fn raise(event: Event) -> MachineCommand {
    MachineCommand::Raise(event)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

/// An OAuth secret of the client `app`.
fn oauth(version: u64, refresh_token: &str) -> VersionedSecret {
    oauth_of("app", version, refresh_token)
}

fn oauth_of(client_id: &str, version: u64, refresh_token: &str) -> VersionedSecret {
    let secret = PortalSecret::OAuth {
        client_id: client_id.to_owned(),
        client_secret: secret("cs"),
        refresh_token: secret(refresh_token),
    };
    VersionedSecret { version, secret }
}

fn static_secret(version: u64, token: &str) -> VersionedSecret {
    VersionedSecret { version, secret: PortalSecret::Static { access_token: secret(token) } }
}

fn request(refresh_token: &str) -> RefreshRequest {
    RefreshRequest {
        client_id: "app".to_owned(),
        client_secret: secret("cs"),
        refresh_token: secret(refresh_token),
    }
}

/// A response whose access token lives for half an hour.
fn response(refresh_token: Option<&str>) -> TokenResponse {
    TokenResponse {
        access_token: secret("at"),
        expires_in: seconds(1_800),
        refresh_token: refresh_token.map(secret),
    }
}

fn rejected() -> GrantError {
    GrantError::Rejected { code: "invalid_grant".to_owned() }
}

/// Facts of a portal whose credential in memory makes this request.
fn with_request(request: RefreshRequest) -> MachineFacts {
    MachineFacts { request: Some(request), secret_version: Some(1), ..MachineFacts::default() }
}
