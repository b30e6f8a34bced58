//! Every policy in `get_or_set_many`: it acts as in `get_or_set`.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(a_batch_replaces_and_counts_an_overdue_load),
        case(a_batch_serves_a_stale_value_instead_of_an_overdue_load),
        case(a_waiter_of_a_batch_leaves_at_its_soft_timeout),
        case(a_waiter_of_a_batch_leaves_at_its_hard_timeout),
        case(a_batch_refreshes_what_is_due_with_what_is_missing),
        case(a_batch_does_not_wait_for_a_refresh),
        case(a_failed_refresh_of_a_batch_returns_the_live_value),
        case(retry_after_delays_the_next_load_of_a_batch),
        case(a_forced_batch_returns_the_error_of_its_load),
        case(none_in_a_batch_has_its_own_ttl),
        case(jitter_only_shortens_the_ttl_in_a_batch),
        case(what_a_batch_loads_expires_when_idle),
    ]
}

type Answer = Result<Option<String>, LoadError<String>>;

/// What a loader of batches returns.
type Loading = std::future::Ready<Result<Vec<(&'static str, String)>, String>>;

/// The loads of batches, which return "new" or fail.
#[derive(Clone, Default)]
struct Loads(Arc<AtomicUsize>);

impl Loads {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn loader(
        &self,
        result: Result<(), &'static str>,
    ) -> impl FnMut(Vec<&'static str>) -> Loading + Send + 'static {
        let loads = self.clone();
        move |keys| {
            loads.0.fetch_add(1, Ordering::SeqCst);
            std::future::ready(match result {
                Ok(()) => Ok(keys.into_iter().map(|key| (key, "new".into())).collect()),
                Err(error) => Err(error.into()),
            })
        }
    }

    /// Gets "k" in a batch.
    async fn get(&self, cache: &CacheApi, result: Result<(), &'static str>) -> Answer {
        let mut answers = cache
            .get_or_try_set_many(vec!["k"], self.loader(result))
            .await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }
}

const DOWN: Result<(), &str> = Err("the origin is down");

#[track_caller]
fn assert_value(answer: Answer, value: &str) {
    assert_eq!(answer.unwrap().as_deref(), Some(value));
}

/// Starts a load of "k" that hangs until the gate is released.
async fn hanging(cache: &CacheApi, gate: &LoaderGate) -> Spawned<String> {
    let load = gate.loader("late".to_owned());
    let leader = cache.spawn(move |cache| async move { cache.get_or_set("k", load).await });
    gate.started().await;
    leader
}

async fn a_batch_replaces_and_counts_an_overdue_load(fixture: Fixture) {
    let setup = Setup {
        max_load: Some(SHORT),
        ..Setup::default()
    };
    let (cache, loads) = (fixture.open(setup).unwrap(), Loads::default());
    let gate = LoaderGate::new();
    let leader = hanging(&cache, &gate).await;
    fixture.world.sleep(SHORT * 2).await;
    assert_value(loads.get(&cache, Ok(())).await, "new");
    assert_eq!((loads.count(), cache.stats().load_timeouts), (1, 1));
    gate.release();
    assert_eq!(leader.join().await, "late");
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
}

async fn a_batch_serves_a_stale_value_instead_of_an_overdue_load(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    (setup.soft_timeout, setup.max_load) = (None, Some(SHORT));
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let (gate, loads) = (LoaderGate::new(), Loads::default());
    let leader = hanging(&cache, &gate).await;
    fixture.world.sleep(SHORT * 2).await;
    for _ in 0..2 {
        // The hanging load counts as a failed one, so the next is delayed.
        assert_value(loads.get(&cache, Ok(())).await, "old");
    }
    let stats = cache.stats();
    assert_eq!((loads.count(), stats.load_timeouts), (0, 1));
    assert_eq!(stats.stale_hits, 2);
    gate.release();
    leader.join().await;
}

async fn a_waiter_of_a_batch_leaves_at_its_soft_timeout(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_soft_timeout(&fixture), fixture.ttl()).await;
    let (gate, loads) = (LoaderGate::new(), Loads::default());
    let leader = hanging(&cache, &gate).await;
    assert_value(loads.get(&cache, Ok(())).await, "old");
    let stats = cache.stats();
    assert_eq!((loads.count(), stats.timeouts, stats.stale_hits), (0, 1, 1));
    gate.release();
    assert_eq!(leader.join().await, "late");
}

async fn a_waiter_of_a_batch_leaves_at_its_hard_timeout(fixture: Fixture) {
    let setup = Setup {
        hard_timeout: Some(SHORT),
        ..Setup::default()
    };
    let (cache, loads) = (fixture.open(setup).unwrap(), Loads::default());
    let gate = LoaderGate::new();
    let leader = hanging(&cache, &gate).await;
    let error = loads.get(&cache, Ok(())).await.unwrap_err();
    assert!(matches!(error, LoadError::Timeout(_)), "{error}");
    assert_eq!((loads.count(), cache.stats().timeouts), (0, 1));
    gate.release();
    assert_eq!(leader.join().await, "late");
}

async fn a_batch_refreshes_what_is_due_with_what_is_missing(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let loads = Loads::default();
    let answers = cache
        .get_or_try_set_many(vec!["missing", "k"], loads.loader(Ok(())))
        .await;
    for answer in answers {
        assert_value(answer, "new");
    }
    let stats = cache.stats();
    assert_eq!((loads.count(), stats.refreshes), (1, 1));
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
    // A new entry is not due.
    assert_value(loads.get(&cache, Ok(())).await, "new");
    assert_eq!(loads.count(), 1);
}

async fn a_batch_does_not_wait_for_a_refresh(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let (gate, loads) = (LoaderGate::new(), Loads::default());
    let leader = hanging(&cache, &gate).await;
    assert_value(loads.get(&cache, Ok(())).await, "old");
    assert_eq!((loads.count(), cache.stats().waits), (0, 0));
    gate.release();
    assert_eq!(leader.join().await, "late");
}

async fn a_failed_refresh_of_a_batch_returns_the_live_value(fixture: Fixture) {
    let cache = cache_with_old(&fixture, with_refresh_ahead(&fixture), fixture.ttl()).await;
    let loads = Loads::default();
    for _ in 0..3 {
        assert_value(loads.get(&cache, DOWN).await, "old");
    }
    let stats = cache.stats();
    assert_eq!((loads.count(), stats.refresh_errors), (1, 1));
    assert_eq!(stats.stale_hits, 0);
}

async fn retry_after_delays_the_next_load_of_a_batch(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    (setup.soft_timeout, setup.retry_after) = (None, Some(fixture.ttl()));
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let loads = Loads::default();
    for _ in 0..3 {
        assert_value(loads.get(&cache, DOWN).await, "old");
    }
    assert_eq!(loads.count(), 1);
    fixture.expire(fixture.ttl());
    assert_value(loads.get(&cache, Ok(())).await, "new");
    assert_eq!(loads.count(), 2);
}

async fn a_forced_batch_returns_the_error_of_its_load(fixture: Fixture) {
    let mut setup = with_soft_timeout(&fixture);
    setup.soft_timeout = None;
    let cache = cache_with_old(&fixture, setup, fixture.ttl()).await;
    let loads = Loads::default();
    let options = Options::new().force_refresh();
    let answers = cache
        .get_or_try_set_many_with(vec!["k"], options.clone(), loads.loader(DOWN))
        .await;
    assert!(matches!(&answers[..], [Err(LoadError::Load(_))]));
    let single: Result<String, LoadError<String>> = cache
        .get_or_try_set_with("k", options, async || Err("the origin is down".into()))
        .await;
    assert!(matches!(single, Err(LoadError::Load(_))));
}

async fn none_in_a_batch_has_its_own_ttl(fixture: Fixture) {
    let setup = Setup {
        default_ttl: Some((fixture.ttl() * 20).into()),
        ttl_none: Some(fixture.ttl().into()),
        ..Setup::default()
    };
    let cache = fixture.open(setup).unwrap();
    let loads = Loads::default();
    let load = |keys: Vec<&'static str>| {
        loads.0.fetch_add(1, Ordering::SeqCst);
        let value = |key: &str| (key == "some").then(|| key.to_owned());
        std::future::ready(keys.into_iter().map(|key| (key, value(key))).collect())
    };
    let expected = [Some(Some("some".to_owned())), Some(None)];
    for _ in 0..2 {
        let answers = cache.get_or_set_many(vec!["some", "none"], load).await;
        assert_eq!(answers, expected);
    }
    assert_eq!(loads.count(), 1);
    fixture.expire(fixture.ttl());
    assert!(cache.has("some").await.unwrap());
    assert!(!cache.has("none").await.unwrap());
}

async fn jitter_only_shortens_the_ttl_in_a_batch(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let loads = Loads::default();
    let options = Options::new().ttl(fixture.ttl()).jitter(0.5);
    let answers = cache
        .get_or_try_set_many_with(vec!["k"], options, loads.loader(Ok(())))
        .await;
    assert_eq!(answers.len(), 1);
    fixture.expire(fixture.ttl());
    assert_eq!(stored(&cache).await, None);
}

async fn what_a_batch_loads_expires_when_idle(fixture: Fixture) {
    let cache = fixture.cache.clone();
    let loads = Loads::default();
    let idle = fixture.ttl() * 2;
    let options = Options::new().ttl(Ttl::Never).ttl_idle(idle);
    let answers = cache
        .get_or_try_set_many_with(vec!["k"], options, loads.loader(Ok(())))
        .await;
    assert_eq!(answers.len(), 1);
    assert_eq!(stored(&cache).await.as_deref(), Some("new"));
    fixture.expire(idle + idle / 8);
    assert_eq!(stored(&cache).await, None);
}
