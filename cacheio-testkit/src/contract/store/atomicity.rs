//! Each call is atomic: no other call sees an intermediate state.

use std::collections::BTreeSet;

use tokio::sync::Barrier;

use super::*;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(a_reader_sees_the_old_value_or_the_new_one),
        case(of_several_deletes_one_removes_the_entry),
        case(of_several_adds_one_stores_its_entry).needs(Optional::Add),
        case(no_increment_is_lost).needs(Optional::Increment),
        case(of_several_takes_one_gets_the_entry).needs(Optional::Take),
        case(of_several_swaps_one_succeeds).needs(Optional::Update),
    ]
}

const CALLERS: usize = 8;
const KEYS: usize = 200;

/// Lets several callers do the same with all keys, at the same time. Returns the keys for which the call
/// returned `true`.
async fn race<F>(
    fixture: &Fixture,
    store: &StoreApi,
    call: impl Fn(StoreApi, String) -> F + Clone + Send + 'static,
) -> Vec<String>
where
    F: Future<Output = bool> + Send,
{
    let start = Arc::new(Barrier::new(CALLERS));
    let callers = (0..CALLERS).map(|_| {
        let (store, call, start) = (store.clone(), call.clone(), Arc::clone(&start));
        fixture.world.spawn(async move {
            start.wait().await;
            let mut won = Vec::new();
            for key in keys() {
                if call(store.clone(), key.clone()).await {
                    won.push(key);
                }
            }
            won
        })
    });
    join_all(callers.collect()).await.concat()
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|key| format!("k{key}"))
}

/// Checks that one caller has won for each key.
fn check_won(won: &[String], promise: &str) {
    let distinct: BTreeSet<_> = won.iter().collect();
    let (calls, keys) = (won.len(), distinct.len());
    assert!(
        (calls, keys) == (KEYS, KEYS),
        "{promise}: of {CALLERS} concurrent callers one gets `true` for each of {KEYS} keys, \
         but {calls} did, for {keys} keys"
    );
}

async fn a_reader_sees_the_old_value_or_the_new_one(fixture: Fixture) {
    let store = fixture.store();
    let value = |letter: &str| letter.repeat(50_000);
    store.set("k", &value("a"), None).await.unwrap();
    let writer = {
        let store = store.clone();
        fixture.world.spawn(async move {
            for letter in ["b", "c", "d", "e"].into_iter().cycle().take(100) {
                store.set("k", &letter.repeat(50_000), None).await.unwrap();
            }
        })
    };
    let readers = (0..3).map(|_| {
        let store = store.clone();
        fixture.world.spawn(async move {
            for _ in 0..100 {
                let found = store.get("k").await.unwrap();
                let found = found.expect("`set` replaces an entry without removing it before");
                let first = &found[..found.len().min(1)];
                assert!(
                    found.len() == 50_000 && found == first.repeat(50_000),
                    "a reader sees the value before a `set` or the one after it, and never a part of one"
                );
            }
        })
    });
    join_all(readers.chain([writer]).collect()).await;
}

async fn of_several_deletes_one_removes_the_entry(fixture: Fixture) {
    let store = fixture.store();
    for key in keys() {
        store.set(&key, "value", None).await.unwrap();
    }
    let won = race(&fixture, &store, |store, key| async move {
        store.delete(&key).await.unwrap()
    });
    check_won(&won.await, "`delete` is atomic");
}

async fn of_several_adds_one_stores_its_entry(fixture: Fixture) {
    let store = fixture.store();
    let won = race(&fixture, &store, |store, key| async move {
        store.add(&key, "value", None).await.unwrap()
    });
    check_won(&won.await, "`add` is atomic");
}

async fn no_increment_is_lost(fixture: Fixture) {
    let store = fixture.store();
    race(&fixture, &store, |store, _| async move {
        store.increment("count", 1, None).await.unwrap();
        true
    })
    .await;
    let count = store.increment("count", 0, None).await.unwrap();
    let expected = i64::try_from(CALLERS * KEYS).unwrap();
    assert_eq!(
        count, expected,
        "`increment` is atomic: none of {expected} concurrent increments is lost"
    );
}

async fn of_several_takes_one_gets_the_entry(fixture: Fixture) {
    let store = fixture.store();
    for key in keys() {
        store.set(&key, "value", None).await.unwrap();
    }
    let won = race(&fixture, &store, |store, key| async move {
        store.take(&key).await.unwrap().is_some()
    });
    check_won(&won.await, "`take` is atomic");
}

async fn of_several_swaps_one_succeeds(fixture: Fixture) {
    let store = fixture.store();
    for key in keys() {
        store.set(&key, "old", None).await.unwrap();
    }
    let won = race(&fixture, &store, |store, key| async move {
        let read = store.get_entry(&key).await.unwrap();
        if read.as_ref().map(text).as_deref() != Some("old") {
            return false;
        }
        let new = Some(("new", TtlChange::Set(None)));
        store.compare_and_swap(&key, read, new).await.unwrap()
    });
    check_won(&won.await, "`compare_and_swap` is atomic");
}
