//! Unix socket of the gRPC server: the file, its permissions, and its removal.
//!
//! The socket is bound under a temporary name, gets its permissions, and is renamed: no client connects
//! before they hold. A file that a process listens on, or that is no socket, is never replaced.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// Permissions of the file: the user and the group of the process may connect.
const MODE: u32 = 0o660;

/// Timeout for the connection that shows whether a process listens.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Listener with its file, which is removed on drop.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: a later process may have replaced it.
    file: (u64, u64),
}

// === impl UnixSocket ===

impl UnixSocket {
    /// Creates the file and listens on it. Replaces a socket that no process listens on.
    pub(crate) async fn bind(path: &Path) -> io::Result<Self> {
        check_unused(path).await?;
        let temporary = temporary(path);
        if is_socket(&temporary) {
            fs::remove_file(&temporary)?;
        }
        let listener = UnixListener::bind(&temporary)?;
        let moved = fs::set_permissions(&temporary, Permissions::from_mode(MODE))
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| fs::symlink_metadata(path));
        match moved {
            Ok(metadata) => Ok(Self { listener, path: path.to_owned(), file: identity(&metadata) }),
            Err(error) => {
                // The first error is reported.
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    /// Accepts a connection.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(socket, _)| socket)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.file);
        if is_own {
            // The file may be removed already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Checks that the socket can be created: its folder exists, and no other file or listening process has the
/// path.
pub(crate) async fn check_unused(path: &Path) -> io::Result<()> {
    let has_folder = path.parent().is_some_and(Path::is_dir);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_folder => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(io::Error::new(error.kind(), "its folder does not exist"));
        }
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let text = "the path exists and is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {}
    }
    let in_use = || io::Error::new(io::ErrorKind::AddrInUse, "a process listens on it");
    match timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // The file was removed.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The queue of the listener is full.
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(in_use()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Err(in_use()),
    }
}

/// Name beside the path, under which the socket is bound.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadsd.sock");
        (folder, path)
    }

    #[tokio::test]
    async fn the_file_has_its_permissions_and_is_removed() {
        let (folder, path) = path();
        let socket = UnixSocket::bind(&path).await.unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE, "{mode:o}");
        let client = UnixStream::connect(&path).await.unwrap();
        let accepted = socket.accept().await.unwrap();
        assert_eq!(accepted.peer_cred().unwrap().uid(), client.peer_cred().unwrap().uid());
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn only_a_socket_without_a_listener_is_replaced() {
        let (_folder, path) = path();
        let first = UnixSocket::bind(&path).await.unwrap();
        let error = UnixSocket::bind(&path).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        UnixStream::connect(&path).await.expect("the first still listens");
        // What a killed process leaves.
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(std::os::unix::net::UnixListener::bind(temporary(&path)).unwrap());
        let second = UnixSocket::bind(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
        drop(second);
        let error = UnixSocket::bind(&path.join("missing/leadsd.sock")).await.unwrap_err();
        assert!(error.to_string().contains("folder does not exist"), "{error}");
        fs::write(&path, "data").unwrap();
        let error = UnixSocket::bind(&path).await.unwrap_err();
        assert!(error.to_string().contains("is not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let (_folder, path) = path();
        let first = UnixSocket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = UnixSocket::bind(&path).await.unwrap();
        drop(first);
        UnixStream::connect(&path).await.expect("the second listens");
        drop(second);
        assert!(!path.exists());
    }
}
