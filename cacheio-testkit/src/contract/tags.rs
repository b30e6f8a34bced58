//! Tags.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(invalidate_tags_makes_all_entries_with_the_tag_misses)
            .needs(Optional::Touch)
            .needs(Optional::Increment),
        case(set_replaces_the_tags),
        case(set_many_tags_all),
        case(add_replaces_an_entry_that_a_tag_invalidated).needs(Optional::Add),
        case(get_or_set_tags_the_entry_it_stores),
        case(touch_keeps_the_tags)
            .needs(Optional::Touch)
            .needs(Optional::Increment),
        case(one_of_several_tags_is_enough),
        case(an_unknown_tag_is_no_error),
        case(a_batch_tags_the_entries_that_it_stores),
        case(a_tag_may_have_any_name),
        case(a_tag_belongs_to_its_namespace),
        case(a_tag_named_twice_is_one_tag),
        case(clear_removes_tagged_entries),
        case(a_tagged_entry_keeps_its_policies),
        case(a_value_of_each_kind_may_be_tagged),
    ]
}

fn tags(tags: &[&'static str]) -> Options {
    Options::new().tags(tags.iter().copied())
}

async fn invalidate_tags_makes_all_entries_with_the_tag_misses(fixture: Fixture) {
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
    let cache = &fixture.cache;
    cache
        .set_with("k", 1, tags(&["t", "u", "v"]))
        .await
        .unwrap();
    cache.invalidate_tags(vec!["v", "w"]).await.unwrap();
    assert!(!cache.has("k").await.unwrap());
}

async fn an_unknown_tag_is_no_error(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.invalidate_tags(vec!["unheard of"]).await.unwrap();
    cache.invalidate_tags(Vec::<&str>::new()).await.unwrap();
    cache.set_with("k", 1, tags(&["unheard of"])).await.unwrap();
    assert!(cache.has("k").await.unwrap());
}

async fn a_batch_tags_the_entries_that_it_stores(fixture: Fixture) {
    let cache = &fixture.cache;
    let load = async |value: i32, expected: usize| {
        let values = cache.get_or_set_many_with(
            vec!["a", "b"],
            tags(&["t", "u"]),
            |missing: Vec<&'static str>| {
                assert_eq!(missing.len(), expected);
                let values = missing.into_iter().map(move |key| (key, value));
                std::future::ready(values.collect::<Vec<_>>())
            },
        );
        values.await
    };
    assert_eq!(load(1, 2).await, [Some(1), Some(1)]);
    assert_eq!(load(2, 0).await, [Some(1), Some(1)]);
    cache.invalidate_tags(vec!["u"]).await.unwrap();
    assert_eq!(load(3, 2).await, [Some(3), Some(3)]);
    cache.set("a", 4).await.unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert_eq!(load(5, 1).await, [Some(4), Some(5)]);
}

async fn a_tag_may_have_any_name(fixture: Fixture) {
    let cache = &fixture.cache;
    let long = "ü".repeat(1_000);
    let names = ["", " ", "a b", "\0", "#", ":", &long, &(long.clone() + "x")].map(String::from);
    for (at, name) in names.iter().enumerate() {
        let options = Options::new().tags([name.clone()]);
        cache.set_with(("k", at), at, options).await.unwrap();
    }
    for (at, name) in names.iter().enumerate() {
        assert_eq!(cache.get::<usize>(("k", at)).await.unwrap(), Some(at));
        cache.invalidate_tags(vec![name.clone()]).await.unwrap();
        for (later, other) in names.iter().enumerate() {
            let is_live = cache.has(("k", later)).await.unwrap();
            assert_eq!(is_live, later > at, "{name:?}, {other:?}");
        }
    }
}

async fn a_tag_belongs_to_its_namespace(fixture: Fixture) {
    let [one, two] = fixture.sharing(["one", "two"]);
    for cache in [&one, &two] {
        cache.set_with("k", 1, tags(&["t"])).await.unwrap();
    }
    one.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(!one.has("k").await.unwrap() && two.has("k").await.unwrap());
}

async fn a_tag_named_twice_is_one_tag(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, tags(&["t", "t"])).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    cache.invalidate_tags(vec!["t", "t"]).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
}

async fn clear_removes_tagged_entries(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, tags(&["t"])).await.unwrap();
    cache.clear().await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
    cache.set_with("k", 2, tags(&["t"])).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

async fn a_tagged_entry_keeps_its_policies(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = || tags(&["t"]).ttl(fixture.ttl()).stale_for(fixture.ttl() * 9);
    let load = async |result: Result<i32, &'static str>| {
        let got = cache.get_or_try_set_with("k", options(), || async move { result });
        got.await.map_err(|error| error.to_string())
    };
    assert_eq!(load(Ok(1)).await, Ok(1));
    fixture.expire(fixture.ttl());
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(load(Err("down")).await, Ok(1), "stale");
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert!(load(Err("down")).await.is_err());
}

async fn a_value_of_each_kind_may_be_tagged(fixture: Fixture) {
    let cache = &fixture.cache;
    let options = || tags(&["t"]);
    let text = "a longer text".repeat(100);
    cache
        .set_with("text", text.clone(), options())
        .await
        .unwrap();
    cache.set_with("integer", -7, options()).await.unwrap();
    cache
        .set_with("digits", "42".to_owned(), options())
        .await
        .unwrap();
    cache.set_with("nan", f64::NAN, options()).await.unwrap();
    cache.set_with("nothing", (), options()).await.unwrap();
    let keys = ["text", "integer", "digits", "nan", "nothing"];
    assert_eq!(cache.get::<String>("text").await.unwrap(), Some(text));
    assert_eq!(cache.get::<i32>("integer").await.unwrap(), Some(-7));
    assert_eq!(
        cache.get::<String>("digits").await.unwrap().as_deref(),
        Some("42")
    );
    assert!(cache.get::<f64>("nan").await.unwrap().unwrap().is_nan());
    assert_eq!(cache.get::<()>("nothing").await.unwrap(), Some(()));
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    for key in keys {
        assert!(!cache.has(key).await.unwrap(), "{key}");
    }
}
