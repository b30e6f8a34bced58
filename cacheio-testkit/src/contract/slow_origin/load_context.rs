//! What a loader and its options decide about storing: TTLs, `skip`, `not_modified`,
//! `force_refresh`.

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(skip_removes_an_entry_that_cannot_be_read),
        case(a_loader_can_set_the_ttl),
        case(a_background_load_can_set_the_ttl),
        case(skip_returns_the_value_without_storing_it),
        case(not_modified_renews_the_entry),
        case(none_has_its_own_ttl),
        case(none_with_a_ttl_of_zero_is_not_stored),
        case(force_refresh_replaces_a_live_entry),
        case(not_modified_does_not_restore_an_invalidated_entry),
        case(force_refresh_loads_a_whole_batch),
    ]
}

async fn a_loader_can_set_the_ttl(fixture: Fixture) {
    let cache = fixture.open(Setup::default()).unwrap();
    let ttl = fixture.ttl();
    let load = move |context: LoadContext<String>| {
        context.ttl(ttl);
        std::future::ready(Ok::<_, String>("short".to_owned()))
    };
    assert_is(cache.fetch_entry("k", load).await, "short", Source::Loaded);
    assert_eq!(stored(&cache).await.as_deref(), Some("short"));
    fixture.expire(ttl);
    assert_eq!(stored(&cache).await, None);
}

async fn a_background_load_can_set_the_ttl(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let ttl = fixture.ttl();
    let load = move |context: LoadContext<String>| {
        context.ttl(ttl);
        std::future::ready(Ok::<_, String>("short".to_owned()))
    };
    assert_is(cache.fetch_entry("k", load).await, "old", Source::Hit);
    until_stored(&cache, "short").await;
    fixture.expire(ttl);
    assert_eq!(stored(&cache).await, None);
}

async fn skip_returns_the_value_without_storing_it(fixture: Fixture) {
    let cache = fixture.cache;
    let load = |context: LoadContext<String>| {
        context.skip();
        std::future::ready(Ok::<_, String>("v".to_owned()))
    };
    assert_is(cache.fetch_entry("k", load).await, "v", Source::Loaded);
    assert_eq!(stored(&cache).await, None);
}

async fn not_modified_renews_the_entry(fixture: Fixture) {
    // Without a timeout: a busy machine may be slow.
    let setup = Setup {
        soft_timeout: None,
        ..with_soft_timeout(&fixture)
    };
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let load = |context: LoadContext<String>| {
        assert_eq!(context.stale().map(String::as_str), Some("old"));
        std::future::ready(
            context
                .not_modified()
                .ok_or_else(|| "nothing older".to_owned()),
        )
    };
    assert_is(cache.fetch_entry("k", load).await, "old", Source::Loaded);
    assert_is(cache.fetch_entry("k", failing).await, "old", Source::Hit);
    assert_eq!(stored(&cache).await.as_deref(), Some("old"));
    // A missing entry has no previous value.
    let load = |context: LoadContext<String>| {
        let kept = context.not_modified();
        std::future::ready(kept.ok_or_else(|| "nothing older".to_owned()))
    };
    assert!(cache.fetch_entry("other", load).await.is_err());
}

async fn none_has_its_own_ttl(fixture: Fixture) {
    let setup = Setup {
        ttl_none: Some(fixture.ttl().into()),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    assert_eq!(cache.get_or_set("none", async || None::<u8>).await, None);
    assert_eq!(cache.get_or_set("some", async || Some(1)).await, Some(1));
    let batch = cache.get_or_set_many(vec!["x", "y"], async |keys: Vec<&str>| {
        keys.into_iter()
            .map(|key| (key, (key == "x").then_some(1)))
            .collect()
    });
    assert_eq!(batch.await, [Some(Some(1)), Some(None)]);
    let all = vec!["none", "some", "x", "y"];
    let stored = cache.get_many::<Option<u8>>(all.clone()).await.unwrap();
    assert_eq!(
        stored,
        [Some(None), Some(Some(1)), Some(Some(1)), Some(None)]
    );
    fixture.expire(fixture.ttl());
    let stored = cache.get_many::<Option<u8>>(all).await.unwrap();
    assert_eq!(stored, [None, Some(Some(1)), Some(Some(1)), None]);
}

async fn none_with_a_ttl_of_zero_is_not_stored(fixture: Fixture) {
    let cache = fixture.cache;
    let options = Options::new().ttl_none(Duration::ZERO);
    let got = cache.get_or_set_with("k", options.clone(), async || None::<u8>);
    assert_eq!(got.await, None);
    assert!(!cache.has("k").await.unwrap());
    let got = cache.get_or_set_with("k", options, async || Some(7));
    assert_eq!(got.await, Some(7));
    assert!(cache.has("k").await.unwrap());
}

async fn force_refresh_replaces_a_live_entry(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "old").await.unwrap();
    let forced = Options::new().force_refresh();
    let load = at_once("new".to_owned());
    assert_is(
        cache.fetch_entry_with("k", forced.clone(), load).await,
        "new",
        Source::Loaded,
    );
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
    let got = cache.get_or_set_with("k", forced.clone(), async || String::from("newer"));
    assert_eq!(got.await, "newer");
    assert_eq!(stored(&cache).await.as_deref(), Some("newer"));
    // A failed load returns its error and keeps the entry.
    assert!(cache.fetch_entry_with("k", forced, failing).await.is_err());
    assert_eq!(stored(&cache).await.as_deref(), Some("newer"));
}

async fn not_modified_does_not_restore_an_invalidated_entry(fixture: Fixture) {
    let (cache, _) = cache_with_tagged_old(&fixture).await;
    let gate = LoaderGate::new();
    let load = {
        let gate = gate.clone();
        move |context: LoadContext<String>| -> Load {
            Box::pin(async move {
                gate.pass().await;
                context
                    .not_modified()
                    .ok_or_else(|| "nothing older".to_owned())
            })
        }
    };
    // This call has no tags, but the entry that it renews has one.
    assert_is(cache.fetch_entry("k", load).await, "old", Source::Hit);
    gate.started().await;
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    gate.release();
    fixture.world.sleep(SETTLE).await;
    assert_eq!(stored(&cache).await, None);
}

async fn force_refresh_loads_a_whole_batch(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set_many(vec![("a", 1), ("b", 2)]).await.unwrap();
    let forced = Options::new().force_refresh();
    let load = async |missing: Vec<&'static str>| {
        missing
            .into_iter()
            .filter(|key| *key == "a")
            .map(|key| (key, 7))
            .collect()
    };
    let loaded = cache
        .get_or_set_many_with(vec!["a", "b"], forced, load)
        .await;
    assert_eq!(loaded, [Some(7), None]);
    let stored = cache.get_many::<i32>(vec!["a", "b"]).await.unwrap();
    assert_eq!(stored, [Some(7), None]);
}

async fn skip_removes_an_entry_that_cannot_be_read(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", vec![1, 2]).await.unwrap();
    let load = async |context: LoadContext<String>| {
        context.skip();
        Ok::<_, String>("new".to_owned())
    };
    assert_eq!(cache.fetch("k", load).await.unwrap(), "new");
    assert!(!cache.has("k").await.unwrap());
}
