//! Methods of traits.

use crate::prelude::*;

trait Repository {
    fn find(&self, id: u32) -> Result<String, String>;
}

impl Repository for Service {
    #[cached(ttl = 60)]
    fn find(&self, id: u32) -> Result<String, String> {
        Ok(format!("{id} {}", self.runs.count()))
    }
}

#[test]
fn method_in_an_impl_of_a_trait() {
    let service = Service::new();
    let repository: &dyn Repository = &service;
    assert_eq!(repository.find(1).unwrap(), "1 1");
    assert_eq!(repository.find(1).unwrap(), "1 1");
    assert_eq!(repository.find(2).unwrap(), "2 2");
}

trait Greeter: Cacheable<Cache = Cache> {
    fn runs(&self) -> &Runs;

    #[cached]
    fn greet(&self, name: &str) -> String {
        format!("hello {name} {}", self.runs().count())
    }
}

impl Greeter for Service {
    fn runs(&self) -> &Runs {
        &self.runs
    }
}

#[test]
fn default_method_of_a_trait() {
    let service = Service::new();
    assert_eq!(service.greet("Ada"), "hello Ada 1");
    assert_eq!(service.greet("Ada"), "hello Ada 1");
    assert_eq!(service.greet("Bob"), "hello Bob 2");
}

#[async_trait::async_trait]
trait Store {
    async fn load(
        &self,
        id: u32,
        names: &[String],
        owned: String,
    ) -> Result<String, std::num::ParseIntError>;
    async fn bump(&mut self, mut n: usize) -> usize;
    async fn unit(&self, (a, b): (u8, u8), _: u8);

    async fn made(n: u8) -> String
    where
        Self: Sized;
}

#[async_trait::async_trait]
impl Store for Service {
    #[async_cached(key = "{self.tenant}:{id}", ttl = "1m")]
    async fn load(
        &self,
        id: u32,
        names: &[String],
        owned: String,
    ) -> Result<String, std::num::ParseIntError> {
        tokio::task::yield_now().await;
        let parsed: u32 = owned.parse()?;
        if parsed > 100 {
            return Ok("early".into());
        }
        Ok(format!(
            "{id} {} {parsed} {}",
            names.join(","),
            self.runs.count()
        ))
    }

    #[cached]
    async fn bump(&mut self, mut n: usize) -> usize {
        self.tenant.push('!');
        n += self.runs.count();
        n
    }

    #[cached]
    async fn unit(&self, (a, b): (u8, u8), _: u8) {
        let _ = a + b;
        self.runs.count();
    }

    #[cached]
    async fn made(n: u8) -> String {
        n.to_string()
    }
}

#[tokio::test]
async fn method_under_async_trait() {
    let mut service = Service::new();
    assert!(service.load(1, &[], "x".into()).await.is_err());
    assert_eq!(
        service.load(1, &["a".into()], "5".into()).await.unwrap(),
        "1 a 5 1"
    );
    assert_eq!(service.load(1, &[], "9".into()).await.unwrap(), "1 a 5 1");
    assert_eq!(service.load(2, &[], "101".into()).await.unwrap(), "early");
    assert!(service.async_cache.has("shop:1").await.unwrap());
    assert_eq!(service.bump(1).await, 3);
    assert_eq!(service.bump(1).await, 3);
    assert_eq!(service.tenant, "shop!");
    service.unit((1, 2), 3).await;
    service.unit((1, 2), 3).await;
    assert_eq!(service.runs.get(), 3);
    service.unit((1, 2), 4).await;
    service.unit((1, 3), 4).await;
    assert_eq!(service.runs.get(), 5);
    assert_eq!(<Service as Store>::made(1).await, "1");
}

#[async_trait::async_trait]
trait Fetcher: AsyncCacheable<Cache = AsyncCache> + Sync {
    async fn fetch(&self, n: u8) -> u8 {
        n
    }

    #[cached]
    async fn fetch_cached(&self, n: u8) -> u8 {
        self.fetch(n).await + 1
    }
}

impl Fetcher for Service {}

#[tokio::test]
async fn default_method_under_async_trait() {
    let service = Service::new();
    assert_eq!(service.fetch_cached(1).await, 2);
    assert_eq!(service.fetch_cached(1).await, 2);
    assert_eq!(service.async_cache.stats().hits, 1);
}

trait Native {
    fn find(&self, id: u32) -> impl Future<Output = usize> + Send;
}

impl Native for Service {
    #[cached]
    async fn find(&self, id: u32) -> usize {
        let _ = id;
        self.runs.count()
    }
}

#[tokio::test]
async fn async_fn_in_a_trait() {
    let service = Service::new();
    assert_eq!(Native::find(&service, 1).await, 1);
    assert_eq!(Native::find(&service, 1).await, 1);
}
