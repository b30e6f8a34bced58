//! Namespaces: several caches on one store.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(namespaces_do_not_see_each_other),
        case(clear_empties_one_namespace_and_nothing_else),
        case(clear_empties_the_default_namespace).needs(Optional::Add),
        case(clear_keeps_namespaces_with_special_characters),
        case(the_default_namespace),
        case(a_namespace_that_is_too_long_is_refused),
        case(a_server_is_never_used_without_a_namespace),
    ]
}

async fn namespaces_do_not_see_each_other(fixture: Fixture) {
    let [a, ab, a_b] = fixture.sharing(["a", "ab", "a:b"]);
    a.set("b:k", 1).await.unwrap();
    a_b.set("k", 2).await.unwrap();
    a.set("k", 3).await.unwrap();
    ab.set("k", 4).await.unwrap();
    assert_eq!(a.get::<i32>("b:k").await.unwrap(), Some(1));
    assert_eq!(a_b.get::<i32>("k").await.unwrap(), Some(2));
    assert_eq!(a.get::<i32>("k").await.unwrap(), Some(3));
    assert_eq!(ab.get::<i32>("k").await.unwrap(), Some(4));
    let [one, same] = fixture.sharing(["a", "a"]);
    one.set("k", 5).await.unwrap();
    assert_eq!(same.get::<i32>("k").await.unwrap(), Some(5));
}

async fn clear_empties_one_namespace_and_nothing_else(fixture: Fixture) {
    let [a, ab, a_b] = fixture.sharing(["a", "ab", "a:b"]);
    let long = "x".repeat(300);
    for cache in [&a, &ab, &a_b] {
        cache
            .set_many(vec![
                ("k", 1),
                ("b:k", 2),
                ("with space", 3),
                (&long, 4),
                ("", 5),
            ])
            .await
            .unwrap();
    }
    let count = |cache: CacheApi| {
        let long = long.clone();
        async move {
            let values = cache
                .get_many::<i32>(vec!["k", "b:k", "with space", &long, ""])
                .await
                .unwrap();
            values.into_iter().flatten().count()
        }
    };
    a.clear().await.unwrap();
    assert_eq!(
        (
            count(a.clone()).await,
            count(ab.clone()).await,
            count(a_b.clone()).await
        ),
        (0, 5, 5)
    );
    a_b.clear().await.unwrap();
    assert_eq!((count(ab.clone()).await, count(a_b).await), (5, 0));
    a.set("k", 6).await.unwrap();
    ab.clear().await.unwrap();
    assert_eq!((count(a).await, count(ab).await), (1, 0));
}

async fn clear_empties_the_default_namespace(fixture: Fixture) {
    let cache = fixture.cache;
    cache
        .set_many(vec![("a", 1), ("b c", 2), ("", 3)])
        .await
        .unwrap();
    cache.clear().await.unwrap();
    assert_eq!(
        cache.get_many::<i32>(vec!["a", "b c", ""]).await.unwrap(),
        [None, None, None]
    );
    cache.clear().await.unwrap();
    assert!(cache.add("a", 1).await.unwrap());
}

async fn clear_keeps_namespaces_with_special_characters(fixture: Fixture) {
    let caches = fixture.sharing([
        "*", "a b", "a_b", "a\r\nb", "a%20b", "?", "[a]", "a#", "ü", "a\\",
    ]);
    for cache in &caches {
        cache.set("k", 1).await.unwrap();
    }
    for (cleared, cache) in caches.iter().enumerate() {
        cache.clear().await.unwrap();
        assert!(!cache.has("k").await.unwrap());
        for other in &caches[cleared + 1..] {
            assert!(
                other.has("k").await.unwrap(),
                "{:?} cleared {:?}",
                cache.namespace(),
                other.namespace()
            );
        }
    }
}

async fn the_default_namespace(fixture: Fixture) {
    if fixture.shares_entries {
        return;
    }
    assert_eq!(
        fixture.cache.namespace(),
        if fixture.keeps_objects() {
            ""
        } else {
            "cacheio"
        }
    );
    let [named] = fixture.sharing(["shop"]);
    assert_eq!(named.namespace(), "shop");
}

async fn a_namespace_that_is_too_long_is_refused(fixture: Fixture) {
    let refused = fixture.open(Setup {
        namespace: Some(Box::leak("n".repeat(101).into_boxed_str())),
        ..Setup::default()
    });
    assert_eq!(
        refused.err().map(|error| error.kind()),
        Some(ErrorKind::Config)
    );
}

async fn a_server_is_never_used_without_a_namespace(fixture: Fixture) {
    if fixture.shares_entries {
        return;
    }
    let opened = fixture.open(Setup {
        namespace: Some(""),
        ..Setup::default()
    });
    if fixture.keeps_objects() {
        let whole = opened.unwrap();
        whole.set("k", 1).await.unwrap();
        whole.clear().await.unwrap();
        assert!(!whole.has("k").await.unwrap());
    } else {
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("namespace"), "{error}");
    }
}
