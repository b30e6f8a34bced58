//! The operations that a store may leave out.

use std::collections::BTreeSet;

use super::*;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(what_is_left_out_is_refused),
        case(add_stores_only_if_there_is_no_live_entry).needs(Optional::Add),
        case(an_added_entry_has_its_ttl).needs(Optional::Add),
        case(increment_starts_at_zero).needs(Optional::Increment),
        case(increment_counts_on_from_a_stored_integer).needs(Optional::Increment),
        case(increment_keeps_the_ttl_of_a_live_counter).needs(Optional::Increment),
        case(increment_of_what_is_no_integer_is_a_wrong_type).needs(Optional::Increment),
        case(an_overflow_is_an_error_and_changes_nothing).needs(Optional::Increment),
        case(touch_sets_the_ttl_of_a_live_entry).needs(Optional::Touch),
        case(touch_revives_nothing).needs(Optional::Touch),
        case(take_returns_the_entry_and_removes_it).needs(Optional::Take),
        case(take_finds_no_entry_whose_ttl_has_ended).needs(Optional::Take),
        case(compare_and_swap_changes_only_what_was_read).needs(Optional::Update),
        case(compare_and_swap_of_nothing_stores_only_if_there_is_nothing).needs(Optional::Update),
        case(compare_and_swap_keeps_or_sets_the_ttl).needs(Optional::Update),
        case(get_with_ttls_tells_what_is_left).needs(Optional::TtlLeft),
        case(scan_lists_all_keys_with_the_prefix).needs(Optional::Keys),
    ]
}

async fn what_is_left_out_is_refused(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "1", Some(HOUR)).await.unwrap();
    for missing in &fixture.missing {
        let done = match missing {
            Optional::Add => store.add("new", "2", None).await.map(drop),
            Optional::Increment => store.increment("k", 1, None).await.map(drop),
            Optional::Touch => store.touch("k", None).await.map(drop),
            Optional::Take => store.take("k").await.map(drop),
            Optional::Update => {
                let read = store.get_entry("k").await.unwrap();
                let swapped = store.compare_and_swap("k", read, None);
                swapped.await.map(drop)
            }
            Optional::Keys => store.scan("k", None, 10).await.map(drop),
            Optional::TtlLeft => {
                let found = store.get_with_ttls(&["k"]).await.unwrap();
                let left = found[0].as_ref().unwrap().left;
                assert_eq!(
                    left, None,
                    "the contract declares that the store does not support `TtlLeft`, but it does"
                );
                continue;
            }
        };
        assert_eq!(
            done.map_err(|error| error.kind()),
            Err(ErrorKind::Unsupported),
            "the contract declares that the store does not support `{missing:?}`: \
             then the method returns an error of kind `Unsupported`"
        );
        let promise = "an operation that is not supported changes nothing";
        check(&store, "k", Some("1"), promise).await;
        check(&store, "new", None, promise).await;
    }
}

async fn add_stores_only_if_there_is_no_live_entry(fixture: Fixture) {
    let store = fixture.store();
    let added = store.add("k", "first", Some(fixture.ttl())).await.unwrap();
    assert!(added, "`add` stores an entry if there is none");
    check(&store, "k", Some("first"), "`add` stores its entry").await;
    let added = store.add("k", "second", None).await.unwrap();
    assert!(!added, "`add` returns `false` if there is a live entry");
    check(&store, "k", Some("first"), "`add` replaces no live entry").await;
    fixture.expire(fixture.ttl());
    let added = store.add("k", "third", None).await.unwrap();
    assert!(added, "an entry whose TTL has ended does not prevent `add`");
    check(&store, "k", Some("third"), "`add` stores its entry").await;
}

async fn an_added_entry_has_its_ttl(fixture: Fixture) {
    let store = fixture.store();
    store
        .add("short", "value", Some(fixture.ttl()))
        .await
        .unwrap();
    store.add("forever", "value", None).await.unwrap();
    fixture.expire(fixture.ttl());
    let promise = "an entry that `add` stored has its TTL";
    check(&store, "short", None, promise).await;
    check(&store, "forever", Some("value"), promise).await;
}

async fn increment_starts_at_zero(fixture: Fixture) {
    let store = fixture.store();
    let promise = "without a live entry, `increment` starts at 0, and lives for its TTL";
    let ttl = Some(fixture.ttl());
    assert_eq!(store.increment("k", 5, ttl).await.unwrap(), 5, "{promise}");
    assert_eq!(
        store.increment("n", -5, None).await.unwrap(),
        -5,
        "{promise}"
    );
    fixture.expire(fixture.ttl());
    check(&store, "k", None, promise).await;
    assert_eq!(store.increment("k", 1, ttl).await.unwrap(), 1, "{promise}");
    assert_eq!(store.increment("n", 2, ttl).await.unwrap(), -3, "{promise}");
}

