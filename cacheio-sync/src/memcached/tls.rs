//! TLS: reads certificates, and runs rustls' sessions, which do no I/O themselves, over a socket.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::call::Call;
use super::socket::Socket;
use crate::{BoxError, Error, ErrorKind, Result};

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
    /// Performs the handshake with a host, which must have a certificate for this name.
    pub(super) async fn handshake(
        &self,
        host: &str,
        socket: &mut Socket,
        call: Call,
    ) -> io::Result<Session> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        let mut session = Session {
            connection,
            received: vec![0; RECORD_SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
            sending: Vec::new(),
        };
        while session.connection.is_handshaking() {
            session.flush(socket, call).await?;
            if session.connection.is_handshaking() {
                session.receive(socket, call).await?;
            }
        }
        session.flush(socket, call).await?;
        Ok(session)
    }
}

/// Holds the largest record of TLS.
const RECORD_SIZE: usize = (16 << 10) + 512;

/// A TLS session. It has no socket of its own, so that all its reads and writes have the deadline of
/// the call.
#[derive(Debug)]
pub(super) struct Session {
    connection: ClientConnection,
    /// Received records. Those from `start` to `end` were not processed yet.
    received: Box<[u8]>,
    start: usize,
    end: usize,
    /// Records that are being sent.
    sending: Vec<u8>,
}

impl Session {
    /// Reads at least one byte. The end of the stream is an error.
    pub(super) async fn read(
        &mut self,
        socket: &mut Socket,
        buffer: &mut [u8],
        call: Call,
    ) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            self.receive(socket, call).await?;
            // The server may have requested new keys.
            self.flush(socket, call).await?;
        }
    }

    /// Writes at least one byte.
    pub(super) async fn write(
        &mut self,
        socket: &mut Socket,
        bytes: &[u8],
        call: Call,
    ) -> io::Result<usize> {
        let written = self.connection.writer().write(bytes)?;
        self.flush(socket, call).await?;
        Ok(written)
    }

    /// Receives at least one byte, and processes the records that are complete.
    async fn receive(&mut self, socket: &mut Socket, call: Call) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, socket.read(&mut self.received, call).await?);
        }
        let mut received = &self.received[self.start..self.end];
        self.start += self.connection.read_tls(&mut received)?;
        if let Err(error) = self.connection.process_new_packets() {
            // Tells the server why the connection ends, if it still listens.
            let _ = self.flush(socket, call).await;
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    /// Sends all records.
    async fn flush(&mut self, socket: &mut Socket, call: Call) -> io::Result<()> {
        while self.connection.wants_write() {
            self.sending.clear();
            self.connection.write_tls(&mut self.sending)?;
            let mut sent = 0;
            while sent < self.sending.len() {
                sent += socket.write(&self.sending[sent..], call).await?;
            }
        }
        Ok(())
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
