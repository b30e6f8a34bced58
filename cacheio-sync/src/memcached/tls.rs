//! The configuration of TLS: reads certificates, and creates rustls sessions.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{BoxError, Error, ErrorKind, Result};

pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// The PEM files that TLS is configured with.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsSettings {
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl TlsSettings {
    /// Reads the files.
    pub(super) fn load(&self) -> Result<TlsConfig> {
        let roots = match &self.ca {
            Some(path) => roots_from_file("ca", path)?,
            None => roots_of_system()?,
        };
        // The process may have no default provider, or one that the application chose.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| config("TLS cannot be configured", error))?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", error))?;
                config
                    .with_client_auth_cert(certificates("cert", certificate)?, private)
                    .map_err(|error| {
                        self::config(
                            "the client certificate and its key do not fit together",
                            error,
                        )
                    })?
            }
        };
        Ok(TlsConfig(Arc::new(config)))
    }
}

/// A loaded configuration. Cloning is cheap.
#[derive(Clone)]
pub(super) struct TlsConfig(Arc<ClientConfig>);

impl TlsConfig {
    /// Starts a session with a host, which must have a certificate for this name.
    pub(super) fn session(&self, host: &str) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)
    }
}

fn roots_from_file(name: &str, path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(name, path)? {
        roots
            .add(certificate)
            .map_err(|error| unreadable(name, error))?;
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "the system has no trusted certificates; give a PEM file with some (`ca`)",
        ));
    }
    Ok(roots)
}

fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(name, error))?;
    if certificates.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("no certificate in the file `{name}`; expected a PEM file with at least one"),
        ));
    }
    Ok(certificates)
}

/// Returns the error for a file, by the name of its setting: what is given as its path may be the
/// content of a key.
fn unreadable(name: &str, error: impl Into<BoxError>) -> Error {
    config(
        format!("cannot read the file `{name}`; expected the path of a PEM file"),
        error,
    )
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Config, message).with_source(error)
}
