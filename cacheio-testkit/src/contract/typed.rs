//! Typed handles, and their loaders.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::api::{Loaded, LoadingApi, TypedApi};
use cacheio_core::{BoxFuture, LoadContext};

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_handle_has_the_operations_of_its_cache),
        case(a_handle_adds_one_value).needs(Optional::Add),
        case(a_handle_touches_its_entries).needs(Optional::Touch),
        case(a_handle_updates_its_values).needs(Optional::Update),
        case(a_handle_gives_a_value_to_one_caller).needs(Optional::Take),
        case(a_handle_counts).needs(Optional::Increment),
        case(no_other_key_is_a_key_of_a_handle),
        case(handles_of_one_name_use_the_same_entries),
        case(the_options_of_a_handle_hold_for_its_calls),
        case(clear_and_tags_hold_for_the_entries_of_handles),
        case(get_loads_a_missing_value_once),
        case(get_loads_for_many_callers_once),
        case(a_failed_load_is_the_error_of_all_its_callers_and_stored_nowhere),
        case(the_loader_sets_the_ttl_and_may_keep_a_value_out),
        case(get_many_loads_what_is_missing_in_one_call),
        case(get_many_returns_what_it_found_with_the_error_of_the_others),
        case(get_many_without_a_batch_loader_gets_one_key_after_the_other),
        case(a_batch_and_a_get_do_not_load_the_same_key),
        case(refresh_loads_while_others_get_the_old_value),
        case(a_failed_refresh_leaves_the_old_value),
        case(invalidate_during_a_load_is_not_overwritten),
        case(invalidate_during_a_refresh_is_not_overwritten),
        case(a_set_during_a_load_stays),
        case(a_stale_value_is_served_when_the_loader_fails),
        case(a_due_value_is_refreshed_while_callers_get_it),
        case(a_loader_that_hangs_times_out),
    ]
}

/// The origin of loaders: it counts the loads of each key, and fails on demand.
#[derive(Clone, Default)]
struct Origin {
    loads: Arc<Mutex<Vec<Vec<u64>>>>,
    is_down: Arc<Mutex<bool>>,
}

impl Origin {
    fn load(&self, ids: Vec<u64>) -> Loaded<Vec<(u64, String)>> {
        // No user has an id of 100 or more.
        let users = ids.iter().filter(|id| **id < 100);
        let users = users.map(|id| (*id, format!("user {id}"))).collect();
        self.loads.lock().unwrap().push(ids);
        match *self.is_down.lock().unwrap() {
            true => Err("the origin is down".into()),
            false => Ok(users),
        }
    }

    fn one(&self, id: u64) -> Loaded<String> {
        let user = self.load(vec![id])?.pop();
        user.map(|(_, user)| user)
            .ok_or_else(|| format!("no user {id}"))
    }

    fn fail(&self, is_down: bool) {
        *self.is_down.lock().unwrap() = is_down;
    }

    /// Returns the keys of each load.
    fn loads(&self) -> Vec<Vec<u64>> {
        self.loads.lock().unwrap().clone()
    }
}

fn loading(cache: &CacheApi, options: Options, origin: &Origin) -> LoadingApi<u64, String> {
    let origin = origin.clone();
    cache
        .typed("user")
        .options(options)
        .loader(move |id, _| Box::pin(std::future::ready(origin.one(id))))
}

/// A handle whose loader waits at a gate.
fn gated(cache: &CacheApi, gate: &LoaderGate) -> LoadingApi<u64, String> {
    gated_with(cache, Options::new(), gate)
}

fn gated_with(cache: &CacheApi, options: Options, gate: &LoaderGate) -> LoadingApi<u64, String> {
    let gate = gate.clone();
    let load = move |id, _| -> BoxFuture<'static, Loaded<String>> {
        let gate = gate.clone();
        Box::pin(async move {
            gate.pass().await;
            Ok(format!("user {id}"))
        })
    };
    cache.typed("user").options(options).loader(load)
}

