//! Tags. Where values are bytes, they are an error of kind `Unsupported`, and nothing is stored.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(invalidate_tags_makes_all_entries_with_the_tag_misses),
        case(set_replaces_the_tags),
        case(set_many_tags_all),
        case(add_replaces_an_entry_that_a_tag_invalidated),
        case(get_or_set_tags_the_entry_it_stores),
        case(touch_keeps_the_tags),
        case(one_of_several_tags_is_enough),
        case(an_unknown_tag_is_no_error),
    ]
}

fn tags(tags: &[&'static str]) -> Options {
    Options::new().tags(tags.iter().copied())
}

/// Returns whether the store supports tags. If it does not, checks that all calls with tags fail.
async fn supported(fixture: &Fixture) -> bool {
    if fixture.keeps_objects() {
        return true;
    }
    let cache = &fixture.cache;
    let refused = [
        cache.set_with("tagged", 1, tags(&["t"])).await.unwrap_err(),
        cache
            .set_many_with(vec![("tagged", 1)], tags(&["t"]))
            .await
            .unwrap_err(),
        cache.add_with("tagged", 1, tags(&["t"])).await.unwrap_err(),
        cache.invalidate_tags(vec!["t"]).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(!cache.has("tagged").await.unwrap());
    false
}

async fn invalidate_tags_makes_all_entries_with_the_tag_misses(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    for key in ["a", "b"] {
        cache.set_with(key, 1, tags(&["t"])).await.unwrap();
    }
    cache.set_with("other", 1, tags(&["u"])).await.unwrap();
    cache.set("untagged", 1).await.unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(!cache.has("a").await.unwrap());
    assert_eq!(cache.get::<i32>("b").await.unwrap(), None);
    assert!(cache.get_arc::<i32>("b").await.unwrap().is_none());
    assert_eq!(
        cache
            .get_many::<i32>(vec!["a", "b", "other", "untagged"])
            .await
            .unwrap(),
        [None, None, Some(1), Some(1)]
    );
    assert!(!cache.touch("a", Ttl::Never).await.unwrap());
    assert!(!cache.delete("a").await.unwrap());
    assert_eq!(cache.increment("b", 1).await.unwrap(), 1, "a new counter");
    cache.set_with("a", 2, tags(&["t"])).await.unwrap();
    assert_eq!(
        cache.get::<i32>("a").await.unwrap(),
        Some(2),
        "a later entry is valid"
    );
}

async fn set_replaces_the_tags(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    cache.set_with("without", 1, tags(&["t"])).await.unwrap();
    cache.set("without", 2).await.unwrap();
    cache.set_with("moved", 1, tags(&["t"])).await.unwrap();
    cache.set_with("moved", 2, tags(&["u"])).await.unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(cache.has("without").await.unwrap() && cache.has("moved").await.unwrap());
    cache.invalidate_tags(vec!["u"]).await.unwrap();
    assert!(cache.has("without").await.unwrap() && !cache.has("moved").await.unwrap());
}

async fn set_many_tags_all(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    cache
        .set_many_with(vec![("a", 1), ("b", 2)], tags(&["t"]))
        .await
        .unwrap();
    assert!(cache.has("a").await.unwrap() && cache.has("b").await.unwrap());
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(!cache.has("a").await.unwrap() && !cache.has("b").await.unwrap());
}

async fn add_replaces_an_entry_that_a_tag_invalidated(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    assert!(cache.add_with("k", 1, tags(&["t"])).await.unwrap());
    assert!(!cache.add_with("k", 2, tags(&["t"])).await.unwrap());
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(cache.add_with("k", 3, tags(&["t"])).await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(3));
}

async fn get_or_set_tags_the_entry_it_stores(fixture: Fixture) {
    let cache = &fixture.cache;
    assert_eq!(
        cache
            .get_or_set_with("k", tags(&["t"]), || async { 1 })
            .await,
        1
    );
    if !supported(&fixture).await {
        // A value that cannot be stored is counted, and returned all the same.
        assert!(!cache.has("k").await.unwrap());
        assert_eq!(cache.stats().store_errors, 1);
        return;
    }
    assert_eq!(
        cache
            .get_or_set_with("k", tags(&["t"]), || async { 2 })
            .await,
        1
    );
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert_eq!(
        cache
            .get_or_set_with("k", tags(&["t"]), || async { 3 })
            .await,
        3
    );
}

async fn touch_keeps_the_tags(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    cache.set_with("k", 1, tags(&["t"])).await.unwrap();
    cache.set_with("counter", 1, tags(&["t"])).await.unwrap();
    assert!(cache.touch("k", Ttl::Never).await.unwrap());
    assert_eq!(cache.increment("counter", 1).await.unwrap(), 2);
    fixture.expire(fixture.ttl());
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(!cache.has("k").await.unwrap());
    assert!(!cache.has("counter").await.unwrap());
}

async fn one_of_several_tags_is_enough(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    cache
        .set_with("k", 1, tags(&["t", "u", "v"]))
        .await
        .unwrap();
    cache.invalidate_tags(vec!["v", "w"]).await.unwrap();
    assert!(!cache.has("k").await.unwrap());
}

async fn an_unknown_tag_is_no_error(fixture: Fixture) {
    if !supported(&fixture).await {
        return;
    }
    let cache = &fixture.cache;
    cache.invalidate_tags(vec!["unheard of"]).await.unwrap();
    cache.invalidate_tags(Vec::<&str>::new()).await.unwrap();
    cache.set_with("k", 1, tags(&["unheard of"])).await.unwrap();
    assert!(cache.has("k").await.unwrap());
}
