//! The servers of a store: which of them holds a key, and the operations on one key.

use std::sync::Arc;
use std::time::Duration;

use cacheio_core::__private::{Opens, SharedState};
use memcache::exp::{MetaOp, ReturnCode};

use super::call::{Call, Driver};
use super::exptime::exptime;
use super::protocol::{Request, Response, VALUE_MAX, too_large};
use super::replace::entry;
use super::retry::Retry;
use super::router::Router;
use super::server::Server;
use crate::store::{ClaimMode, Claimed, Entry, Key, Payload, Settlement};
use crate::{Error, ErrorKind, Result};

pub(super) struct Cluster {
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) router: Router,
    pub(super) timeout: Duration,
    pub(super) opens: Opens,
    pub(super) shared_state: Arc<SharedState>,
}

/// Whether a write replaces a live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteMode {
    Set,
    Add,
}

impl Cluster {
    /// Starts a call whose time begins now.
    pub(super) fn call(&self, driver: Driver) -> Call {
        Call::new(driver, self.timeout)
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
    async fn execute<T>(
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
            ReturnCode::Va => Some(Some(entry(response))),
            ReturnCode::En => Some(None),
            _ => None,
        };
        self.execute(call, key, Retry::Read, &request, read).await
    }

    pub(super) async fn has(&self, driver: Driver, key: &Key<'_>) -> Result<bool> {
        let call = self.call(driver);
        let mut request = Request::with_capacity(key.text().len() + 24);
        request.command(MetaOp::Get, key.text())?.token().end();
        let read = |response: &mut Response| response.succeeded(ReturnCode::En);
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
        self.write(driver, key, &value, ttl, WriteMode::Set).await?;
        Ok(())
    }

    pub(super) async fn add(
        &self,
        driver: Driver,
        key: &Key<'_>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> Result<bool> {
        let value = into_bytes(entry)?;
        self.write(driver, key, &value, ttl, WriteMode::Add).await
    }

    /// Writes a value, and returns whether it was stored.
    async fn write(
        &self,
        driver: Driver,
        key: &Key<'_>,
        value: &[u8],
        ttl: Option<Duration>,
        mode: WriteMode,
    ) -> Result<bool> {
        let call = self.call(driver);
        let mut request = Request::with_capacity(key.text().len() + value.len() + 64);
        let command = request.command(MetaOp::Set, key.text())?.length(value)?;
        let (command, retry) = match mode {
            WriteMode::Set => (command, Retry::Idempotent),
            WriteMode::Add => (command.flag("ME"), Retry::Never),
        };
        command.number('T', exptime(ttl)).token().value(value);
        let read = |response: &mut Response| response.succeeded(ReturnCode::Ns);
        self.execute(call, key, retry, &request, read).await
    }

    pub(super) async fn delete(&self, driver: Driver, key: &Key<'_>) -> Result<bool> {
        let call = self.call(driver);
        let mut request = Request::with_capacity(key.text().len() + 24);
        request.command(MetaOp::Delete, key.text())?.token().end();
        // False is wrong if this is sent again, and the first time removed the entry: see `Retry::Idempotent`.
        let read = |response: &mut Response| response.succeeded(ReturnCode::Nf);
        self.execute(call, key, Retry::Idempotent, &request, read)
            .await
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
        command.number('T', exptime(ttl)).token().end();
        let read = |response: &mut Response| response.succeeded(ReturnCode::En);
        self.execute(call, key, Retry::Idempotent, &request, read)
            .await
    }

    /// Claims nothing: processes do not share loads through Memcached.
    pub(super) async fn claim(
        &self,
        _: Driver,
        keys: &[Key<'_>],
        _: ClaimMode,
    ) -> Result<Vec<Claimed>> {
        Ok(keys.iter().map(|_| Claimed::Unsupported).collect())
    }

    /// Stores nothing, because there are no claims.
    pub(super) async fn settle(&self, _: Driver, loads: Vec<Settlement<'_>>) -> Result<Vec<bool>> {
        Ok(vec![false; loads.len()])
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
