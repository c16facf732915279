//! Expiry of the certificates in files with private CAs, for metrics. Connections read the files by
//! themselves ([`trust`](super::trust)).

use parking_lot::Mutex;

use super::trust::{CaSource, Stamp};
use crate::time::Timestamp;

/// Files with private CAs. Each is read again only if it has changed.
#[derive(Debug)]
pub struct CaFiles(Mutex<Vec<CaFile>>);

/// Earliest expiry of the certificates of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaExpiry {
    /// Configuration key with the path.
    pub key: String,
    /// Path.
    pub path: String,
    /// Expiry of the certificate that expires first.
    pub expires: Timestamp,
}

#[derive(Debug)]
struct CaFile {
    source: CaSource,
    stamp: Stamp,
    /// `None` if the file was never valid.
    expires: Option<Timestamp>,
}

// === impl CaFiles ===

impl CaFiles {
    /// Reads the files. A source that is named twice counts once.
    pub fn new(sources: impl IntoIterator<Item = CaSource>) -> Self {
        let mut files: Vec<CaFile> = Vec::new();
        for source in sources {
            if files.iter().all(|file| file.source != source) {
                let stamp = source.stamp();
                let expires = source.earliest_expiry().ok().flatten();
                files.push(CaFile { source, stamp, expires });
            }
        }
        Self(Mutex::new(files))
    }

    /// Earliest expiry of each file. While a file is missing or invalid, its previous CAs stay in use, so
    /// their expiry is returned. A file that was never valid is omitted.
    pub fn expiries(&self) -> Vec<CaExpiry> {
        let mut files = self.0.lock();
        files.iter_mut().filter_map(CaFile::expiry).collect()
    }
}

// === impl CaFile ===

impl CaFile {
    fn expiry(&mut self) -> Option<CaExpiry> {
        let stamp = self.source.stamp();
        if stamp != self.stamp {
            self.stamp = stamp;
            if let Ok(expires) = self.source.earliest_expiry() {
                self.expires = expires;
            }
        }
        let (key, path) = (self.source.key.clone(), self.source.path.display().to_string());
        Some(CaExpiry { key, path, expires: self.expires? })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn ca(year: i32) -> String {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(1975, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    /// Years in which the files expire.
    fn years(files: &CaFiles) -> Vec<String> {
        let all = files.expiries().into_iter();
        all.map(|expiry| expiry.expires.to_string()[..4].to_owned()).collect()
    }

    fn source(path: &Path) -> CaSource {
        CaSource::file("vault.ca_file", path)
    }

    #[test]
    fn the_earliest_certificate_of_a_file_counts_and_a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, ca(2040) + &ca(2030) + &ca(2050)).unwrap();
        let files = CaFiles::new([source(&path), source(&path)]);
        let expiries = files.expiries();
        let [expiry] = &expiries[..] else { panic!("{expiries:?}") };
        assert_eq!(
            (&*expiry.key, Path::new(&expiry.path), &*expiry.expires.to_string()),
            ("vault.ca_file", &*path, "2030-01-01T00:00:00Z")
        );
        fs::write(&path, "").unwrap();
        assert_eq!(years(&files), ["2030"], "the previous CAs stay in use");
        fs::remove_file(&path).unwrap();
        assert_eq!(years(&files), ["2030"]);
        fs::write(&path, ca(1999)).unwrap();
        assert_eq!(years(&files), ["1999"], "an expired CA counts");
    }

    #[test]
    fn a_file_that_was_never_valid_is_omitted_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let files = CaFiles::new([source(&path)]);
        assert_eq!(years(&files), [""; 0]);
        fs::write(&path, ca(2044)).unwrap();
        assert_eq!(years(&files), ["2044"]);
    }
}
