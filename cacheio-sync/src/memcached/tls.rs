//! TLS, over rustls.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::address::Address;
use super::connection::Failure;
use super::stream::{Stream, left};
use crate::{BoxError, Error, ErrorKind, Result};

pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What TLS is set up with.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsSettings {
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

impl TlsSettings {
    /// Reads the certificates.
    pub(super) fn load(&self) -> Result<Tls> {
        let roots = match &self.ca {
            Some(path) => trusted(path)?,
            None => trusted_by_system()?,
        };
        // Not the process's default provider: that may be none, or another's choice.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| config("TLS cannot be set up", error))?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let private =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
                config
                    .with_client_auth_cert(certificates(certificate)?, private)
                    .map_err(|error| {
                        self::config("the certificate and its key make no sense", error)
                    })?
            }
        };
        Ok(Tls(Arc::new(config)))
    }
}

/// How TLS is spoken.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Shakes hands, by `deadline`.
    pub(super) fn wrap(
        &self,
        stream: Stream,
        address: &Address,
        deadline: Instant,
    ) -> Result<Stream, Failure> {
        let (Stream::Tcp(mut socket), Address::Tcp { host, .. }) = (stream, address) else {
            return Err(Failure::garbage("TLS is spoken over TCP"));
        };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            let left = left(deadline)?;
            socket.set_read_timeout(Some(left))?;
            socket.set_write_timeout(Some(left))?;
            tls.complete_io(&mut socket)?;
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(tls, socket))))
    }
}

fn trusted(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| unreadable(path, error))?;
    }
    Ok(roots)
}

fn trusted_by_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "the system trusts no certificates; name a PEM file with some (`ca`)",
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, error))?;
    if certificates.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("there is no certificate in {}", path.display()),
        ));
    }
    Ok(certificates)
}

fn unreadable(path: &Path, error: impl Into<BoxError>) -> Error {
    config(format!("{} cannot be read", path.display()), error)
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>, error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::Config, message).with_source(error)
}
