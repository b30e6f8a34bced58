//! The servers of a store: which of them holds a key, and the operations on one key.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{Opens, SharedState};
use memcache::exp::{MetaOp, ReturnCode};

use super::address::Address;
use super::call::{Call, Driver};
use super::claims::Claims;
use super::exptime::exptime;
use super::protocol::{Request, Response, VALUE_MAX, too_large};
use super::replace::{entry, swapped};
use super::retry::Retry;
use super::router::Router;
use super::server::{Looked, Server};
use crate::store::{self, Entry, Key, Payload};
use crate::{Error, ErrorKind, Result};

pub(super) struct Cluster {
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) router: Router,
    pub(super) timeout: Duration,
    pub(super) opens: Opens,
    pub(super) shared_state: Arc<SharedState>,
    pub(super) claims: Claims,
}

impl Cluster {
    /// Starts a call whose time begins now.
    pub(super) fn call(&self, driver: Driver) -> Call {
        Call::new(driver, self.timeout)
    }

    /// Returns the server as spans name it: without an address if there are several.
    pub(super) fn span_server(&self) -> store::Server {
        let server = store::Server::new("memcached");
        match &*self.servers {
            [only] => match &only.endpoint.address {
                Address::Tcp { host, port } => server.at(host, *port),
                #[cfg(unix)]
                Address::Unix(path) => server.at_socket(&path.to_string_lossy()),
            },
            _ => server,
        }
    }

    /// Returns the index of the server that holds a key: the same in every process.
    pub(super) fn route(&self, key: &Key<'_>) -> usize {
        self.router.route(key.text())
    }

    pub(super) fn server(&self, key: &Key<'_>) -> &Arc<Server> {
        &self.servers[self.route(key)]
    }

    /// Runs one command on the server of a key, and returns what `read` makes of the response:
    /// `None` if the response does not fit the command.
    pub(super) async fn execute<T>(
        &self,
        call: Call,
        key: &Key<'_>,
        retry: Retry,
        request: &Request,
        read: impl FnMut(&mut Response) -> Option<T>,
    ) -> Result<T> {
        let server = self.server(key);
        let result = server.execute(retry, request, call, read).await;
        result.map_err(|failure| server.error(failure))
    }

    pub(super) async fn get(&self, driver: Driver, key: &Key<'_>) -> Result<Option<Entry>> {
        self.read(driver, key, &["v", "c"]).await
    }

    /// Reads an entry, with what these flags ask for.
    pub(super) async fn read(
        &self,
        driver: Driver,
        key: &Key<'_>,
        flags: &[&str],
    ) -> Result<Option<Entry>> {
        self.read_during(self.call(driver), key, flags).await
    }

    pub(super) async fn read_during(
        &self,
        call: Call,
        key: &Key<'_>,
        flags: &[&str],
    ) -> Result<Option<Entry>> {
        let mut request = Request::with_capacity(key.text().len() + 24);
        let command = request.command(MetaOp::Get, key.text())?;
        command.flags(flags).token().end();
        let read = |response: &mut Response| match response.code {
            ReturnCode::Va => Some(entry(response)),
            ReturnCode::En => Some(None),
            _ => None,
        };
        self.execute(call, key, Retry::Read, &request, read).await
    }

    pub(super) async fn has(&self, driver: Driver, key: &Key<'_>) -> Result<bool> {
        let call = self.call(driver);
        let mut request = Request::with_capacity(key.text().len() + 24);
        let command = request.command(MetaOp::Get, key.text())?;
        command.flag("s").token().end();
        let read = |response: &mut Response| is_entry(response);
        self.execute(call, key, Retry::Read, &request, read).await
    }

