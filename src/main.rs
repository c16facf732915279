//! The `leadsd` command.

fn main() {}
