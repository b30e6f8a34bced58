//! TLS to a server, over rustls.

use std::io;
use std::sync::Arc;

use crate::nearness::Tcp;
use redis::{ConnectionAddr, RedisResult};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Starts a session with a host, whose certificate an authority that the system trusts must have
/// signed.
pub(crate) async fn connect(host: &str, stream: Tcp) -> RedisResult<TlsStream<Tcp>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config()?));
    Ok(connector.connect(name, stream).await?)
}

/// The provider is handed to the session: installing one as the default of the process is up to
/// the program.
fn config() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (valid, _) = roots.add_parsable_certificates(system.certs);
    if let (0, Some(error)) = (valid, system.errors.into_iter().next()) {
        return Err(io::Error::other(error));
    }
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(ring::default_provider()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Installs rustls' provider for the process unless the program installed one: the `redis` crate
/// takes it from there, and panics without one.
pub(crate) fn install_crypto_provider(address: &ConnectionAddr) {
    if matches!(address, ConnectionAddr::TcpTls { .. }) && CryptoProvider::get_default().is_none() {
        // This fails if another thread has installed one in the meantime, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
