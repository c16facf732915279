//! The file of an export: written under a temporary name, synced, and renamed once it is complete.
//!
//! Rows are compressed in chunks, each a gzip member or a zstd frame. Readers of both formats read a
//! sequence of them as one, so a file can be truncated to the end of a chunk and continued.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
};

use flate2::{Compression as GzipLevel, write::GzEncoder};

use super::state::{Paths, State};
use crate::cli::file_kind::Compression;

/// Size of a chunk before compression in bytes. Larger chunks compress hardly better.
const CHUNK: usize = 1 << 20;

/// Level of zstd; its default.
const ZSTD_LEVEL: i32 = 3;

/// Error of the files of an export.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum OutputError {
    #[error("{} exists; --force replaces it", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} has an interrupted export; --resume continues it, --force starts again", .0.display()
    )]
    Interrupted(PathBuf),
    #[error("another export writes {}", .0.display())]
    Locked(PathBuf),
    #[error(
        "{} is shorter than its state says, so it cannot be continued; --force starts again",
        .0.display()
    )]
    Short(PathBuf),
    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
}

/// The partial file of an export.
#[derive(Debug)]
pub(super) struct Output {
    paths: Paths,
    file: File,
    compression: Compression,
    /// Rows that are not compressed yet.
    rows: Vec<u8>,
    /// Length of the file.
    bytes: u64,
    /// True if the file has bytes that are not synced.
    is_dirty: bool,
}

// === impl Output ===

impl Output {
    /// Errors if a file of an earlier export would be lost.
    pub(super) fn check(paths: &Paths, resume: bool, force: bool) -> Result<(), OutputError> {
        if force {
            return Ok(());
        }
        if !resume && paths.state.exists() {
            return Err(OutputError::Interrupted(paths.state.clone()));
        }
        if paths.out.exists() {
            return Err(OutputError::Exists(paths.out.clone()));
        }
        Ok(())
    }

    /// Opens the partial file: empty, or with the bytes of a state.
    pub(super) fn open(
        paths: Paths,
        compression: Compression,
        bytes: u64,
    ) -> Result<Self, OutputError> {
        let failed = |source| OutputError::Write { file: paths.partial.clone(), source };
        let options = File::options().write(true).create(true).truncate(false).clone();
        let file = options.open(&paths.partial).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OutputError::Locked(paths.partial.clone()));
            }
            // The file system has no locks.
            Err(TryLockError::Error(_)) => {}
        }
        let length = file.metadata().map_err(failed)?.len();
        if length < bytes {
            return Err(OutputError::Short(paths.partial.clone()));
        }
        let mut output = Self {
            paths: paths.clone(),
            file,
            compression,
            rows: Vec::new(),
            bytes,
            is_dirty: false,
        };
        if bytes == 0 {
            // A state of another attempt must not describe the rows of this one.
            output.remove_state()?;
        }
        output.file.set_len(bytes).map_err(failed)?;
        output.file.seek(SeekFrom::Start(bytes)).map_err(failed)?;
        Ok(output)
    }

    /// Buffer to append whole rows to, before [`Self::added`].
    pub(super) fn rows(&mut self) -> &mut Vec<u8> {
        &mut self.rows
    }

    /// Writes the rows of the buffer if they fill a chunk.
    pub(super) fn added(&mut self) -> Result<(), OutputError> {
        if self.rows.len() < CHUNK { Ok(()) } else { self.flush().map_err(|it| self.failed(it)) }
    }

    /// Writes and syncs all rows, and stores a state that names their position.
    pub(super) fn checkpoint(&mut self, state: &mut State) -> Result<(), OutputError> {
        self.sync().map_err(|it| self.failed(it))?;
        state.bytes = self.bytes;
        let stored = state.store(&self.paths);
        stored.map_err(|source| OutputError::Write { file: self.paths.state.clone(), source })
    }

    /// Writes and syncs all rows, and gives the file its name. Returns its length.
    pub(super) fn complete(mut self) -> Result<u64, OutputError> {
        self.is_dirty = true;
        self.sync().map_err(|it| self.failed(it))?;
        let named = fs::rename(&self.paths.partial, &self.paths.out)
            .and_then(|()| self.paths.sync_folder());
        named.map_err(|source| OutputError::Write { file: self.paths.out.clone(), source })?;
        self.remove_state()?;
        Ok(self.bytes)
    }

    /// Removes the partial file: it has no lead.
    pub(super) fn discard(self) -> Result<(), OutputError> {
        fs::remove_file(&self.paths.partial).map_err(|source| self.failed(source))?;
        self.remove_state()
    }

    fn remove_state(&self) -> Result<(), OutputError> {
        let file = self.paths.state.clone();
        match fs::remove_file(&file) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(OutputError::Write { file, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.is_dirty {
            self.file.sync_all()?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Compresses and writes the rows of the buffer.
    fn flush(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let compressed = match self.compression {
            Compression::None => None,
            Compression::Gzip => {
                let mut member = GzEncoder::new(Vec::new(), GzipLevel::default());
                member.write_all(&self.rows)?;
                Some(member.finish()?)
            }
            Compression::Zstd => {
                let mut frames = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                frames.include_checksum(true)?;
                Some(frames.compress(&self.rows)?)
            }
        };
        let chunk = compressed.as_deref().unwrap_or(&self.rows);
        self.is_dirty = true;
        self.file.write_all(chunk)?;
        self.bytes += chunk.len() as u64;
        self.rows.clear();
        // A single large lead must not stay allocated.
        self.rows.shrink_to(2 * CHUNK);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write { file: self.paths.partial.clone(), source }
    }
}

// === impl OutputError ===

impl OutputError {
    /// True if the command line is the cause, so that nothing was sent or written.
    pub(super) fn is_usage(&self) -> bool {
        match self {
            Self::Exists(_) | Self::Interrupted(_) | Self::Locked(_) | Self::Short(_) => true,
            Self::Write { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
