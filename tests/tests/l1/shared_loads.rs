//! A process that waits for the load of another one, where the server tells of changes: it does not ask again and again.

use std::sync::mpsc::channel;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cacheio_sync::Cache;
use cacheio_tests::servers::Redis;
use cacheio_tests::watchdog::guarded;

use crate::support::{LONG, open};

const MILLISECOND: Duration = Duration::from_millis(1);
/// How long a waiter does not ask if nothing is told.
const WAIT: Duration = Duration::from_millis(500);

/// Returns a cache that the server tells of changes.
fn tracked(server: &Redis) -> Cache {
    let cache = open(&server.url(), LONG);
    while !cache.stats().l1_trusted {
        cache.get::<i64>("warm").unwrap();
        sleep(MILLISECOND);
    }
    cache
}

/// Returns how many scripts the server has run: claims, and what renews and ends them.
fn scripts(server: &Redis) -> u64 {
    let info = server.run("INFO commandstats");
    let mut lines = info.text().lines();
    let calls = lines.find_map(|line| line.strip_prefix("cmdstat_eval:calls="));
    calls
        .and_then(|calls| calls.split(',').next())
        .map_or(0, |calls| calls.parse().unwrap())
}

/// Begins a load in one process, and the wait for it in another. Then it runs `then`, which gets what ends the load.
/// Returns what the other process got.
fn wait_for_load(
    server: &Redis,
    [holder, waiter]: [&Cache; 2],
    key: &str,
    then: impl FnOnce(&dyn Fn()),
) -> i64 {
    let ((begin, begun), (end, ended)) = (channel(), channel());
    let waits = waiter.stats().shared_waits;
    thread::scope(|scope| {
        scope.spawn(move || {
            holder.get_or_set(key, || {
                begin.send(()).unwrap();
                ended.recv().unwrap();
                1_i64
            })
        });
        begun.recv().unwrap();
        let waiting = scope.spawn(|| waiter.get_or_set(key, || 9_i64));
        while waiter.stats().shared_waits == waits {
            sleep(MILLISECOND);
        }
        // It has asked for the last time before it waits.
        let mut asked = scripts(server);
        let mut since = Instant::now();
        while since.elapsed() < WAIT / 5 {
            sleep(MILLISECOND);
            let now = scripts(server);
            if now > asked {
                (asked, since) = (now, Instant::now());
            }
        }
        then(&|| end.send(()).unwrap());
        let got = waiting.join().unwrap();
        // If it has not ended yet.
        let _ = end.send(());
        got
    })
}

#[test]
fn a_waiter_asks_twice_a_second_at_most_while_nothing_is_told() {
    guarded(|| {
        let server = Redis::start();
        let (holder, waiter) = (tracked(&server), tracked(&server));
        let got = wait_for_load(&server, [&holder, &waiter], "k", |end| {
            let (before, begun) = (scripts(&server), Instant::now());
            sleep(WAIT * 3);
            let asked = scripts(&server) - before;
            // The holder renews its claim once in a second.
            let rounds = begun.elapsed().as_millis() / WAIT.as_millis();
            let most = 2 * u64::try_from(rounds).unwrap() + 4;
            assert!(asked <= most, "{asked} scripts instead of {most}");
            end();
        });
        assert_eq!(got, 1);
        assert_eq!(waiter.stats().loads, 0);
    });
}

/// What ends the wait for the load of a key. It gets what ends the load.
type EndWait<'a> = dyn Fn(&str, &dyn Fn()) + 'a;

#[test]
fn a_waiter_is_woken_when_the_load_ends_or_the_key_is_written() {
    guarded(|| {
        let server = Redis::start();
        let caches = [&tracked(&server), &tracked(&server)];
        let [holder, waiter] = caches;
        let other = Cache::from_url(&server.url()).unwrap();
        let ends: [(&str, &EndWait<'_>, i64); 4] = [
            ("the load ends", &|_, end| end(), 1),
            (
                "its process writes",
                &|key, _| holder.set(key, 2_i64).unwrap(),
                2,
            ),
            (
                "another process writes",
                &|key, _| other.set(key, 2_i64).unwrap(),
                2,
            ),
            (
                "this process writes",
                &|key, _| waiter.set(key, 2_i64).unwrap(),
                2,
            ),
        ];
        for (what, end_wait, expected) in ends {
            let mut shortest = LONG;
            for round in 0..3 {
                let key = format!("{what}:{round}");
                let mut begun = Instant::now();
                let got = wait_for_load(&server, caches, &key, |end| {
                    begun = Instant::now();
                    end_wait(&key, end);
                });
                assert_eq!(got, expected, "{what}");
                shortest = shortest.min(begun.elapsed());
            }
            // Otherwise it would ask when the rest of the wait is over.
            assert!(shortest < WAIT * 3 / 5, "{what}: {shortest:?}");
        }
        assert_eq!(waiter.stats().loads, 0);
    });
}
