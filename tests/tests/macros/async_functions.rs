//! Async functions and methods.

use crate::prelude::*;

impl Service {
    #[async_cached(key = "user:{user_id}", ttl = "1m", tags = [format!("user:{user_id}")])]
    async fn by_template_async(&self, user_id: u64, request_id: &str) -> String {
        tokio::task::yield_now().await;
        format!("{user_id} {request_id} {}", self.runs.count())
    }

    #[cached]
    async fn of_all_async(&self, a: u32, b: String) -> usize {
        tokio::task::yield_now().await;
        drop((a, b));
        self.runs.count()
    }

    #[cached]
    async fn by_mutable_async(&mut self, n: u8) -> usize {
        self.tenant.push('!');
        tokio::task::yield_now().await;
        usize::from(n) + self.runs.count()
    }

    #[cached]
    async fn by_arc_async(self: Arc<Self>, n: u8) -> usize {
        usize::from(n) + self.runs.count()
    }
}

#[tokio::test]
async fn an_argument_that_the_key_does_not_name_is_not_part_of_it() {
    let service = Service::new();
    assert_eq!(service.by_template_async(42, "a").await, "42 a 1");
    assert_eq!(service.by_template_async(42, "a").await, "42 a 1");
    assert_eq!(service.by_template_async(42, "b").await, "42 a 1");
    assert!(service.async_cache.has("user:42").await.unwrap());
    assert!(!service.cache.has("user:42").unwrap());
    service
        .async_cache
        .invalidate_tags(["user:42"])
        .await
        .unwrap();
    assert_eq!(service.by_template_async(42, "b").await, "42 b 2");
}

#[tokio::test]
async fn all_arguments_are_the_default_key() {
    let service = Service::new();
    assert_eq!(service.of_all_async(1, "x".into()).await, 1);
    assert_eq!(service.of_all_async(1, "y".into()).await, 2);
    assert_eq!(service.of_all_async(1, "x".into()).await, 1);
}

#[tokio::test]
async fn receivers() {
    let mut service = Service::new();
    assert_eq!(service.by_mutable_async(1).await, 2);
    assert_eq!(service.by_mutable_async(1).await, 2);
    assert_eq!(service.tenant, "shop!");
    let service = Arc::new(service);
    assert_eq!(Arc::clone(&service).by_arc_async(1).await, 3);
    assert_eq!(Arc::clone(&service).by_arc_async(1).await, 3);
}

#[tokio::test]
async fn a_function_cache_stores_ok_values_without_serde() {
    type Outcome<T> = Result<T, anyhow::Error>;
    #[derive(Clone, Debug, PartialEq)]
    struct Plain(String);
    static RUNS: Runs = Runs::new();
    #[cached(ttl = 60, capacity = 10, cache_if = |plain| plain.0 != "odd")]
    async fn plain(text: String, mut number: String) -> Outcome<Plain> {
        RUNS.count();
        let parsed: u8 = number.parse()?;
        number.clear();
        tokio::task::yield_now().await;
        if parsed == 1 {
            return Ok(Plain("odd".into()));
        }
        Ok(Plain(text + &number))
    }
    for _ in 0..2 {
        assert!(plain("a".into(), "x".into()).await.is_err());
    }
    assert_eq!(RUNS.get(), 2);
    for _ in 0..2 {
        assert_eq!(
            plain("a".into(), "2".into()).await.unwrap(),
            Plain("a".into())
        );
    }
    assert_eq!(RUNS.get(), 3);
    for _ in 0..2 {
        plain("a".into(), "1".into()).await.unwrap();
    }
    assert_eq!(RUNS.get(), 5);
}

#[tokio::test]
async fn body_is_coerced_to_the_return_type() {
    #[cached]
    async fn boxed(n: u8) -> Arc<dyn Fn() -> u8 + Send + Sync> {
        if n == 0 {
            return Arc::new(|| 0);
        }
        Arc::new(move || n)
    }
    assert_eq!(((boxed(3).await)(), (boxed(0).await)()), (3, 0));
}

#[tokio::test]
async fn recursion() {
    static RUNS: Runs = Runs::new();
    #[cached]
    async fn fib(n: u64) -> u64 {
        RUNS.count();
        if n < 2 {
            n
        } else {
            Box::pin(fib(n - 1)).await + Box::pin(fib(n - 2)).await
        }
    }
    assert_eq!(fib(20).await, 6765);
    assert_eq!(RUNS.get(), 21);
}

#[tokio::test]
async fn futures_are_send_where_the_body_is() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    #[cached(cache = state.cache, key = "{name}")]
    async fn send(state: Arc<State>, name: NotSync, shown: &str) -> String {
        let name = name.0.into_inner();
        tokio::task::yield_now().await;
        drop(state);
        format!("{name}{shown}")
    }
    struct State {
        cache: AsyncCache,
    }
    struct NotSync(std::cell::Cell<u8>);
    impl std::fmt::Display for NotSync {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.get().fmt(f)
        }
    }
    let state = Arc::new(State {
        cache: CacheFactory::async_memory_cache(),
    });
    let call = send(Arc::clone(&state), NotSync(7.into()), "x");
    assert_eq!(is_send(call).await, "7x");
    let service = Arc::new(Service::new());
    let task = tokio::spawn(async move { service.by_template_async(1, "r").await });
    assert_eq!(task.await.unwrap(), "1 r 1");
}

#[tokio::test]
async fn the_future_does_not_hold_the_state_of_the_body() {
    #[cached(skip(service))]
    async fn large(service: &Service, n: u8) -> usize {
        let mut big = [n; 16_384];
        tokio::task::yield_now().await;
        big[0] += 1;
        service.runs.count() + usize::from(big[0])
    }
    let service = Service::new();
    let future = large(&service, 1);
    assert!(size_of_val(&future) < 512, "{}", size_of_val(&future));
    assert_eq!(future.await, 3);
}

#[tokio::test]
async fn concurrent_callers_share_one_load() {
    let service = Arc::new(Service::new());
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.of_all_async(1, "x".into()).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 1);
    }
}

#[tokio::test]
async fn patterns() {
    #[cached]
    async fn sum((a, b): (u32, u32), _: u8, mut n: u32) -> u32 {
        n += a;
        tokio::task::yield_now().await;
        n + b
    }
    assert_eq!(sum((1, 2), 0, 3).await, 6);
    assert_eq!(sum((1, 2), 0, 3).await, 6);
    assert_eq!(sum((2, 2), 0, 3).await, 7);
}
