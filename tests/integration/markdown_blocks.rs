//! Fenced blocks of the documents, for tests that run them.

use std::{fmt, path::Path};

/// A fenced block of a Markdown file.
pub(crate) struct Block {
    /// The words after the fence, such as `sh`.
    pub(crate) info: String,
    pub(crate) text: String,
    /// Heading of the block.
    pub(crate) heading: String,
    /// Location for messages.
    place: String,
}

// === impl Block ===

impl Block {
    /// Language of the block.
    pub(crate) fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or_default()
    }

    /// True if the block shows the output of the block before it.
    pub(crate) fn is_output(&self) -> bool {
        matches!(self.info.as_str(), "" | "json")
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n{}", self.place, self.text)
    }
}

/// Blocks of a page in order. Blocks inside lists may be indented.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut open) = (String::new(), None);
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => {
                let indent = line.len() - line.trim_start().len();
                blocks.push(Block {
                    info: info.trim().to_owned(),
                    text: String::new(),
                    heading: heading.clone(),
                    place: format!("{page}:{}", number + 1),
                });
                open = Some(indent);
            }
            (Some(_), Some(_)) => open = None,
            (Some(indent), None) => {
                let block = blocks.last_mut().expect("a block is open");
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix('#') {
                    title.trim_start_matches('#').trim().clone_into(&mut heading);
                }
            }
        }
    }
    assert!(open.is_none(), "{page} ends inside a block");
    blocks
}
