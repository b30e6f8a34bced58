//! The servers there are, and which of them has a key.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cacheio_core::Key;
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::failure::Failure;
use super::link::Link;
use super::request::{Request, values};

/// How many keys one command names at most: the server serves nobody else meanwhile.
const KEYS: usize = 1000;

pub(super) struct Nodes {
    links: Box<[Arc<Link>]>,
    timeout: Duration,
}

/// A command on some of a call's keys, and the answer to it.
pub(super) struct Part {
    pub(super) keys: Vec<usize>,
    pub(super) answer: Value,
}

impl Nodes {
    pub(super) fn new(links: impl IntoIterator<Item = Link>, timeout: Duration) -> Self {
        Self {
            links: links.into_iter().map(Arc::new).collect(),
            timeout,
        }
    }

    /// The value under a key.
    pub(super) async fn get(&self, key: &Key<'_>) -> Result<Option<Vec<u8>>, Failure> {
        self.link(key.hash()).get(key.text(), self.deadline()).await
    }

    /// The answer to a request on one key.
    pub(super) async fn ask(&self, key: &Key<'_>, request: &Request) -> Result<Value, Failure> {
        self.link(key.hash()).ask(request, self.deadline()).await
    }

    /// The answers to commands on several keys, `most` at a time; those to one server go out in one
    /// write, those to different servers at the same time.
    pub(super) async fn ask_many(
        &self,
        keys: &[Key<'_>],
        most: usize,
        command: impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        let deadline = self.deadline();
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); self.links.len()];
        for (at, key) in keys.iter().enumerate() {
            groups[self.index(key.hash())].push(at);
        }
        let command = &command;
        let asked = groups
            .into_iter()
            .zip(&self.links)
            .filter(|(keys, _)| !keys.is_empty())
            .map(|(keys, link)| async move {
                let parts: Vec<Vec<usize>> =
                    keys.chunks(most.min(KEYS)).map(<[usize]>::to_vec).collect();
                let request = Request::many(parts.iter().map(|part| command(part)));
                let answers = values(link.ask(&request, deadline).await?)?;
                Ok(parts
                    .into_iter()
                    .zip(answers)
                    .map(|(keys, answer)| Part { keys, answer })
                    .collect::<Vec<_>>())
            });
        let parts: Result<Vec<Vec<Part>>, Failure> = all(asked).await.into_iter().collect();
        Ok(parts?.into_iter().flatten().collect())
    }

    /// All servers that have keys; one connection to each.
    pub(super) async fn servers(&self) -> Result<Vec<Arc<Link>>, Failure> {
        // What was sent on other connections is to be done before the first is asked for keys.
        if self.links.len() > 1 {
            self.ping().await?;
        }
        Ok(vec![Arc::clone(&self.links[0])])
    }

    /// When a call that begins now has to end.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Asks all servers whether they are there.
    pub(super) async fn ping(&self) -> Result<(), Failure> {
        let ping = Request::one(redis::cmd("PING"));
        let deadline = self.deadline();
        let pings = self.links.iter().map(|link| link.ask(&ping, deadline));
        all(pings)
            .await
            .into_iter()
            .try_for_each(|pong| pong.map(drop))
    }

    fn link(&self, hash: u64) -> &Arc<Link> {
        &self.links[self.index(hash)]
    }

    fn index(&self, hash: u64) -> usize {
        (hash % self.links.len() as u64) as usize
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.links.first()).finish()
    }
}

/// Waits for all at once.
pub(super) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
