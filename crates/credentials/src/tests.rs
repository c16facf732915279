//! The engine's behaviour as its users see it: paused time, in-memory doubles, no sockets.

mod clocks;
mod faults;
mod labels;
mod outages;
mod portals;
mod readiness;
mod rejections;
mod rotation;
mod serving;
mod supervision;
mod suspension;
mod token_checks;
mod watching;
mod world;