    pub(super) async fn set(
        &self,
        driver: Driver,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<()> {
        let value = into_bytes(entry)?;
        if value.len() > VALUE_MAX {
            // Such a value is not sent. The server would have removed the old entry: so does this.
            self.delete(driver, key).await?;
            return Err(too_large());
        }
        let call = self.call(driver);
        let mut request = Request::with_capacity(key.text().len() + value.len() + 64);
        let command = request.command(MetaOp::Set, key.text())?.length(&value)?;
        command.number('T', exptime(ttl)).token().value(&value);
        let read = |response: &mut Response| (response.code == ReturnCode::Hd).then_some(());
        self.execute(call, key, Retry::Idempotent, &request, read)
            .await
    }

    pub(super) async fn add(
        &self,
        driver: Driver,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let value = into_bytes(entry)?;
        let (server, call) = (self.server(key), self.call(driver));
        loop {
            let mut request = Request::with_capacity(2 * key.text().len() + value.len() + 96);
            request.look(key.text())?;
            let command = request.command(MetaOp::Set, key.text())?.length(&value)?;
            command.flag("ME").number('T', exptime(ttl)).token();
            request.value(&value);
            let read =
                |response: &Response, looked| Some((response.succeeded(ReturnCode::Ns)?, looked));
            let added = server.execute_after_look(Retry::Never, &request, call, read);
            let cas = match added.await.map_err(|failure| server.error(failure))? {
                (true, _) => return Ok(true),
                (false, Some(Looked::Entry)) => return Ok(false),
                (false, Some(Looked::Claim(cas))) => cas,
                // It was added in between, or the first response was lost.
                (false, Some(Looked::Nothing) | None) => continue,
            };
            if self
                .replace_claim(key, &value, exptime(ttl), cas, call)
                .await?
            {
                return Ok(true);
            }
        }
    }

    /// Replaces a claim by a value. Returns whether the claim had not changed.
    pub(super) async fn replace_claim(
        &self,
        key: &Key<'_>,
        value: &[u8],
        exptime: u64,
        cas: u64,
        call: Call,
    ) -> Result<bool> {
        let mut request = Request::with_capacity(key.text().len() + value.len() + 96);
        // A server without CAS numbers would store anything.
        let has_number = cas != 0;
        if !has_number {
            request.command(MetaOp::Delete, key.text())?.token().end();
            let read = |response: &mut Response| swapped(response);
            self.execute(call, key, Retry::Never, &request, read)
                .await?;
            request = Request::with_capacity(key.text().len() + value.len() + 96);
        }
        let mut command = request.command(MetaOp::Set, key.text())?.length(value)?;
        command = match has_number {
            true => command.number('C', cas),
            false => command.flag("ME"),
        };
        command.number('T', exptime).token();
        request.value(value);
        let read = |response: &mut Response| swapped(response);
        self.execute(call, key, Retry::Never, &request, read).await
    }

    pub(super) async fn delete(&self, driver: Driver, key: &Key<'_>) -> Result<bool> {
        let (server, call) = (self.server(key), self.call(driver));
        let mut request = Request::with_capacity(2 * key.text().len() + 48);
        request.look(key.text())?;
        request.command(MetaOp::Delete, key.text())?.token().end();
        // False is wrong if this is sent again, and the first time removed the entry: see `Retry::Idempotent`.
        let read = |response: &Response, looked| {
            let is_removed = response.succeeded(ReturnCode::Nf)?;
            // What is deleted although nothing was found was stored in between.
            Some(is_removed && !matches!(looked, Some(Looked::Claim(_))))
        };
        let deleted = server.execute_after_look(Retry::Idempotent, &request, call, read);
        deleted.await.map_err(|failure| server.error(failure))
    }

    pub(super) async fn touch(
        &self,
        driver: Driver,
        key: &Key<'_>,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let call = self.call(driver);
        let mut request = Request::with_capacity(key.text().len() + 32);
        let command = request.command(MetaOp::Get, key.text())?;
        command.flag("s").number('T', exptime(ttl)).token().end();
        let read = |response: &mut Response| is_entry(response);
        self.execute(call, key, Retry::Idempotent, &request, read)
            .await
    }

    /// Sends a no-op to every server, and returns the first error.
    pub(super) async fn ping(&self, driver: Driver) -> Result<()> {
        let call = self.call(driver);
        let mut request = Request::default();
        request.noop();
        let mut result = Ok(());
        for server in &self.servers {
            let pong = server.execute(Retry::Read, &request, call, |response| {
                (response.code == ReturnCode::Mn).then_some(())
            });
            result = result.and(pong.await.map_err(|failure| server.error(failure)));
        }
        result
    }
}

/// Returns whether a command found an entry: `None` if the response does not fit the command. An empty item is a
/// claim.
fn is_entry(response: &Response) -> Option<bool> {
    match response.code {
        ReturnCode::Hd => Some(response.size? > 0),
        ReturnCode::En => Some(false),
        _ => None,
    }
}

/// Returns the bytes that are stored for an entry.
pub(super) fn into_bytes(entry: Entry) -> Result<Vec<u8>> {
    match entry.payload {
        Payload::Bytes(bytes) => Ok(bytes),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "a Memcached store holds bytes, not objects; encode the value first",
        )),
    }
}