async fn increment_counts_on_from_a_stored_integer(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "41", None).await.unwrap();
    let promise =
        "`increment` adds to the integer, which a store of bytes keeps as its decimal digits";
    for (by, sum) in [(1, 42), (-50, -8), (0, -8), (108, 100)] {
        let counted = store.increment("k", by, None).await.unwrap();
        assert_eq!(counted, sum, "{promise}");
        check(&store, "k", Some(&sum.to_string()), promise).await;
    }
}

async fn increment_keeps_the_ttl_of_a_live_counter(fixture: Fixture) {
    let store = fixture.store();
    let ttl = Some(fixture.ttl());
    for (key, first, second) in [("short", ttl, None), ("forever", None, ttl)] {
        store.increment(key, 1, first).await.unwrap();
        store.increment(key, 1, second).await.unwrap();
    }
    fixture.expire(fixture.ttl());
    let promise = "`increment` keeps the TTL of a live entry";
    check(&store, "short", None, promise).await;
    check(&store, "forever", Some("2"), promise).await;
}

async fn increment_of_what_is_no_integer_is_a_wrong_type(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "text", None).await.unwrap();
    let error = store.increment("k", 1, None).await;
    assert_eq!(
        error.map_err(|error| error.kind()),
        Err(ErrorKind::WrongType),
        "`increment` returns `WrongType` when the entry is not an integer"
    );
    let promise = "an `increment` that fails changes nothing";
    check(&store, "k", Some("text"), promise).await;
}

async fn an_overflow_is_an_error_and_changes_nothing(fixture: Fixture) {
    let store = fixture.store();
    for (from, by) in [(i64::MAX, 1), (i64::MIN, -1)] {
        let from = from.to_string();
        store.set("k", &from, None).await.unwrap();
        let error = store.increment("k", by, None).await;
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(ErrorKind::Overflow),
            "`increment` returns `Overflow` when the sum is not an `i64`"
        );
        let promise = "an `increment` that fails changes nothing";
        check(&store, "k", Some(&from), promise).await;
    }
}

async fn touch_sets_the_ttl_of_a_live_entry(fixture: Fixture) {
    let store = fixture.store();
    let ttl = Some(fixture.ttl());
    for (key, before, after) in [
        ("short", None, ttl),
        ("long", ttl, Some(HOUR)),
        ("forever", ttl, None),
    ] {
        store.set(key, "value", before).await.unwrap();
        let touched = store.touch(key, after).await.unwrap();
        assert!(touched, "`touch` returns `true` when there is a live entry");
    }
    fixture.expire(fixture.ttl());
    let promise = "`touch` sets the TTL of a live entry, from now on, and keeps its value";
    check(&store, "short", None, promise).await;
    check(&store, "long", Some("value"), promise).await;
    check(&store, "forever", Some("value"), promise).await;
}

async fn touch_revives_nothing(fixture: Fixture) {
    let store = fixture.store();
    store
        .set("old", "value", Some(fixture.ttl()))
        .await
        .unwrap();
    fixture.expire(fixture.ttl());
    for key in ["old", "missing"] {
        let touched = store.touch(key, None).await.unwrap();
        assert!(
            !touched,
            "`touch` returns `false` when there is no live entry"
        );
        check(&store, key, None, "`touch` makes no entry live again").await;
    }
}

async fn take_returns_the_entry_and_removes_it(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "value", None).await.unwrap();
    store.set("other", "kept", None).await.unwrap();
    let taken = store.take("k").await.unwrap();
    assert_eq!(
        taken.as_deref(),
        Some("value"),
        "`take` returns the live entry"
    );
    check(
        &store,
        "k",
        None,
        "`take` removes the entry that it returns",
    )
    .await;
    let taken = store.take("k").await.unwrap();
    assert_eq!(taken, None, "`take` returns `None` when there is no entry");
    check(
        &store,
        "other",
        Some("kept"),
        "`take` removes no other entry",
    )
    .await;
}

async fn take_finds_no_entry_whose_ttl_has_ended(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "value", Some(fixture.ttl())).await.unwrap();
    fixture.expire(fixture.ttl());
    let taken = store.take("k").await.unwrap();
    assert_eq!(taken, None, "`take` returns no entry whose TTL has ended");
}

const KEEP: TtlChange = TtlChange::Keep;

