//! The engine's behaviour as its users see it: paused time, in-memory doubles, no sockets.

mod clocks;
mod doubles;
mod faults;
mod outages;
mod parking;
mod portals;
mod rejections;
mod rotation;
mod serving;
mod supervision;
mod watching;
mod world;