type LoadedUsers = Loaded<Vec<(u64, String)>>;

fn batch(origin: &Origin) -> impl Fn(Vec<u64>) -> BoxFuture<'static, LoadedUsers> + use<> {
    let origin = origin.clone();
    move |ids| Box::pin(std::future::ready(origin.load(ids)))
}

fn user(id: u64) -> String {
    format!("user {id}")
}

async fn a_handle_has_the_operations_of_its_cache(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    assert_eq!(users.get(1).await.unwrap(), None);
    assert!(!users.has(1).await.unwrap());
    users.set(1, user(1)).await.unwrap();
    users
        .set_with(2, user(2), Options::ttl(Ttl::Never))
        .await
        .unwrap();
    assert!(users.has(1).await.unwrap());
    assert_eq!(users.get(1).await.unwrap(), Some(user(1)));
    let shared = users.get_arc(2).await.unwrap();
    assert_eq!(shared.as_deref(), Some(&user(2)));
    users
        .set_many(vec![(3, user(3)), (4, user(4))])
        .await
        .unwrap();
    let found = users.get_many(vec![4, 9, 1]).await.unwrap();
    assert_eq!(found, [Some(user(4)), None, Some(user(1))]);
    let each = users.get_each(vec![3, 9]).await.unwrap();
    assert_eq!(each[0].as_ref().unwrap(), &Some(user(3)));
    assert_eq!(each[1].as_ref().unwrap(), &None);
    assert!(users.delete(1).await.unwrap());
    assert_eq!(users.delete_many(vec![1, 2, 3]).await.unwrap(), 2);
    assert_eq!(users.get_or_set(4, user(5)).await, user(4));
    assert_eq!(users.get_or_set(5, user(5)).await, user(5));
    let loaded = users.get_or_set_many(vec![4, 6], |id| user(*id)).await;
    assert_eq!(loaded, [Some(user(4)), Some(user(6))]);
    assert_eq!(users.get(6).await.unwrap(), Some(user(6)));
}

async fn a_handle_adds_one_value(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    assert!(users.add(1, user(1)).await.unwrap());
    assert!(!users.add(1, user(2)).await.unwrap());
    assert_eq!(users.get(1).await.unwrap(), Some(user(1)));
}

async fn a_handle_touches_its_entries(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let users = users.options(fixture.ttl());
    users
        .set_with(1, user(1), Options::ttl(Ttl::Never))
        .await
        .unwrap();
    // The TTL of the handle.
    assert!(users.touch(1, Ttl::Default).await.unwrap());
    assert!(!users.touch(2, Ttl::Default).await.unwrap());
    fixture.expire(fixture.ttl());
    assert!(!users.has(1).await.unwrap());
}

async fn a_handle_updates_its_values(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let users = users.options(fixture.ttl());
    let shout = |user: Option<String>| Update::Set(user.unwrap_or_default() + "!");
    users.update(1, shout).await.unwrap();
    assert_eq!(users.update(1, shout).await.unwrap(), Some("!!".into()));
    fixture.expire(fixture.ttl());
    assert!(!users.has(1).await.unwrap());
}

async fn a_handle_gives_a_value_to_one_caller(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    users.set(1, user(1)).await.unwrap();
    assert_eq!(users.take(1).await.unwrap(), Some(user(1)));
    assert_eq!(users.take(1).await.unwrap(), None);
}

async fn a_handle_counts(fixture: Fixture) {
    let visits: TypedApi<u64, i64> = fixture.cache.typed("visits");
    assert_eq!(visits.increment(1, 5).await.unwrap(), 5);
    assert_eq!(visits.decrement(1, 7).await.unwrap(), -2);
    assert_eq!(visits.get(1).await.unwrap(), Some(-2));
}

