//! What processes wrote and read, and when: by a clock that all of them share.

#![allow(clippy::missing_panics_doc)]

use std::fmt;
use std::fs;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cacheio_core::Options;
use rustix::time::{ClockId, clock_gettime};

use crate::api::{CacheApi, join_all};

/// The number of keys that are written and read.
pub const KEYS: u64 = 6;
/// How many callers of a process read.
const READERS: u64 = 3;

/// The time since the machine started, which all processes share.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// One call for one key. The writes of a key have increasing numbers, and its values are numbers of writes.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Before the call.
    pub began: Duration,
    /// After the call.
    pub ended: Duration,
    /// Its key.
    pub key: u64,
    /// What it did.
    pub event: Event,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A write, of a value or a removal.
    Write {
        /// The number of the write.
        number: u64,
        /// Whether it was carried out. Otherwise, it may have been.
        is_confirmed: bool,
    },
    /// A read.
    Read {
        /// The value.
        found: Option<u64>,
    },
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (began, ended) = (self.began.as_nanos(), self.ended.as_nanos());
        let (kind, number) = match self.event {
            Event::Write {
                number,
                is_confirmed,
            } => (if is_confirmed { 'w' } else { '?' }, number),
            Event::Read { found } => ('r', found.unwrap_or_default()),
        };
        write!(f, "{began} {ended} {} {kind} {number}", self.key)
    }
}

impl FromStr for Call {
    type Err = std::num::ParseIntError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let began = Duration::from_nanos(word().parse()?);
        let ended = Duration::from_nanos(word().parse()?);
        let key = word().parse()?;
        let kind = word();
        let number = word().parse()?;
        let event = match kind {
            "r" => Event::Read {
                found: (number > 0).then_some(number),
            },
            kind => Event::Write {
                number,
                is_confirmed: kind == "w",
            },
        };
        Ok(Self {
            began,
            ended,
            key,
            event,
        })
    }
}

/// Reads the calls that [`record`] has written.
pub fn read(path: &str) -> Vec<Call> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Reads until a time, and writes too if it is the writer. Then it writes all calls to a file.
pub(crate) async fn record(cache: &CacheApi, path: &str, until: Duration, is_writer: bool) {
    let calls = Arc::<Mutex<Vec<Call>>>::default();
    let mut callers: Vec<_> = (0..READERS)
        .map(|number| {
            let calls = Arc::clone(&calls);
            cache.spawn(move |cache| async move {
                for round in number.. {
                    if now() > until {
                        break;
                    }
                    let read = read_once(&cache, round).await;
                    let failed = read.is_none();
                    calls.lock().unwrap().extend(read.into_iter().flatten());
                    let pause = if failed { 10 } else { 1 };
                    cache.world().sleep(Duration::from_millis(pause)).await;
                }
            })
        })
        .collect();
    if is_writer {
        let calls = Arc::clone(&calls);
        callers.push(cache.spawn(move |cache| async move {
            for number in 1.. {
                if now() > until {
                    break;
                }
                let written = write_once(&cache, number).await;
                calls.lock().unwrap().extend(written);
                cache.world().sleep(Duration::from_millis(5)).await;
            }
        }));
    }
    join_all(callers).await;
    let lines: Vec<_> = calls.lock().unwrap().iter().map(Call::to_string).collect();
    fs::write(path, lines.join("\n")).unwrap();
}

/// Returns nothing if the read failed.
async fn read_once(cache: &CacheApi, round: u64) -> Option<Vec<Call>> {
    let began = now();
    let found = match round % 8 {
        0 => {
            let found = cache.get_many::<u64>((0..KEYS).collect()).await.ok()?;
            (0..KEYS).zip(found).collect()
        }
        _ => {
            let key = round / READERS % KEYS;
            vec![(key, cache.get::<u64>(key).await.ok()?)]
        }
    };
    let ended = now();
    let call = |(key, found)| Call {
        began,
        ended,
        key,
        event: Event::Read { found },
    };
    Some(found.into_iter().map(call).collect())
}

async fn write_once(cache: &CacheApi, number: u64) -> Vec<Call> {
    let key = number * 5 / 3 % KEYS;
    let began = now();
    let (keys, is_confirmed) = match number % 16 {
        0 => ((0..KEYS).collect(), cache.clear().await.is_ok()),
        1..=3 => {
            let keys = [key, (key + 1) % KEYS];
            let entries = keys.map(|key| (key, number)).to_vec();
            (keys.to_vec(), cache.set_many(entries).await.is_ok())
        }
        4..=6 => (vec![key], cache.delete(key).await.is_ok()),
        7..=9 => {
            // It is not known whether the value was stored.
            let options = Options::new().force_refresh();
            cache
                .get_or_set_with(key, options, || async { number })
                .await;
            (vec![key], false)
        }
        _ => (vec![key], cache.set(key, number).await.is_ok()),
    };
    let ended = now();
    let call = |key| Call {
        began,
        ended,
        key,
        event: Event::Write {
            number,
            is_confirmed,
        },
    };
    keys.into_iter().map(call).collect()
}
