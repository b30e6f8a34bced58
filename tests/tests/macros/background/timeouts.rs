//! Timeouts, refresh ahead and stale values.

use std::time::Instant;

use super::*;

#[test]
fn soft_timeout_returns_the_stale_value_and_stores_the_late_result() {
    let origin = Origin::new();
    let _open = OpenOnDrop(&origin.gate);
    assert_eq!(origin.user(7, "first", &names()), text(1, "first"));
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    assert_eq!(origin.user(7, "second", &names()), text(1, "first"));
    assert_eq!(origin.user(7, "third", &names()), text(1, "first"));
    origin.gate.open();
    until(|| origin.cache.has("user:7").unwrap());
    assert_eq!(origin.user(7, "fourth", &names()), text(2, "second"));
    assert_eq!(origin.runs.get(), 2);
}

#[tokio::test]
async fn soft_timeout_of_an_async_fn_returns_the_stale_value_and_stores_the_late_result() {
    let origin = Origin::new();
    assert_eq!(
        origin.user_async(7, "first", &names()).await,
        text(1, "first")
    );
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    assert_eq!(
        origin.user_async(7, "second", &names()).await,
        text(1, "first")
    );
    assert_eq!(
        origin.user_async(7, "third", &names()).await,
        text(1, "first")
    );
    origin.gate.open();
    until_async(async || origin.async_cache.has("user:7").await.unwrap()).await;
    assert_eq!(
        origin.user_async(7, "fourth", &names()).await,
        text(2, "second")
    );
    assert_eq!(origin.runs.get(), 2);
}

#[test]
fn refresh_ahead_runs_once_and_no_caller_waits() {
    let origin = Origin::new();
    let _open = OpenOnDrop(&origin.gate);
    assert_eq!(origin.user(7, "first", &names()), text(1, "first"));
    origin.clock.advance(Duration::from_secs(50));
    origin.gate.close();
    for _ in 0..10 {
        assert_eq!(origin.user(7, "second", &names()), text(1, "first"));
    }
    assert_eq!(origin.cache.stats().refreshes, 1);
    origin.gate.open();
    origin.until_runs(2);
    until(|| origin.user(7, "third", &names()) == text(2, "second"));
    assert_eq!(origin.runs.get(), 2);
}

#[tokio::test]
async fn refresh_ahead_of_an_async_fn_runs_once_and_no_caller_waits() {
    let origin = Origin::new();
    assert_eq!(
        origin.user_async(7, "first", &names()).await,
        text(1, "first")
    );
    origin.clock.advance(Duration::from_secs(50));
    origin.gate.close();
    for _ in 0..10 {
        assert_eq!(
            origin.user_async(7, "second", &names()).await,
            text(1, "first")
        );
    }
    assert_eq!(origin.async_cache.stats().refreshes, 1);
    origin.gate.open();
    until_async(async || origin.user_async(7, "third", &names()).await == text(2, "second")).await;
    assert_eq!(origin.runs.get(), 2);
}

#[test]
fn a_failed_load_returns_the_stale_value() {
    let origin = Origin::new();
    assert_eq!(origin.user(7, "first", &names()), text(1, "first"));
    origin.down.store(true, Ordering::SeqCst);
    origin.clock.advance(Duration::from_secs(90));
    assert_eq!(origin.user(7, "second", &names()), text(1, "first"));
    origin.clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(origin.user(7, "third", &names()), Err(OriginError::Down(3)));
}

#[test]
fn hard_timeout_returns_an_error_of_the_function() {
    let origin = Origin::new();
    let _open = OpenOnDrop(&origin.gate);
    origin.gate.close();
    let begun = Instant::now();
    assert_eq!(origin.slow(), Err(OriginError::Timeout));
    assert!(begun.elapsed() >= TIMEOUT);
    origin.gate.open();
    until(|| origin.cache.get::<usize>("slow").unwrap().is_some());
    assert_eq!(origin.slow(), Ok(1), "the late result is stored");
}

#[tokio::test]
async fn hard_timeout_of_an_async_fn_returns_an_error_of_the_function() {
    let origin = Origin::new();
    origin.gate.close();
    assert_eq!(origin.slow_async().await, Err(OriginError::Timeout));
    origin.gate.open();
    until_async(async || {
        origin
            .async_cache
            .get::<usize>("slow")
            .await
            .unwrap()
            .is_some()
    })
    .await;
    assert_eq!(
        origin.slow_async().await,
        Ok(1),
        "the late result is stored"
    );
}