/// Texts that are one another's beginnings, with what means something in keys.
const TEXTS: [&str; 14] = [
    "", "a", "1", ":", "::", "%", "a:", "a:1", ":a", ":a:1", "::a:1", "a%3A1", " ", "a b\n",
];

async fn no_other_key_is_a_key_of_a_handle(fixture: Fixture) {
    let cache = &fixture.cache;
    let mut stored = Vec::new();
    for (index, name) in TEXTS.into_iter().enumerate() {
        let handle: TypedApi<String, (usize, usize)> = cache.typed(name);
        for (key_index, key) in TEXTS.into_iter().enumerate() {
            let value = (index, key_index);
            assert_eq!(handle.get(key.into()).await.unwrap(), None, "{name} {key}");
            handle.set(key.into(), value).await.unwrap();
            stored.push((handle.clone(), key, value));
        }
        // The text of each key is another key, and so is the tuple.
        for key in TEXTS {
            for other in [format!(":{name}:{key}"), format!("{name}:{key}")] {
                cache.set(other, "of the cache").await.unwrap();
            }
            cache.set((name, key), "of the cache").await.unwrap();
            cache.set(("", name, key), "of the cache").await.unwrap();
            cache.set(key, "of the cache").await.unwrap();
        }
    }
    for (handle, key, value) in &stored {
        let found = handle.get((*key).into()).await.unwrap();
        assert_eq!(found, Some(*value), "{handle:?} {key}");
    }
    for text in TEXTS {
        let found = cache.get::<String>(text).await.unwrap();
        assert_eq!(found.as_deref(), Some("of the cache"), "{text}");
    }
    let distinct: HashSet<_> = stored.iter().map(|(_, _, value)| *value).collect();
    assert_eq!(distinct.len(), TEXTS.len() * TEXTS.len());
}

async fn handles_of_one_name_use_the_same_entries(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let same: TypedApi<u64, String> = fixture.cache.typed("user");
    users.set(1, user(1)).await.unwrap();
    assert_eq!(same.get(1).await.unwrap(), Some(user(1)));
    assert!(same.clone().delete(1).await.unwrap());
    assert!(!users.has(1).await.unwrap());
}

async fn the_options_of_a_handle_hold_for_its_calls(fixture: Fixture) {
    let options = Options::ttl(fixture.ttl()).tags(["users"]);
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let users = users.options(options.clone());
    let origin = Origin::default();
    let loading = loading(&fixture.cache, options, &origin).batch_loader(batch(&origin));
    let store = async || {
        users.set(1, user(1)).await.unwrap();
        // The tags of the call are added, and its TTL comes first.
        let call = Options::ttl(fixture.ttl() * 4).tags(["two"]);
        users.set_with(2, user(2), call).await.unwrap();
        users.set_many(vec![(3, user(3))]).await.unwrap();
        users.get_or_set(4, user(4)).await;
        loading.get(5).await.unwrap();
        loading.get_many(vec![6]).await;
    };
    let live = async || {
        let live = users.get_many((1..=6).collect()).await.unwrap();
        let live = live.into_iter().zip(1..).filter(|(user, _)| user.is_some());
        live.map(|(_, id)| id).collect::<Vec<u64>>()
    };
    store().await;
    assert_eq!(live().await, [1, 2, 3, 4, 5, 6]);
    fixture.cache.invalidate_tags(vec!["two"]).await.unwrap();
    assert_eq!(live().await, [1, 3, 4, 5, 6]);
    fixture.cache.invalidate_tags(vec!["users"]).await.unwrap();
    assert_eq!(live().await, [0; 0]);
    store().await;
    fixture.expire(fixture.ttl());
    assert_eq!(live().await, [2]);
}

