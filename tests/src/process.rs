//! A process that the tests direct, line by line. It is the test binary itself, which runs only its
//! test `child`: a call of [`child`].

#![allow(clippy::missing_panics_doc)]

use std::collections::{HashMap, VecDeque};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cacheio_async::AsyncCache;
use cacheio_core::{Options, Update};
use cacheio_sync::Cache;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use crate::api::{CacheApi, World};
use crate::history::record;

const URL: &str = "CACHEIO_TESTS_CHILD_ON";
const WORLD: &str = "CACHEIO_TESTS_CHILD_IN";
/// How long a line may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(40);

/// A child process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: ChildStdin,
    lines: Arc<(Mutex<VecDeque<String>>, Condvar)>,
}

impl Process {
    /// Starts a process with a cache on a URL.
    pub fn start(url: &str, world: World) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(URL, url)
            .env(
                WORLD,
                if world == World::Tasks {
                    "tasks"
                } else {
                    "threads"
                },
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::<(Mutex<VecDeque<String>>, Condvar)>::default();
        let (output, read) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("> ") {
                    read.0.lock().unwrap().push_back(line.to_owned());
                    read.1.notify_all();
                }
            }
        });
        let mut process = Self {
            input: child.stdin.take().unwrap(),
            child,
            lines,
        };
        process.expect("ready");
        process
    }

    /// Sends a line: see `step`.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Waits until the child says this, and returns how long that took.
    pub fn expect(&mut self, line: &str) -> Duration {
        let begun = Instant::now();
        self.find(line, |said| said == line);
        begun.elapsed()
    }

    /// Waits until the child says one of these, and returns it.
    pub fn find_one_of(&mut self, lines: &[&str]) -> String {
        self.find(&format!("one of {lines:?}"), |said| lines.contains(&said))
    }

    /// Sends a line, and waits until the child says that it is done.
    pub fn run(&mut self, line: &str) {
        self.tell(line);
        self.expect(&format!("done {line}"));
    }

    /// Returns the value of a key.
    pub fn get(&mut self, key: &str) -> Option<String> {
        self.tell(&format!("get {key}"));
        let prefix = format!("found {key} ");
        let found = self.find(&prefix, |said| said.starts_with(&prefix));
        found
            .strip_prefix(&prefix)
            .filter(|value| *value != "-")
            .map(str::to_owned)
    }

    /// Returns how many loads of other processes it waited for.
    pub fn shared_waits(&mut self) -> u64 {
        self.tell("stats");
        self.count("waits ")
    }

    /// Waits until the child says how many loaders it has run.
    pub fn loaded(&mut self) -> u64 {
        self.count("loaded ")
    }

    /// Returns how many hits in L1 it had.
    pub fn l1_hits(&mut self) -> u64 {
        self.tell("l1");
        self.count("l1 hits ")
    }

    fn count(&mut self, prefix: &str) -> u64 {
        let said = self.find(prefix, |said| said.starts_with(prefix));
        said.strip_prefix(prefix).unwrap().parse().unwrap()
    }

    /// Waits until it has waited for this many loads of other processes.
    pub fn until_shared_waits(&mut self, waits: u64) {
        while self.shared_waits() < waits {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns whether this is among the lines of the child that were not read yet.
    pub fn has_said(&self, line: &str) -> bool {
        self.lines.0.lock().unwrap().iter().any(|said| said == line)
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops the process until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Lets a stopped process go on.
    pub fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    fn find(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let (lines, arrived) = &*self.lines;
        let until = Instant::now() + PATIENCE;
        let mut lines = lines.lock().unwrap();
        loop {
            if let Some(at) = lines.iter().position(|said| is_it(said)) {
                return lines.remove(at).unwrap();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "the process has not said {what:?} but {lines:?}"
            );
            lines = arrived.wait_timeout(lines, left).unwrap().0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what another process says, if this one was started by [`Process::start`].
pub fn child() {
    let Ok(url) = env::var(URL) else {
        return;
    };
    let is_tasks = env::var(WORLD).unwrap() == "tasks";
    let world = if is_tasks {
        World::Tasks
    } else {
        World::Threads
    };
    world.run(async {
        let cache = match world {
            World::Threads => CacheApi::Threads(Cache::from_url(&url).unwrap()),
            World::Tasks => CacheApi::Tasks(AsyncCache::from_url(&url).unwrap()),
        };
        cache.set("warm", "").await.unwrap();
        let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                send.send(line).unwrap();
            }
        });
        say("ready");
        let mut gates = HashMap::new();
        while let Some(line) = lines.recv().await {
            step(&cache, &line, &mut gates).await;
        }
    });
}

type Gates = HashMap<String, oneshot::Sender<Result<String, String>>>;

/// Does what a line says. A load is named. It says `loading <name>` when its loader begins, and `<name>=`
/// and its value or error when it ends.
async fn step(cache: &CacheApi, line: &str, gates: &mut Gates) {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["load", name, key] => begin(cache, gates, name, key, Kind::Inline(Options::new())),
        ["skip", name, key] => {
            let options = Options::ttl(Duration::ZERO);
            begin(cache, gates, name, key, Kind::Inline(options));
        }
        ["refresh", name, key] => {
            let options = Options::new().force_refresh();
            begin(cache, gates, name, key, Kind::Inline(options));
        }
        ["revive", name, key] => {
            let options = Options::new().stale_for(Duration::from_secs(60));
            begin(cache, gates, name, key, Kind::Inline(options));
        }
        ["load_tagged", name, key, tag] => {
            let options = Options::new().tags([tag.to_owned()]);
            begin(cache, gates, name, key, Kind::Inline(options));
        }
        ["fetch", name, key] => begin(cache, gates, name, key, Kind::Fetch),
        ["batch", name, keys] => begin(cache, gates, name, keys, Kind::Batch),
        ["nest", name, key, other] => {
            let (gate, passed) = oneshot::channel();
            gates.insert(format!("{name}i"), gate);
            begin(
                cache,
                gates,
                name,
                key,
                Kind::Nested(other.to_owned(), passed),
            );
        }
        ["finish", name, value] => gates.remove(name).unwrap().send(Ok(value.into())).unwrap(),
        ["fail", name] => gates
            .remove(name)
            .unwrap()
            .send(Err("failed".into()))
            .unwrap(),
        ["get", key] => {
            let found = match cache.get::<String>(key).await {
                Ok(found) => found,
                Err(_) => cache
                    .get::<i64>(key)
                    .await
                    .unwrap()
                    .map(|count| count.to_string()),
            };
            say(&format!("found {key} {}", found.as_deref().unwrap_or("-")));
        }
        // Loads as many keys, and says how many loaders it has run.
        ["cold", count] => {
            let before = cache.stats().loads;
            for key in 0..count.parse().unwrap() {
                let load = || async {
                    cache.world().sleep(Duration::from_millis(20)).await;
                    key
                };
                let loaded: u64 = cache.get_or_set(("cold", key), load).await;
                assert_eq!(loaded, key);
            }
            say(&format!("loaded {}", cache.stats().loads - before));
        }
        ["stats"] => say(&format!("waits {}", cache.stats().shared_waits)),
        ["l1"] => say(&format!("l1 hits {}", cache.stats().l1_hits)),
        _ => {
            match words[..] {
                ["set", key, value] => cache.set(key, value.to_owned()).await.unwrap(),
                // It has expired, and may be served stale.
                ["stale", key, value] => {
                    let options = Options::ttl(Duration::from_millis(1));
                    let options = options.stale_for(Duration::from_secs(60));
                    cache
                        .set_with(key, value.to_owned(), options)
                        .await
                        .unwrap();
                    cache.world().sleep(Duration::from_millis(5)).await;
                }
                ["add", key, value] => {
                    assert!(cache.add(key, value.to_owned()).await.unwrap());
                }
                ["increment", key] => assert_eq!(cache.increment(key, 1).await.unwrap(), 1),
                ["update", key, value] => {
                    let updated =
                        cache.update(key, |_: Option<String>| Update::Set(value.to_owned()));
                    assert_eq!(updated.await.unwrap().as_deref(), Some(value));
                }
                ["update_remove", key] => {
                    let updated = cache.update(key, |_: Option<String>| Update::Remove);
                    assert_eq!(updated.await.unwrap(), None);
                }
                ["take", key] => {
                    cache.take::<String>(key).await.unwrap();
                }
                ["delete", key] => assert!(!cache.delete(key).await.unwrap()),
                ["delete_many", key] => {
                    cache.delete_many(vec![key, "other"]).await.unwrap();
                }
                ["set_many", key, value] => {
                    let entries = [key, "other"].map(|key| (key, value.to_owned()));
                    cache.set_many(entries.to_vec()).await.unwrap();
                }
                ["clear"] => cache.clear().await.unwrap(),
                // Waits until the server of a key takes writes.
                ["until_up", key] => {
                    while cache.set(key, String::new()).await.is_err() {
                        cache.world().sleep(Duration::from_millis(10)).await;
                    }
                }
                ["set_tagged", key, value, tag] => {
                    let options = Options::new().tags([tag.to_owned()]);
                    cache
                        .set_with(key, value.to_owned(), options)
                        .await
                        .unwrap();
                }
                ["invalidate", tag] => {
                    cache.invalidate_tags(vec![tag.to_owned()]).await.unwrap();
                }
                ["history", role, path, until] => {
                    let until = Duration::from_nanos(until.parse().unwrap());
                    record(cache, path, until, role == "write").await;
                }
                ["remove", key] => assert!(cache.delete(key).await.unwrap()),
                _ => panic!("{line:?}"),
            }
            say(&format!("done {line}"));
        }
    }
}

enum Kind {
    Inline(Options),
    Fetch,
    Batch,
    /// Its loader loads another key, with a loader that has the name of the outer one and an `i`.
    Nested(String, oneshot::Receiver<Result<String, String>>),
}

fn begin(cache: &CacheApi, gates: &mut Gates, name: &str, key: &str, kind: Kind) {
    let (gate, passed) = oneshot::channel();
    gates.insert(name.to_owned(), gate);
    let (name, key) = (name.to_owned(), key.to_owned());
    cache.spawn(move |cache| async move {
        let pass = {
            let name = name.clone();
            async move || {
                say(&format!("loading {name}"));
                passed.await.unwrap()
            }
        };
        let loaded = match kind {
            Kind::Inline(options) => {
                let loaded = cache.get_or_try_set_with(key, options, pass).await;
                loaded.map_err(|error| error.to_string())
            }
            Kind::Fetch => {
                let loaded = cache.fetch(key, move |_| pass()).await;
                loaded.map_err(|error| error.to_string())
            }
            Kind::Batch => {
                let mut pass = Some(pass);
                let keys = key.split(',').map(str::to_owned).collect::<Vec<_>>();
                let load = |missing: Vec<String>| {
                    let pass = pass.take().expect("one loader");
                    async move {
                        let value = pass().await?;
                        let loaded = missing.into_iter().map(|key| (key, value.clone()));
                        Ok::<Vec<_>, String>(loaded.collect())
                    }
                };
                let loaded = cache.get_or_try_set_many(keys, load).await;
                let loaded = loaded.into_iter().map(|value| match value {
                    Ok(value) => value.unwrap_or_default(),
                    Err(error) => error.to_string(),
                });
                Ok(loaded.collect::<Vec<_>>().join(","))
            }
            Kind::Nested(other, passed) => {
                let (inner, name) = (cache.clone(), name.clone());
                let load = || async move {
                    let value = pass().await?;
                    let load = || async move {
                        say(&format!("loading {name}i"));
                        passed.await.unwrap()
                    };
                    let nested = inner.get_or_try_set(other, load).await;
                    let nested = nested.map_err(|error| error.to_string())?;
                    Ok::<_, String>(format!("{value}+{nested}"))
                };
                let loaded = cache.get_or_try_set(key, load).await;
                loaded.map_err(|error| error.to_string())
            }
        };
        say(&format!("{name}={}", loaded.unwrap_or_else(|error| error)));
    });
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\n> {line}").unwrap();
    output.flush().unwrap();
}
