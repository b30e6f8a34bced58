//! More calls than the server can answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cacheio_core::ErrorKind;
use cacheio_tests::api::{CacheApi, join_all};
use cacheio_tests::servers::Proxy;

use crate::env::{FaultEnv, FaultyServer};

const TIMEOUT: Duration = Duration::from_millis(500);
const SIZE: usize = 1_000;
/// The server can transfer so many bytes a second.
const RATE: usize = 200 * SIZE;
/// Each of them transfers one value in a timeout: together, four times as many as the server can.
const CALLERS: usize = 400;
const LENGTH: Duration = Duration::from_secs(4);

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Set,
    GetMany,
}

impl Operation {
    /// Returns how many values a call transfers.
    fn values(self) -> usize {
        match self {
            Self::Get | Self::Set => 1,
            Self::GetMany => 4,
        }
    }

    /// Calls once; returns how many bytes of values were transferred for a caller that got them.
    async fn call(self, cache: &CacheApi, key: usize) -> cacheio_core::Result<usize> {
        match self {
            Self::Get => {
                let value = cache.get::<String>(key).await?;
                assert_eq!(value, Some(value_of(key)));
                Ok(SIZE)
            }
            Self::Set => cache.set(key, value_of(key)).await.map(|()| SIZE),
            Self::GetMany => {
                let keys: Vec<_> = (key..key + 4).collect();
                let expected: Vec<_> = keys.iter().map(|key| Some(value_of(*key))).collect();
                assert_eq!(cache.get_many::<String>(keys).await?, expected);
                Ok(SIZE * 4)
            }
        }
    }
}

fn value_of(key: usize) -> String {
    format!("{key:0width$}", width = SIZE - 2)
}

/// What came of the calls.
#[derive(Default)]
struct Outcome {
    useful: AtomicUsize,
    failed: AtomicUsize,
}

/// Checks that most of the values that an overloaded server transfers reach their callers. A machine
/// that is too busy to read the replies may cost an attempt.
async fn most_work_is_useful(env: FaultEnv<impl FaultyServer>, operation: Operation) {
    let mut failures = Vec::new();
    while failures.len() < 6 {
        match overload(&env, operation).await {
            Ok(()) => return,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("{failures:?}");
}

/// Asks for four times as many values as the server can transfer.
async fn overload(env: &FaultEnv<impl FaultyServer>, operation: Operation) -> Result<(), String> {
    let proxy = Proxy::to(env.server.address());
    let cache = env.via(proxy.address(), TIMEOUT);
    let direct = env.cache(Duration::from_secs(10));
    for key in 0..8 {
        direct.set(key, value_of(key)).await.unwrap();
    }
    cache.ping().await.unwrap();
    proxy.limit(RATE);
    let before = proxy.bytes_forwarded();
    let outcome = Arc::new(Outcome::default());
    let count = CALLERS / operation.values();
    let begun = Instant::now();
    let callers = (0..count).map(|caller| {
        let outcome = Arc::clone(&outcome);
        cache.spawn(move |cache| async move {
            let mut calls = 0;
            let mut next = begun + TIMEOUT * number(caller) / number(count);
            while begun.elapsed() < LENGTH {
                let pause = next.saturating_duration_since(Instant::now());
                cache.world().sleep(pause).await;
                next += TIMEOUT;
                let called = operation.call(&cache, caller % 5).await;
                calls += 1;
                match called {
                    Ok(useful) => outcome.useful.fetch_add(useful, Ordering::SeqCst),
                    Err(error) => {
                        let kind = error.kind();
                        let expected = [ErrorKind::Timeout, ErrorKind::Unavailable];
                        assert!(expected.contains(&kind), "{error}");
                        outcome.failed.fetch_add(1, Ordering::SeqCst)
                    }
                };
            }
            calls
        })
    });
    let calls = join_all(callers.collect()).await.into_iter().sum::<usize>();
    let forwarded = proxy.bytes_forwarded() - before;
    let useful = outcome.useful.load(Ordering::SeqCst);
    let failed = outcome.failed.load(Ordering::SeqCst);
    let opens = cache.stats().circuit_opens;
    let capacity = RATE * usize::try_from(LENGTH.as_secs()).unwrap();
    let is_right = failed > calls / 2
        && useful * 10 >= forwarded * 6
        && forwarded * 10 >= capacity * 6
        && opens == 0;
    is_right.then_some(()).ok_or_else(|| {
        format!(
            "of {calls} calls {failed} failed, the circuit opened {opens} times; of {capacity} bytes that the \
             server could transfer, it transferred {forwarded}, and {useful} reached a caller in time"
        )
    })
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap()
}

pub(crate) async fn most_replies_of_an_overloaded_server_reach_their_callers(
    env: FaultEnv<impl FaultyServer>,
) {
    most_work_is_useful(env, Operation::Get).await;
}

pub(crate) async fn most_writes_to_an_overloaded_server_are_confirmed_in_time(
    env: FaultEnv<impl FaultyServer>,
) {
    most_work_is_useful(env, Operation::Set).await;
}

pub(crate) async fn most_batches_of_an_overloaded_server_reach_their_callers(
    env: FaultEnv<impl FaultyServer>,
) {
    most_work_is_useful(env, Operation::GetMany).await;
}