async fn clear_and_tags_hold_for_the_entries_of_handles(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let tagged = Options::new().tags(["t"]);
    users.set_with(1, user(1), tagged).await.unwrap();
    users.set(2, user(2)).await.unwrap();
    fixture.cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(!users.has(1).await.unwrap());
    assert!(users.has(2).await.unwrap());
    fixture.cache.clear().await.unwrap();
    assert!(!users.has(2).await.unwrap());
}

async fn get_loads_a_missing_value_once(fixture: Fixture) {
    let origin = Origin::default();
    let users = loading(&fixture.cache, Options::new(), &origin);
    for _ in 0..3 {
        assert_eq!(users.get(1).await.unwrap(), user(1));
    }
    assert_eq!(origin.loads(), [[1]]);
    // The handle without the loader reads the loaded values. It runs no loader.
    let typed = users.typed();
    assert_eq!(typed.get(1).await.unwrap(), Some(user(1)));
    assert_eq!(typed.get(2).await.unwrap(), None);
    users.invalidate(1).await.unwrap();
    assert_eq!(typed.get(1).await.unwrap(), None);
    assert_eq!(users.get(1).await.unwrap(), user(1));
    assert_eq!(origin.loads(), [[1], [1]]);
}

async fn get_loads_for_many_callers_once(fixture: Fixture) {
    let gate = LoaderGate::new();
    let users = gated(&fixture.cache, &gate);
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let users = users.clone();
            fixture
                .cache
                .spawn(|_| async move { users.get(1).await.unwrap() })
        })
        .collect();
    gate.started().await;
    let waiting = |cache: &CacheApi| cache.stats().waits == 19;
    fixture.cache.until(waiting).await;
    gate.release();
    for loaded in join_all(callers).await {
        assert_eq!(loaded, user(1));
    }
    assert_eq!(gate.runs(), 1);
}

async fn a_failed_load_is_the_error_of_all_its_callers_and_stored_nowhere(fixture: Fixture) {
    let origin = Origin::default();
    let users = loading(&fixture.cache, Options::new(), &origin);
    origin.fail(true);
    let error = users.get(1).await.unwrap_err();
    assert_eq!(
        error.load_error().map(String::as_str),
        Some("the origin is down")
    );
    assert!(!users.typed().has(1).await.unwrap());
    origin.fail(false);
    assert_eq!(users.get(1).await.unwrap(), user(1));
}

async fn the_loader_sets_the_ttl_and_may_keep_a_value_out(fixture: Fixture) {
    let ttl = fixture.ttl();
    let load = move |id: u64, context: LoadContext<String>| -> BoxFuture<'static, _> {
        match id {
            1 => context.ttl(ttl),
            2 => context.skip(),
            _ => {}
        }
        Box::pin(std::future::ready(Ok(user(id))))
    };
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let users = users.loader(load);
    let typed = users.typed();
    assert_eq!(users.get(1).await.unwrap(), user(1));
    // At once: its TTL may be short.
    assert!(typed.has(1).await.unwrap());
    for id in 2..=3 {
        assert_eq!(users.get(id).await.unwrap(), user(id));
    }
    assert!(!typed.has(2).await.unwrap());
    fixture.expire(ttl);
    assert!(!typed.has(1).await.unwrap());
    assert!(typed.has(3).await.unwrap());
}

async fn get_many_loads_what_is_missing_in_one_call(fixture: Fixture) {
    let origin = Origin::default();
    let users = loading(&fixture.cache, Options::new(), &origin).batch_loader(batch(&origin));
    users.typed().set(2, "Ada".into()).await.unwrap();
    let found = users.get_many(vec![1, 2, 100, 3, 1]).await;
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    let expected = [
        Some(user(1)),
        Some("Ada".into()),
        None,
        Some(user(3)),
        Some(user(1)),
    ];
    assert_eq!(found, expected);
    assert_eq!(origin.loads(), [[1, 100, 3]]);
    // They are stored: for `get`, too.
    assert_eq!(users.get(3).await.unwrap(), user(3));
    let found = users.get_many(vec![1, 3]).await;
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(origin.loads().len(), 1);
    assert!(users.get_many(vec![]).await.is_empty());
}

