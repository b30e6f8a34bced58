//! Servers that refuse requests.

use std::time::Duration;

use cacheio_core::{Error, ErrorKind};
use cacheio_tests::servers::{Memcached, Redis};

use crate::env::{FaultEnv, FaultyServer, is_used_again};

const TIMEOUT: Duration = Duration::from_secs(5);

/// The password of the server, and a wrong one.
pub(crate) const PASSWORD: &str = "right-and-secret";
const WRONG_PASSWORD: &str = "wrong-and-secret";

pub(crate) async fn a_full_server_refuses_writes_and_is_still_read(
    env: FaultEnv<impl FaultyServer>,
) {
    let cache = env.cache(TIMEOUT);
    cache.set("small", 1).await.unwrap();
    let large = "x".repeat(50_000);
    let mut stored = 0;
    let error = loop {
        match cache.set(("large", stored), large.clone()).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1_000, "the server takes everything");
    };
    assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
    assert_eq!(
        cache.get_or_set("more", || async { large.clone() }).await,
        large
    );
    assert!(cache.stats().store_errors > 0);
    assert_eq!(cache.get::<i32>("small").await.unwrap(), Some(1));
    // A refusal is a response: the circuit stays closed.
    cache.ping().await.unwrap();
    for number in 0..stored {
        cache.delete(("large", number)).await.unwrap();
    }
    cache.set("again", large.clone()).await.unwrap();
    assert_eq!(cache.get::<String>("again").await.unwrap(), Some(large));
}

pub(crate) async fn a_value_over_the_limit_is_too_large(env: FaultEnv<Memcached>) {
    let cache = env.cache(TIMEOUT);
    for size in [1 << 20, (1 << 20) + 1, 3 << 20] {
        let huge = "x".repeat(size);
        cache.set("k", 1).await.unwrap();
        cache.set("neighbour", 2).await.unwrap();
        assert_eq!(
            cache.set("k", huge.clone()).await.unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert_eq!(
            cache.get::<i32>("k").await.unwrap(),
            None,
            "the old value is still present"
        );
        assert_eq!(cache.get::<i32>("neighbour").await.unwrap(), Some(2));
        cache.set("k", 1).await.unwrap();
        let error = cache
            .set_many(vec![
                ("a", "1".to_owned()),
                ("k", huge.clone()),
                ("z", "3".to_owned()),
            ])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(
            !cache.has("k").await.unwrap(),
            "the old value is still present"
        );
        assert_eq!(
            cache.add("new", huge.clone()).await.unwrap_err().kind(),
            ErrorKind::TooLarge
        );
        assert_eq!(cache.get_or_set("k", || async { huge.clone() }).await, huge);
        assert!(!cache.has("k").await.unwrap());
        assert_eq!(cache.get::<i32>("neighbour").await.unwrap(), Some(2));
        cache.ping().await.unwrap();
    }
    // A value just below the limit.
    let large = "x".repeat(1_000_000);
    cache.set("k", large.clone()).await.unwrap();
    assert_eq!(cache.get::<String>("k").await.unwrap(), Some(large));
}

/// Checks that neither an error nor its sources show a password.
fn keeps_quiet(error: &Error) {
    let mut shown = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        shown += &format!("{error} {error:?}");
        cause = error.source();
    }
    assert!(!shown.contains("secret"), "{shown}");
}

pub(crate) async fn a_wrong_password_is_an_error_that_does_not_show_it(env: FaultEnv<Redis>) {
    let url = |password| format!("redis://:{password}@{}", env.server.address());
    let cache = env.at(&url(WRONG_PASSWORD), TIMEOUT);
    let errors = [
        cache.get::<i32>("k").await.unwrap_err(),
        cache.set("k", 1).await.unwrap_err(),
        cache.ping().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Server, "{error:?}");
        keeps_quiet(&error);
    }
    let without = env.cache(TIMEOUT).get::<i32>("k").await.unwrap_err();
    assert_eq!(without.kind(), ErrorKind::Server, "{without:?}");
    assert!(!format!("{cache:?}").contains("secret"));
    assert_eq!(cache.get_or_set("k", || async { 1 }).await, 1);

    let right = env.at(&url(PASSWORD), TIMEOUT);
    right.set("k", 2).await.unwrap();
    assert_eq!(right.get::<i32>("k").await.unwrap(), Some(2));

    env.server.run_as(
        PASSWORD,
        &format!("CONFIG SET requirepass {WRONG_PASSWORD}"),
    );
    is_used_again(&cache).await;
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

pub(crate) async fn another_type_under_a_key_is_replaced(env: FaultEnv<Redis>) {
    let cache = env.cache(TIMEOUT);
    for command in [
        "RPUSH cacheio:k a",
        "HSET cacheio:k a 1",
        "SADD cacheio:k a",
        "ZADD cacheio:k 1 a",
    ] {
        let plant = || env.server.run("DEL cacheio:k") != env.server.run(command);
        plant();
        assert_eq!(
            cache.get::<i32>("k").await.unwrap_err().kind(),
            ErrorKind::WrongType,
            "{command}"
        );
        assert_eq!(
            cache.increment("k", 1).await.unwrap_err().kind(),
            ErrorKind::WrongType,
            "{command}"
        );
        assert!(cache.has("k").await.unwrap());
        assert!(!cache.add("k", 1).await.unwrap());
        assert_eq!(cache.get_or_set("k", || async { 2 }).await, 2);
        assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2), "{command}");
        plant();
        cache.set_many(vec![("k", 3), ("other", 4)]).await.unwrap();
        assert_eq!(
            cache.get_many::<i32>(vec!["k", "other"]).await.unwrap(),
            [Some(3), Some(4)]
        );
        plant();
        assert!(cache.delete("k").await.unwrap());
        plant();
        cache.clear().await.unwrap();
        assert!(!cache.has("k").await.unwrap());
    }
}
