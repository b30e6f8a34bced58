//! `take`.

use crate::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    let cases = vec![
        case(take_returns_the_value_and_removes_the_entry),
        case(take_of_a_missing_or_expired_entry_returns_none),
        case(take_of_an_expired_entry_that_is_kept_returns_none_and_removes_it),
        case(take_of_an_entry_that_a_tag_invalidated_returns_none),
        case(take_returns_a_value_with_policies_and_tags),
        case(take_of_a_value_of_another_type_is_an_error),
        case(take_counts_as_a_lookup),
        case(take_sees_no_copy),
        case(of_200_tokens_none_is_taken_twice),
        case(a_token_with_policies_and_tags_is_taken_once),
        case(a_failed_take_reports_the_store),
    ];
    let needing = |case: Case| case.needs(Optional::Take);
    cases.into_iter().map(needing).collect()
}

async fn take_returns_the_value_and_removes_the_entry(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "text").await.unwrap();
    cache.set(("k", 2), 7).await.unwrap();
    let text = cache.take::<String>("k").await.unwrap();
    assert_eq!(text.as_deref(), Some("text"));
    assert_eq!(cache.take::<String>("k").await.unwrap(), None);
    assert!(!cache.has("k").await.unwrap());
    assert_eq!(cache.take::<u64>(("k", 2)).await.unwrap(), Some(7));
    cache.set("k", None::<u8>).await.unwrap();
    assert_eq!(cache.take::<Option<u8>>("k").await.unwrap(), Some(None));
    cache.set("k", 1).await.unwrap();
    assert_eq!(cache.get::<u8>("k").await.unwrap(), Some(1));
}

async fn take_of_a_missing_or_expired_entry_returns_none(fixture: Fixture) {
    let cache = &fixture.cache;
    assert_eq!(cache.take::<u8>("missing").await.unwrap(), None);
    cache.set_with("k", 1, fixture.ttl()).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.take::<u8>("k").await.unwrap(), None);
}

fn stale(fixture: &Fixture) -> Options {
    Options::ttl(fixture.ttl()).stale_for(fixture.ttl() * 50)
}

async fn take_of_an_expired_entry_that_is_kept_returns_none_and_removes_it(fixture: Fixture) {
    let cache = &fixture.cache;
    cache.set_with("k", 1, stale(&fixture)).await.unwrap();
    fixture.expire(fixture.ttl());
    assert_eq!(cache.take::<u8>("k").await.unwrap(), None);
    let down = || std::future::ready(Err::<u8, _>("down"));
    let served = cache.get_or_try_set_with("k", stale(&fixture), down).await;
    assert_eq!(served.unwrap_err().into_load_error().unwrap(), "down");
}

async fn take_of_an_entry_that_a_tag_invalidated_returns_none(fixture: Fixture) {
    let cache = fixture.cache;
    let tagged = Options::new().tags(["t"]);
    cache.set_with("k", 1, tagged).await.unwrap();
    cache.invalidate_tags(vec!["t"]).await.unwrap();
    assert_eq!(cache.take::<u8>("k").await.unwrap(), None);
}

fn policies(fixture: &Fixture) -> Vec<Options> {
    let long = fixture.ttl() * 50;
    vec![
        Options::ttl(long).stale_for(long),
        Options::ttl(long).ttl_idle(long),
        Options::ttl(long).tags(["t", "u"]),
        Options::ttl(long).stale_for(long).tags(["t"]),
    ]
}

async fn take_returns_a_value_with_policies_and_tags(fixture: Fixture) {
    let cache = &fixture.cache;
    for options in policies(&fixture) {
        cache.set_with("k", 1, options).await.unwrap();
        assert_eq!(cache.take::<u8>("k").await.unwrap(), Some(1));
        assert!(!cache.has("k").await.unwrap());
    }
}

async fn take_of_a_value_of_another_type_is_an_error(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", "text").await.unwrap();
    let error = cache.take::<u64>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(error.to_string().starts_with("take `"), "{error}");
    assert!(!cache.has("k").await.unwrap(), "it was taken");
}

async fn take_counts_as_a_lookup(fixture: Fixture) {
    let cache = fixture.cache;
    cache.set("k", 1).await.unwrap();
    cache.take::<u8>("k").await.unwrap();
    cache.take::<u8>("k").await.unwrap();
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (1, 1));
}

/// Another client has taken the entry of which there is a copy in L1.
async fn take_sees_no_copy(fixture: Fixture) {
    let [one, other] = fixture.twins(Setup::default());
    one.set("k", 1).await.unwrap();
    assert_eq!(one.get::<u8>("k").await.unwrap(), Some(1));
    assert_eq!(other.take::<u8>("k").await.unwrap(), Some(1));
    assert_eq!(one.take::<u8>("k").await.unwrap(), None);
    assert_eq!(one.get::<u8>("k").await.unwrap(), None);
}

async fn of_200_tokens_none_is_taken_twice(fixture: Fixture) {
    let tokens = (0..200_u64).map(|token| (token, token)).collect();
    fixture.cache.set_many(tokens).await.unwrap();
    assert_eq!(take_all(&fixture).await, (0..200).collect::<Vec<_>>());
}

async fn a_token_with_policies_and_tags_is_taken_once(fixture: Fixture) {
    let cache = &fixture.cache;
    for (at, options) in policies(&fixture).into_iter().enumerate() {
        let tokens = (0..200_u64).filter(|token| token % 4 == at as u64);
        let tokens = tokens.map(|token| (token, token)).collect();
        cache.set_many_with(tokens, options).await.unwrap();
    }
    assert_eq!(take_all(&fixture).await, (0..200).collect::<Vec<_>>());
}

/// Lets eight callers take 200 tokens. Returns those that they got.
async fn take_all(fixture: &Fixture) -> Vec<u64> {
    let taking = (0..8).map(|_| {
        fixture.cache.spawn(|cache| async move {
            let mut taken = Vec::new();
            for token in 0..200_u64 {
                taken.extend(cache.take::<u64>(token).await.unwrap());
            }
            taken
        })
    });
    let mut taken = join_all(taking.collect()).await.concat();
    taken.sort_unstable();
    taken
}

async fn a_failed_take_reports_the_store(fixture: Fixture) {
    let (cache, faults) = fixture.failing();
    cache.set("k", 1).await.unwrap();
    faults.fail_writes(true);
    let error = cache.take::<u8>("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    faults.fail_writes(false);
    assert_eq!(cache.take::<u8>("k").await.unwrap(), Some(1));
}