async fn get_many_returns_what_it_found_with_the_error_of_the_others(fixture: Fixture) {
    let origin = Origin::default();
    let users = loading(&fixture.cache, Options::new(), &origin).batch_loader(batch(&origin));
    users.typed().set(2, user(2)).await.unwrap();
    origin.fail(true);
    let found = users.get_many(vec![1, 2]).await;
    assert!(found[0].is_err());
    assert_eq!(found[1].as_ref().unwrap(), &Some(user(2)));
}

async fn get_many_without_a_batch_loader_gets_one_key_after_the_other(fixture: Fixture) {
    let origin = Origin::default();
    let users = loading(&fixture.cache, Options::new(), &origin);
    users.typed().set(2, user(2)).await.unwrap();
    let found = users.get_many(vec![1, 2, 100, 3, 1]).await;
    assert_eq!(origin.loads(), [[1], [100], [3]]);
    let error = found[2].as_ref().unwrap_err();
    assert_eq!(error.to_string(), "no user 100");
    for (index, id) in [(0, 1), (1, 2), (3, 3), (4, 1)] {
        assert_eq!(found[index].as_ref().unwrap(), &Some(user(id)));
    }
}

async fn a_batch_and_a_get_do_not_load_the_same_key(fixture: Fixture) {
    let (gate, origin) = (LoaderGate::new(), Origin::default());
    let users = gated(&fixture.cache, &gate).batch_loader(batch(&origin));
    let one = users.clone();
    let one = fixture.cache.spawn(|_| async move { one.get(1).await });
    gate.started().await;
    let many = users.clone();
    let many = fixture
        .cache
        .spawn(|_| async move { many.get_many(vec![1, 2]).await });
    fixture.cache.until(|cache| cache.stats().waits == 1).await;
    gate.release();
    assert_eq!(one.join().await.unwrap(), user(1));
    let many = many.join().await;
    assert!(many.iter().all(|user| user.as_ref().unwrap().is_some()));
    assert_eq!(origin.loads(), [[2]]);
}

async fn refresh_loads_while_others_get_the_old_value(fixture: Fixture) {
    let gate = LoaderGate::new();
    let users = gated(&fixture.cache, &gate);
    users.typed().set(1, "old".into()).await.unwrap();
    let refreshing = users.clone();
    let refreshed = fixture
        .cache
        .spawn(|_| async move { refreshing.refresh(1).await });
    gate.started().await;
    for _ in 0..3 {
        assert_eq!(users.get(1).await.unwrap(), "old");
    }
    gate.release();
    assert_eq!(refreshed.join().await.unwrap(), user(1));
    assert_eq!(users.get(1).await.unwrap(), user(1));
    assert_eq!(gate.runs(), 1);
    // A missing value is loaded.
    assert_eq!(users.refresh(2).await.unwrap(), user(2));
    assert_eq!(users.typed().get(2).await.unwrap(), Some(user(2)));
}

async fn a_failed_refresh_leaves_the_old_value(fixture: Fixture) {
    let origin = Origin::default();
    let options = Options::new().stale_for(fixture.ttl());
    let users = loading(&fixture.cache, options, &origin);
    users.typed().set(1, "old".into()).await.unwrap();
    origin.fail(true);
    assert!(users.refresh(1).await.is_err());
    assert_eq!(users.get(1).await.unwrap(), "old");
    assert_eq!(origin.loads().len(), 1);
}

/// Changes the entry during its load. Returns the value that the callers get, and the value that is stored afterwards.
async fn during_a_load(
    fixture: &Fixture,
    refresh: bool,
    change: impl AsyncFnOnce(&LoadingApi<u64, String>),
) -> Option<String> {
    let gate = LoaderGate::new();
    let users = gated(&fixture.cache, &gate);
    let loader = users.clone();
    let load = fixture.cache.spawn(move |_| async move {
        match refresh {
            true => loader.refresh(1).await,
            false => loader.get(1).await,
        }
    });
    gate.started().await;
    change(&users).await;
    gate.release();
    assert_eq!(load.join().await.unwrap(), user(1));
    users.typed().get(1).await.unwrap()
}

