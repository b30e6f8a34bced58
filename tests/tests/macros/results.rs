//! Results and their errors.

use crate::prelude::*;

type Outcome<T> = Result<T, NoClone>;

#[derive(Debug, PartialEq)]
struct NoClone(usize);

#[test]
fn an_error_of_an_aliased_result_is_not_stored() {
    static RUNS: Runs = Runs::new();
    #[cached]
    fn fails_once(n: u8) -> Outcome<u8> {
        match RUNS.count() {
            1 => Err(NoClone(1)),
            _ => Ok(n),
        }
    }
    assert_eq!(fails_once(7), Err(NoClone(1)));
    assert_eq!(fails_once(7), Ok(7));
    assert_eq!(fails_once(7), Ok(7));
    assert_eq!(RUNS.get(), 2);
}

/// Calls from four threads at once.
fn together<T: Send>(call: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(&call)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn until_waiting(cache: &Cache, waiting: u64) {
    until(|| cache.stats().waits >= waiting);
}

#[test]
fn each_caller_gets_its_own_error_that_is_not_clone() {
    let service = Service::new();
    #[cached(cache = service.cache, key = "k")]
    fn fail(service: &Service) -> Outcome<u8> {
        let run = service.runs.count();
        until_waiting(&service.cache, 3);
        Err(NoClone(run))
    }
    let mut errors: Vec<usize> = together(|| fail(&service).unwrap_err().0);
    errors.sort_unstable();
    assert_eq!(errors, [1, 2, 3, 4], "each caller has its own error");
}

#[test]
fn a_waiter_for_a_get_or_try_set_runs_its_own_body_after_an_error_that_is_not_clone() {
    let service = Service::new();
    #[cached(cache = service.cache, key = "k")]
    fn fail(service: &Service) -> Outcome<u8> {
        Err(NoClone(service.runs.count()))
    }
    std::thread::scope(|scope| {
        let mut waiter = None;
        let load = || {
            waiter = Some(scope.spawn(|| fail(&service)));
            until_waiting(&service.cache, 1);
            Err::<u8, _>(NoClone(0))
        };
        let error = service.cache.get_or_try_set("k", load).unwrap_err();
        // The waiter runs its own body although this caller still shares the error.
        assert_eq!(waiter.unwrap().join().unwrap(), Err(NoClone(1)));
        assert_eq!(error.into_load_error().unwrap(), NoClone(0));
    });
}

#[test]
fn an_error_that_is_clone_is_shared() {
    let service = Service::new();
    #[cached(cache = service.cache, key = "k")]
    fn fail(service: &Service) -> Result<u8, usize> {
        let run = service.runs.count();
        until_waiting(&service.cache, 3);
        Err(run)
    }
    assert_eq!(together(|| fail(&service)), [Err(1); 4]);
    assert_eq!(service.runs.get(), 1);
}

#[test]
fn concurrent_callers_share_one_load() {
    let service = Service::new();
    #[cached(cache = service.cache, key = "k")]
    fn load(service: &Service) -> usize {
        until_waiting(&service.cache, 3);
        service.runs.count()
    }
    assert_eq!(together(|| load(&service)), [1; 4]);
}

#[test]
fn error_types() {
    #[cached]
    fn anyhow(fail: bool) -> anyhow::Result<u8> {
        anyhow::ensure!(!fail, "no");
        Ok(1)
    }
    #[cached]
    fn boxed(fail: bool) -> Result<u8, Box<dyn std::error::Error + Send + Sync>> {
        if fail { Err("no".into()) } else { Ok(1) }
    }
    #[cached]
    fn io(fail: bool) -> std::io::Result<u8> {
        if fail {
            Err(std::io::Error::other("no"))
        } else {
            Ok(1)
        }
    }
    assert_eq!(anyhow(true).unwrap_err().to_string(), "no");
    assert_eq!(boxed(true).unwrap_err().to_string(), "no");
    assert_eq!(io(true).unwrap_err().to_string(), "no");
    assert_eq!(
        (
            anyhow(false).unwrap(),
            boxed(false).unwrap(),
            io(false).unwrap()
        ),
        (1, 1, 1)
    );
}

#[test]
fn an_error_that_cannot_be_sent_is_not_stored() {
    #[cached(key = "{n}")]
    fn boxed(n: u8, runs: &Runs) -> Result<u8, Box<dyn std::error::Error>> {
        runs.count();
        match n {
            0 => Err("zero".into()),
            n => Ok(n),
        }
    }
    let runs = Runs::new();
    assert_eq!(boxed(0, &runs).unwrap_err().to_string(), "zero");
    assert_eq!(boxed(0, &runs).unwrap_err().to_string(), "zero");
    assert_eq!((boxed(1, &runs).unwrap(), boxed(1, &runs).unwrap()), (1, 1));
    assert_eq!(runs.get(), 3);
}

#[test]
fn an_error_that_cannot_be_sent_can_be_a_timeout() {
    #[cached(key = "own", skip(n))]
    fn waits_for_itself(n: u8) -> Result<u8, Box<dyn std::error::Error>> {
        waits_for_itself(n + 1)
    }
    let error = waits_for_itself(0).unwrap_err();
    assert!(error.to_string().contains("own"), "{error}");
}

#[tokio::test]
async fn an_async_fn_can_have_an_error_that_cannot_be_sent() {
    struct Service {
        cache: cacheio::AsyncCache,
    }
    impl Service {
        #[cached(cache = self.cache, key = "{n}")]
        async fn find(&self, n: u8) -> Result<u8, std::rc::Rc<str>> {
            match n {
                0 => Err("zero".into()),
                n => Ok(n),
            }
        }
    }
    let service = Service {
        cache: CacheFactory::async_memory_cache(),
    };
    assert_eq!(service.find(0).await, Err("zero".into()));
    assert_eq!(service.find(1).await, Ok(1));
}

#[test]
fn each_waiter_runs_the_body_if_its_error_cannot_be_sent() {
    let service = Service::new();
    #[cached(cache = service.cache, key = "k")]
    fn fail(service: &Service) -> Result<u8, Box<dyn std::error::Error>> {
        let run = service.runs.count();
        until_waiting(&service.cache, 3);
        Err(run.to_string().into())
    }
    let mut errors = together(|| fail(&service).unwrap_err().to_string());
    errors.sort_unstable();
    assert_eq!(
        errors,
        ["1", "2", "3", "4"],
        "each caller has its own error"
    );
}

type SendError = Box<dyn std::error::Error + Send + Sync>;

#[derive(cacheio::AsyncCacheable)]
struct Numbers;

#[async_trait::async_trait]
trait Find {
    async fn find(&self, n: u8) -> Result<u8, SendError>;
}

#[async_trait::async_trait]
impl Find for Numbers {
    #[cached]
    async fn find(&self, n: u8) -> Result<u8, SendError> {
        n.checked_sub(1).ok_or_else(|| "zero".into())
    }
}

impl Numbers {
    #[cached(refresh_ahead = 0.5)]
    async fn find_in_the_background(&self, text: &str) -> Result<u8, SendError> {
        Ok(text.parse()?)
    }
}

#[tokio::test]
async fn a_call_with_a_boxed_error_can_be_spawned() {
    #[cached]
    async fn own(text: &str) -> Result<u8, SendError> {
        Ok(text.parse()?)
    }
    #[cached(hard_timeout = "1m")]
    async fn in_the_background(text: &str) -> Result<u8, SendError> {
        Ok(text.parse()?)
    }
    let task = tokio::spawn(async {
        assert!(own("x").await.is_err() && in_the_background("x").await.is_err());
        assert!(Numbers.find(0).await.is_err());
        assert!(Numbers.find_in_the_background("x").await.is_err());
        [
            own("1").await,
            in_the_background("1").await,
            Numbers.find(2).await,
            Numbers.find_in_the_background("1").await,
        ]
    });
    for result in task.await.unwrap() {
        assert_eq!(result.unwrap(), 1);
    }
}

#[test]
fn every_hit_returns_the_arc_that_the_function_returned() {
    /// Without serde.
    #[derive(Debug, PartialEq)]
    struct Plain(u8);

    /// With serde, and not for every lifetime.
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Country {
        name: &'static str,
    }

    #[cached]
    fn number(n: u64) -> Arc<u64> {
        Arc::new(n)
    }
    #[cached]
    fn country(n: u8) -> Arc<Country> {
        let name = if n == 7 { "Peru" } else { "Chad" };
        Arc::new(Country { name })
    }
    #[cached]
    fn names(n: u8) -> Arc<Vec<&'static str>> {
        Arc::new(vec!["Peru"; n.into()])
    }
    #[cached]
    fn plain(n: u8) -> Arc<Plain> {
        Arc::new(Plain(n))
    }
    #[cached]
    fn list(n: u8) -> Result<Arc<Vec<u8>>, NoClone> {
        Ok(Arc::new(vec![n]))
    }
    #[cached]
    fn text(n: u8) -> Arc<str> {
        n.to_string().into()
    }
    #[cached]
    fn of_any<T: CacheKey + Clone + Send + Sync + 'static>(value: T) -> Arc<T> {
        Arc::new(value)
    }

    let first = number(7);
    assert!(*first == 7 && Arc::ptr_eq(&first, &number(7)));
    let first = country(7);
    assert!(first.name == "Peru" && Arc::ptr_eq(&first, &country(7)));
    let first = names(2);
    assert!(first.len() == 2 && Arc::ptr_eq(&first, &names(2)));
    let first = plain(7);
    assert!(*first == Plain(7) && Arc::ptr_eq(&first, &plain(7)));
    let first = list(7).unwrap();
    assert!(*first == [7] && Arc::ptr_eq(&first, &list(7).unwrap()));
    let first = text(7);
    assert!(&*first == "7" && Arc::ptr_eq(&first, &text(7)));
    let first = of_any(7);
    assert!(*first == 7 && Arc::ptr_eq(&first, &of_any(7)));
}

#[tokio::test]
async fn every_hit_of_an_async_function_returns_the_arc_that_it_returned() {
    #[async_cached]
    async fn list(n: u8) -> Arc<Vec<u8>> {
        Arc::new(vec![n])
    }
    #[async_cached(stale_for = 60)]
    async fn owned(n: u8) -> Arc<Vec<u8>> {
        Arc::new(vec![n])
    }
    let first = list(7).await;
    assert!(*first == [7] && Arc::ptr_eq(&first, &list(7).await));
    let first = owned(7).await;
    assert!(*first == [7] && Arc::ptr_eq(&first, &owned(7).await));
}