async fn compare_and_swap_changes_only_what_was_read(fixture: Fixture) {
    let store = fixture.store();
    store.set("k", "read", None).await.unwrap();
    let read = store.get_entry("k").await.unwrap();
    store.set("k", "other", None).await.unwrap();
    for new in [Some(("new", KEEP)), None] {
        let swapped = store.compare_and_swap("k", read.clone(), new).await;
        assert!(
            !swapped.unwrap(),
            "`compare_and_swap` returns `false` when the key holds another entry than was read"
        );
        let promise = "`compare_and_swap` changes no other entry than was read";
        check(&store, "k", Some("other"), promise).await;
    }
    let read = store.get_entry("k").await.unwrap();
    let swapped = store.compare_and_swap("k", read, Some(("new", KEEP))).await;
    assert!(
        swapped.unwrap(),
        "`compare_and_swap` returns `true` when the key still holds what was read"
    );
    check(
        &store,
        "k",
        Some("new"),
        "`compare_and_swap` stores the new entry",
    )
    .await;
    let read = store.get_entry("k").await.unwrap();
    assert!(
        store
            .compare_and_swap("k", read.clone(), None)
            .await
            .unwrap()
    );
    let promise = "`compare_and_swap` without a new entry removes the one that was read";
    check(&store, "k", None, promise).await;
    let swapped = store.compare_and_swap("k", read, Some(("new", KEEP))).await;
    let promise = "`compare_and_swap` brings no removed entry back";
    assert!(!swapped.unwrap(), "{promise}");
    check(&store, "k", None, promise).await;
}

async fn compare_and_swap_of_nothing_stores_only_if_there_is_nothing(fixture: Fixture) {
    let store = fixture.store();
    let new = |value| Some((value, TtlChange::Set(None)));
    store.set("old", "old", Some(fixture.ttl())).await.unwrap();
    fixture.expire(fixture.ttl());
    for key in ["missing", "old"] {
        let promise = "`compare_and_swap` with `None` as `current` stores the new entry if there is no live one";
        let swapped = store.compare_and_swap(key, None, new("first")).await;
        assert!(swapped.unwrap(), "{promise}");
        check(&store, key, Some("first"), promise).await;
        let promise = "`compare_and_swap` with `None` as `current` changes no live entry";
        let swapped = store.compare_and_swap(key, None, new("second")).await;
        assert!(!swapped.unwrap(), "{promise}");
        check(&store, key, Some("first"), promise).await;
    }
}

async fn compare_and_swap_keeps_or_sets_the_ttl(fixture: Fixture) {
    let store = fixture.store();
    let ttl = Some(fixture.ttl());
    let cases = [
        ("keeps short", ttl, KEEP),
        ("keeps forever", None, KEEP),
        ("sets short", None, TtlChange::Set(ttl)),
        ("sets forever", ttl, TtlChange::Set(None)),
    ];
    let key = |name: &str| name.replace(' ', "-");
    for (name, before, change) in cases {
        store.set(&key(name), "old", before).await.unwrap();
        let read = store.get_entry(&key(name)).await.unwrap();
        let new = Some(("new", change));
        let swapped = store.compare_and_swap(&key(name), read, new).await;
        assert!(swapped.unwrap(), "{name}");
    }
    fixture.expire(fixture.ttl());
    for (name, _, change) in cases {
        let expected = name.ends_with("forever").then_some("new");
        let promise = format!("`compare_and_swap` with `TtlChange::{change:?}` {name}");
        check(&store, &key(name), expected, &promise).await;
    }
}

async fn get_with_ttls_tells_what_is_left(fixture: Fixture) {
    let store = fixture.store();
    store.set("hour", "1", Some(HOUR)).await.unwrap();
    store.set("forever", "2", None).await.unwrap();
    let found = store.get_with_ttls(&["hour", "missing", "forever"]).await;
    let found = found.unwrap();
    let left = |at: usize| found[at].as_ref().and_then(|entry| entry.left);
    assert_eq!(found[0].as_ref().map(text).as_deref(), Some("1"));
    // Servers round, and machines are busy.
    let tolerance = Duration::from_secs(60);
    assert!(
        matches!(left(0), Some(Ttl::After(left)) if left + tolerance >= HOUR && left <= HOUR + tolerance),
        "`get_with_ttls` tells in `Entry::left` how long the store keeps an entry: {:?} of an hour",
        left(0)
    );
    assert!(found[1].is_none(), "a missing key has no entry");
    assert_eq!(
        left(2),
        Some(Ttl::Never),
        "`get_with_ttls` tells that an entry without a TTL lives forever"
    );
}

async fn scan_lists_all_keys_with_the_prefix(fixture: Fixture) {
    let store = fixture.store();
    let listed: Vec<_> = (0..100).map(|number| format!("listed-{number}")).collect();
    for key in listed.iter().map(String::as_str).chain(["other", "liste"]) {
        store.set(key, "value", None).await.unwrap();
    }
    let listed: BTreeSet<_> = listed.iter().map(|key| store.key(key)).collect();
    let mut found = BTreeSet::new();
    let mut from = None;
    loop {
        let page = store.scan("listed-", from, 10).await.unwrap();
        found.extend(page.keys);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert!(
        found.is_subset(&listed),
        "`scan` lists no key without the prefix"
    );
    assert_eq!(
        found, listed,
        "`scan` lists each key with the prefix that is there during the whole scan"
    );
}
