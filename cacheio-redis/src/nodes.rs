//! The servers there are, and which of them has a key.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cacheio_core::Key;
use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::link::Link;
use crate::request::{Request, values};
use crate::slots::slot;

/// How many keys one command names at most: the server serves nobody else meanwhile.
const KEYS: usize = 1000;

pub(crate) struct Nodes {
    layout: Layout,
    timeout: Duration,
}

enum Layout {
    One(Links),
    Cluster(Arc<Cluster>),
}

/// The connections to one server: a key always takes the same one, so that what is written to it
/// keeps its order.
#[derive(Clone)]
pub(crate) struct Links(Arc<[Arc<Link>]>);

impl Links {
    pub(crate) fn new(links: impl IntoIterator<Item = Link>) -> Self {
        Self(links.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn of(&self, key: &Key<'_>) -> &Arc<Link> {
        &self.0[(key.hash() % self.0.len() as u64) as usize]
    }

    pub(crate) fn first(&self) -> &Arc<Link> {
        &self.0[0]
    }
}

/// A command on some of a call's keys, and the answer to it.
pub(crate) struct Part {
    pub(crate) keys: Vec<usize>,
    pub(crate) answer: Value,
}

impl Nodes {
    pub(crate) fn one(links: Links, timeout: Duration) -> Self {
        Self {
            layout: Layout::One(links),
            timeout,
        }
    }

    pub(crate) fn cluster(cluster: Cluster, timeout: Duration) -> Self {
        Self {
            layout: Layout::Cluster(Arc::new(cluster)),
            timeout,
        }
    }

    /// The value under a key.
    pub(crate) async fn get(&self, key: &Key<'_>) -> Result<Option<Vec<u8>>, Failure> {
        let deadline = self.deadline();
        match &self.layout {
            Layout::One(links) => links.of(key).get(key.text(), deadline).await,
            // On the heap, so that one server's calls carry nothing of it.
            Layout::Cluster(cluster) => Box::pin(cluster.get(key, deadline)).await,
        }
    }

    /// The answer to a request on one key.
    pub(crate) async fn ask(&self, key: &Key<'_>, request: &Request) -> Result<Value, Failure> {
        let deadline = self.deadline();
        match &self.layout {
            Layout::One(links) => links.of(key).ask(request, deadline).await,
            Layout::Cluster(cluster) => Box::pin(cluster.ask(key, request, deadline)).await,
        }
    }

    /// The answers to commands on several keys, `most` at a time; those to one server go out in one
    /// write, those to different servers at the same time.
    pub(crate) async fn ask_many(
        &self,
        keys: &[Key<'_>],
        most: usize,
        command: impl Fn(&[usize]) -> Cmd,
    ) -> Result<Vec<Part>, Failure> {
        let deadline = self.deadline();
        let most = most.min(KEYS);
        let groups = match &self.layout {
            // A step of a scan may find none.
            _ if keys.is_empty() => Vec::new(),
            Layout::One(Links(links)) if links.len() == 1 => {
                vec![Group::of_all(&links[0], keys.len(), most)]
            }
            _ => self.groups(keys, most, deadline).await?,
        };
        let mut asked = Vec::with_capacity(groups.len());
        for group in groups {
            let commands = group.parts.iter().map(|part| command(part)).collect();
            asked.push(self.ask_group(keys, group, commands, deadline));
        }
        let parts: Result<Vec<Vec<Part>>, Failure> = all(asked).await.into_iter().collect();
        Ok(parts?.into_iter().flatten().collect())
    }

    /// Which keys go out on which connection.
    async fn groups(
        &self,
        keys: &[Key<'_>],
        most: usize,
        deadline: Instant,
    ) -> Result<Vec<Group>, Failure> {
        let mut groups: Vec<Group> = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let (link, slot) = match &self.layout {
                Layout::One(links) => (Arc::clone(links.of(key)), 0),
                Layout::Cluster(cluster) => {
                    let link = cluster.link(key, deadline).await?;
                    (link, slot(key.text().as_bytes()))
                }
            };
            let known = groups
                .iter()
                .position(|group| Arc::ptr_eq(&group.link, &link));
            let group = known.unwrap_or_else(|| {
                groups.push(Group {
                    link,
                    parts: Vec::new(),
                    open: HashMap::new(),
                });
                groups.len() - 1
            });
            groups[group].add(at, slot, most);
        }
        Ok(groups)
    }

    async fn ask_group(
        &self,
        keys: &[Key<'_>],
        group: Group,
        commands: Vec<Cmd>,
        deadline: Instant,
    ) -> Result<Vec<Part>, Failure> {
        let Layout::Cluster(cluster) = &self.layout else {
            let answer = group.link.ask(&Request::many(commands), deadline).await?;
            let parts = group.parts.into_iter().zip(values(answer)?);
            return Ok(parts.map(|(keys, answer)| Part { keys, answer }).collect());
        };
        let request = Request::many(commands.iter().cloned());
        let answers = values(group.link.ask(&request, deadline).await?)?;
        let mut parts = Vec::with_capacity(answers.len());
        for ((part, command), mut answer) in group.parts.into_iter().zip(commands).zip(answers) {
            if let Value::ServerError(error) = answer {
                let failure = Failure::Redis(error.into());
                if !failure.is_redirection() {
                    return Err(failure);
                }
                // Not carried out: this part finds its own way.
                let request = Request::one(command);
                answer = cluster.ask(&keys[part[0]], &request, deadline).await?;
            }
            parts.push(Part { keys: part, answer });
        }
        Ok(parts)
    }

    /// A connection to each server that has keys. What was sent before, on others too, is done.
    pub(crate) async fn servers(&self) -> Result<Vec<Arc<Link>>, Failure> {
        let servers = self.all_links().await?;
        let busy = servers.iter().flat_map(|links| links.0.iter().skip(1));
        ping(busy, self.deadline()).await?;
        Ok(servers
            .iter()
            .map(|links| Arc::clone(links.first()))
            .collect())
    }

    /// Asks all servers whether they are there.
    pub(crate) async fn ping(&self) -> Result<(), Failure> {
        let servers = self.all_links().await?;
        ping(
            servers.iter().flat_map(|links| links.0.iter()),
            self.deadline(),
        )
        .await
    }

    async fn all_links(&self) -> Result<Vec<Links>, Failure> {
        match &self.layout {
            Layout::One(links) => Ok(vec![links.clone()]),
            Layout::Cluster(cluster) => cluster.masters(self.deadline()).await,
        }
    }

    /// When a call that begins now has to end.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.layout {
            Layout::One(links) => links.first().fmt(f),
            Layout::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

/// What goes out on one connection: the numbers of keys, in parts that one command may name.
struct Group {
    link: Arc<Link>,
    parts: Vec<Vec<usize>>,
    /// By slot, the part that has room.
    open: HashMap<u16, usize>,
}

impl Group {
    /// All of so many keys, where there is one connection.
    fn of_all(link: &Arc<Link>, keys: usize, most: usize) -> Self {
        let parts = (0..keys).step_by(most);
        Self {
            link: Arc::clone(link),
            parts: parts
                .map(|from| (from..keys.min(from + most)).collect())
                .collect(),
            open: HashMap::new(),
        }
    }

    fn add(&mut self, key: usize, slot: u16, most: usize) {
        match self.open.get(&slot) {
            Some(part) if self.parts[*part].len() < most => self.parts[*part].push(key),
            _ => {
                self.open.insert(slot, self.parts.len());
                self.parts.push(vec![key]);
            }
        }
    }
}

async fn ping<'a>(
    links: impl Iterator<Item = &'a Arc<Link>>,
    deadline: Instant,
) -> Result<(), Failure> {
    let ping = Request::one(redis::cmd("PING"));
    let pings = links.map(|link| link.ask(&ping, deadline));
    all(pings)
        .await
        .into_iter()
        .try_for_each(|pong| pong.map(drop))
}

/// Waits for all at once.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
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
