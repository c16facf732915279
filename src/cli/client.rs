//! Client side of the commands that call a running service: where it is, how to connect, and who calls.
//!
//! - `args`: the flags that such commands share.
//! - `profile`: named settings in a file, so that a person types them once.
//! - `target`: flags and profile in one, validated.
//! - `credential`: tokens and API keys from a file, the environment or a prompt, never from an argument.
//! - `dial`: TCP, TLS and HTTP/2.
//! - `channel`: a connection as the transport of tonic's clients.
//!
//! These modules know no command and no method.

mod args;
mod channel;
mod credential;
mod dial;
mod profile;
mod target;

pub(super) use self::{
    args::ConnectArgs,
    channel::Channel,
    dial::{Connection, DialError},
    profile::{InvalidProfile, profile_flags},
    target::{InvalidTarget, Target, is_address},
};