#[tokio::test]
async fn the_body_continues_after_the_future_is_dropped() {
    let origin = Origin::new();
    origin.gate.close();
    let call = async { tokio::time::timeout(TIMEOUT / 4, origin.slow_async()).await };
    assert!(call.await.is_err());
    origin.gate.open();
    until_async(async || {
        origin
            .async_cache
            .get::<usize>("slow")
            .await
            .unwrap()
            .is_some()
    })
    .await;
    assert_eq!(origin.runs.get(), 1);
}

#[test]
fn ttl_none_of_a_method() {
    let origin = Origin::new();
    assert_eq!(origin.user(0, "", &[]), Ok(None));
    origin.clock.advance(Duration::from_secs(7));
    assert_eq!(origin.user(0, "", &[]), Ok(None));
    assert!(origin.cache.has("user:0").unwrap());
    origin.clock.advance(Duration::from_secs(4));
    assert!(!origin.cache.has("user:0").unwrap());
    origin.user(1, "", &[]).unwrap();
    origin.clock.advance(Duration::from_secs(50));
    assert!(origin.cache.has("user:1").unwrap());
}

#[test]
fn after_max_load_an_infallible_leader_waits_and_a_waiter_runs_the_body() {
    let origin = Origin::new();
    let _open = OpenOnDrop(&origin.gate);
    origin.gate.close();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| origin.infallible());
        let second = scope.spawn(|| origin.infallible());
        until(|| origin.cache.stats().load_timeouts >= 1);
        origin.gate.open();
        let mut runs = [first.join().unwrap(), second.join().unwrap()];
        runs.sort_unstable();
        assert_eq!(runs, [1, 2]);
    });
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    let stale = origin.infallible();
    assert!(stale == 1 || stale == 2, "{stale}");
}

#[tokio::test]
async fn after_max_load_an_infallible_async_leader_waits_and_a_waiter_runs_the_body() {
    let origin = Origin::new();
    origin.gate.close();
    let open = async {
        until_async(async || origin.async_cache.stats().load_timeouts >= 1).await;
        origin.gate.open();
    };
    let (first, second, ()) =
        tokio::join!(origin.infallible_async(), origin.infallible_async(), open);
    assert_eq!((first.min(second), first.max(second)), (1, 2));
    origin.clock.advance(Duration::from_secs(90));
    origin.gate.close();
    let stale = origin.infallible_async().await;
    assert!(stale == 1 || stale == 2, "{stale}");
    origin.gate.open();
}

/// The stale value ends while its caller waits, and `max_load` is over then. A function that returns no error waits for
/// its body.
#[test]
fn a_function_without_errors_waits_when_there_is_no_stale_value_any_more() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    #[cached(
        ttl = "50ms",
        stale_for = "200ms",
        soft_timeout = "100ms",
        max_load = "150ms"
    )]
    fn slow() -> usize {
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        if run > 0 {
            std::thread::sleep(Duration::from_millis(600));
        }
        run
    }

    assert_eq!(slow(), 0);
    std::thread::sleep(Duration::from_millis(170));
    assert_eq!(slow(), 1);
}

#[tokio::test]
async fn an_async_function_without_errors_waits_when_there_is_no_stale_value_any_more() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    #[cached(
        ttl = "50ms",
        stale_for = "200ms",
        soft_timeout = "100ms",
        max_load = "150ms"
    )]
    async fn slow() -> usize {
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        if run > 0 {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        run
    }

    assert_eq!(slow().await, 0);
    tokio::time::sleep(Duration::from_millis(170)).await;
    assert_eq!(slow().await, 1);
}

/// There are more loads than threads for them.
#[test]
fn functions_without_errors_wait_for_loads_that_are_queued() {
    static RUNS: [AtomicUsize; 40] = [const { AtomicUsize::new(0) }; 40];

    #[cached(
        ttl = "50ms",
        stale_for = "200ms",
        soft_timeout = "100ms",
        max_load = "150ms"
    )]
    fn slow(key: usize) -> usize {
        let run = RUNS[key].fetch_add(1, Ordering::SeqCst);
        if run > 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
        run
    }

    let keys = 0..RUNS.len();
    assert!(keys.clone().all(|key| slow(key) == 0));
    std::thread::sleep(Duration::from_millis(170));
    std::thread::scope(|scope| {
        let callers: Vec<_> = keys.map(|key| scope.spawn(move || slow(key))).collect();
        assert!(
            callers
                .into_iter()
                .all(|caller| caller.join().unwrap() == 1)
        );
    });
}
