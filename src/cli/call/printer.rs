//! Output of a call: messages to standard output, metadata to standard error.

use std::io;

use prost_reflect::DynamicMessage;
use tokio::io::{AsyncWriteExt as _, Stdout};

use super::{
    exchange::Sink,
    render::{json_line, yaml},
    tree::{FieldNames, tree},
};
use crate::cli::output::print_progress;

/// Prints messages and metadata. A reader that is slow or has stopped does not block signals.
#[derive(Debug)]
pub(super) struct Printer {
    out: Stdout,
    json: bool,
    verbose: bool,
    is_first: bool,
}

// === impl Printer ===

impl Printer {
    pub(super) fn new(json: bool, verbose: bool) -> Self {
        Self { out: tokio::io::stdout(), json, verbose, is_first: true }
    }
}

impl Sink for Printer {
    async fn message(&mut self, message: &DynamicMessage) -> io::Result<()> {
        let text = if self.json {
            json_line(&tree(message, FieldNames::Json)) + "\n"
        } else {
            let text = yaml(&tree(message, FieldNames::Proto));
            // YAML separates the documents of a stream.
            if self.is_first { text } else { format!("---\n{text}") }
        };
        self.is_first = false;
        self.out.write_all(text.as_bytes()).await?;
        self.out.flush().await
    }

    fn metadata(&mut self, lines: &str) {
        if self.verbose && !lines.is_empty() {
            print_progress(lines.trim_end());
        }
    }
}
