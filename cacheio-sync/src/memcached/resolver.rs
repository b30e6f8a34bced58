//! Looks up the addresses of a host.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use event_listener::Event;

use super::call::Call;

/// Looks up the addresses of one host, each time anew, since they may change.
///
/// The system's resolver has no timeout and may take half a minute. So it runs on a thread, at most
/// one for each server, whose result is for all callers that wait at this time.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    running: Mutex<Option<Arc<Lookup>>>,
}

#[derive(Debug, Default)]
struct Lookup {
    done: Event,
    addresses: OnceLock<Result<Vec<SocketAddr>, (io::ErrorKind, String)>>,
}

impl Resolver {
    pub(super) async fn resolve(
        &self,
        host: &str,
        port: u16,
        call: Call,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let lookup = self.join_or_start(host, port)?;
        loop {
            let listener = lookup.done.listen();
            if let Some(addresses) = lookup.addresses.get() {
                return addresses
                    .clone()
                    .map_err(|(kind, message)| io::Error::new(kind, message));
            }
            call.wait(listener).await?;
        }
    }

    fn join_or_start(&self, host: &str, port: u16) -> io::Result<Arc<Lookup>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = &*running
            && lookup.addresses.get().is_none()
        {
            return Ok(Arc::clone(lookup));
        }
        let lookup = Arc::new(Lookup::default());
        let (shared, host) = (Arc::clone(&lookup), host.to_owned());
        std::thread::Builder::new()
            .name("cacheio-resolve".into())
            .spawn(move || {
                let addresses = (host.as_str(), port).to_socket_addrs();
                let addresses = addresses
                    .map(Iterator::collect)
                    .map_err(|error| (error.kind(), error.to_string()));
                let _ = shared.addresses.set(addresses);
                shared.done.notify(usize::MAX);
            })?;
        *running = Some(Arc::clone(&lookup));
        Ok(lookup)
    }
}
