//! TLS, by a certificate that may be replaced while the server runs.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use haulage::{Error, Result};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

/// How often to look whether the certificate was replaced.
const LOOK: Duration = Duration::from_secs(10);

/// A certificate and its key.
#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<Files>);

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    read: Mutex<Read>,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

struct Read {
    config: Arc<ServerConfig>,
    /// When the two were changed.
    changed: [Option<SystemTime>; 2],
    looked: Instant,
}

impl Tls {
    pub(super) fn open(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let read = Read {
            changed: [changed(&certificate), changed(&key)],
            config: read(&certificate, &key)?,
            looked: Instant::now(),
        };
        Ok(Self(Arc::new(Files { certificate, key, read: Mutex::new(read) })))
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let Files { certificate, key, read } = &*self.0;
        let mut last = read.lock().unwrap_or_else(PoisonError::into_inner);
        if last.looked.elapsed() >= LOOK {
            last.looked = Instant::now();
            let now = [changed(certificate), changed(key)];
            if now != last.changed {
                match self::read(certificate, key) {
                    Ok(config) => (last.config, last.changed) = (config, now),
                    // One of the two may be replaced already, and the other not yet.
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the new certificate; the old one stays in use");
                    }
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&last.config))
    }
}

fn changed(path: &PathBuf) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(certificate: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>> {
    let wrong = |path: &PathBuf, why: &dyn std::fmt::Display| {
        Error::Config(format!("cannot use {}: {why}; it has to be in PEM", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|chain| chain.collect::<std::result::Result<Vec<_>, _>>())
        .map_err(|error| wrong(certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"there is no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            Error::Config(format!("cannot use {certificate} with {key}: {error}"))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, ptr};

    use super::*;

    /// As if the last look were long ago.
    fn look_again(tls: &Tls) -> Arc<ServerConfig> {
        let Some(long_ago) = Instant::now().checked_sub(LOOK) else { panic!("the machine has just started") };
        tls.0.read.lock().expect("lock").looked = long_ago;
        drop(tls.acceptor());
        Arc::clone(&tls.0.read.lock().expect("lock").config)
    }

    /// A file changes, at a moment of its own.
    fn replace(path: &Path, text: &[u8], second: u64) {
        fs::write(path, text).expect("write");
        let file = fs::File::options().write(true).open(path).expect("open");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).expect("a time");
    }

    #[test]
    fn a_certificate_that_is_replaced_is_read_again() {
        let folder = tempfile::tempdir().expect("tempdir");
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../haulage-cli/tests/cli/tls");
        let given = |name: &str| fs::read(given.join(name)).expect("read");
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
        replace(&certificate, &given("certificate.pem"), 1);
        replace(&key, &given("key.pem"), 1);
        let tls = Tls::open(certificate.clone(), key).expect("TLS");
        let first = look_again(&tls);
        assert!(ptr::eq(&*first, &*look_again(&tls)), "nothing has changed");
        // The key that fits this one has not come yet.
        replace(&certificate, &given("stranger.pem"), 2);
        assert!(ptr::eq(&*first, &*look_again(&tls)), "the old one stays in use");
        replace(&certificate, &given("certificate.pem"), 3);
        drop(tls.acceptor());
        assert!(
            ptr::eq(&*first, &*tls.0.read.lock().expect("lock").config),
            "each file is looked at now and then"
        );
        assert!(!ptr::eq(&*first, &*look_again(&tls)), "the new one is in use");
    }
}