async fn invalidate_during_a_load_is_not_overwritten(fixture: Fixture) {
    let invalidate = async |users: &LoadingApi<u64, String>| users.invalidate(1).await.unwrap();
    assert_eq!(during_a_load(&fixture, false, invalidate).await, None);
}

async fn invalidate_during_a_refresh_is_not_overwritten(fixture: Fixture) {
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    users.set(1, "old".into()).await.unwrap();
    let invalidate = async |users: &LoadingApi<u64, String>| users.invalidate(1).await.unwrap();
    assert_eq!(during_a_load(&fixture, true, invalidate).await, None);
}

async fn a_set_during_a_load_stays(fixture: Fixture) {
    let set = async |users: &LoadingApi<u64, String>| {
        users.typed().set(1, "set".into()).await.unwrap();
    };
    let stored = during_a_load(&fixture, false, set).await;
    assert_eq!(stored.as_deref(), Some("set"));
}

async fn a_stale_value_is_served_when_the_loader_fails(fixture: Fixture) {
    let ttl = fixture.ttl();
    let origin = Origin::default();
    let options = Options::ttl(ttl).stale_for(ttl * 5).retry_after(ttl);
    let users = loading(&fixture.cache, options, &origin).batch_loader(batch(&origin));
    assert_eq!(users.get(1).await.unwrap(), user(1));
    fixture.expire(ttl);
    origin.fail(true);
    // One load fails, and none is started for `retry_after`.
    for _ in 0..3 {
        assert_eq!(users.get(1).await.unwrap(), user(1));
    }
    assert_eq!(
        users.get_many(vec![1]).await[0].as_ref().unwrap(),
        &Some(user(1))
    );
    assert_eq!(origin.loads().len(), 2);
    // For the handle without the loader it has expired. A caller that asks for a new value gets the error.
    assert_eq!(users.typed().get(1).await.unwrap(), None);
    assert!(users.refresh(1).await.is_err());
}

async fn a_due_value_is_refreshed_while_callers_get_it(fixture: Fixture) {
    let ttl = fixture.ttl() * 4;
    let gate = LoaderGate::new();
    let load_gate = gate.clone();
    let first = Arc::new(Mutex::new(true));
    let load = move |id, _| -> BoxFuture<'static, Loaded<String>> {
        let gate = load_gate.clone();
        let is_first = std::mem::take(&mut *first.lock().unwrap());
        Box::pin(async move {
            if is_first {
                return Ok("old".into());
            }
            gate.pass().await;
            Ok(user(id))
        })
    };
    let users: TypedApi<u64, String> = fixture.cache.typed("user");
    let users = users
        .options(Options::ttl(ttl).refresh_ahead(0.1))
        .loader(load);
    assert_eq!(users.get(1).await.unwrap(), "old");
    fixture.pass(ttl / 8).await;
    for _ in 0..3 {
        assert_eq!(users.get(1).await.unwrap(), "old");
    }
    gate.started().await;
    gate.release();
    while users.typed().get(1).await.unwrap() != Some(user(1)) {
        fixture.world.pause().await;
    }
    assert_eq!(gate.runs(), 1);
}

async fn a_loader_that_hangs_times_out(fixture: Fixture) {
    let gate = LoaderGate::new();
    let options = Options::new().hard_timeout(Duration::from_millis(20));
    let users = gated_with(&fixture.cache, options, &gate);
    let error = users.get(1).await.unwrap_err();
    assert!(matches!(error, LoadError::Timeout(_)), "{error}");
    gate.release();
}
