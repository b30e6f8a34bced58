//! Methods, methods of traits and companions.

use super::*;

impl Origin {
    #[cached(key = "{self.tenant}:{n}", refresh_ahead = 0.5, cache_if = |sum| *sum > self.limit())]
    fn with_self_in_macros(&self, n: usize) -> usize {
        struct Other(usize);
        impl Other {
            fn get(&self) -> usize {
                self.0
            }
        }
        macro_rules! runs {
            ($origin:expr) => {
                $origin.runs.count()
            };
        }
        assert!(
            !self.tenant.is_empty(),
            "{} {}",
            self.tenant,
            self::TIMEOUT.as_millis()
        );
        let sum = [runs!(self), n];
        Other(sum.iter().sum()).get()
    }

    fn limit(&self) -> usize {
        self.tenant.len()
    }

    #[cached(refresh_ahead = 0.5)]
    fn by_arc(self: Arc<Self>, n: usize) -> usize {
        self.runs.count() + n
    }

    #[cached(refresh_ahead = 0.5)]
    fn by_arc_reference(self: &Arc<Self>, n: usize) -> usize {
        self.runs.count() + n
    }

    #[cached(refresh_ahead = 0.5)]
    fn by_value(mut self, n: usize) -> usize {
        self.tenant.clear();
        self.runs.count() + n + self.tenant.len()
    }

    #[cached(key = "{n}", ttl = "1m", refresh_ahead = 0.5, tags = [self.tenant.clone()], companions)]
    fn with_companions(&self, n: usize, added: &usize) -> usize {
        self.runs.count() + n + added
    }
}

#[test]
fn receivers_and_self_in_macros() {
    let origin = Arc::new(Origin::new());
    for _ in 0..2 {
        assert_eq!(origin.with_self_in_macros(9), 10);
        assert_eq!(Arc::clone(&origin).by_arc(9), 11);
        assert_eq!(origin.by_arc_reference(9), 12);
        assert_eq!(Origin::clone(&origin).by_value(9), 13);
    }
    assert_eq!(origin.with_self_in_macros(0), 5);
    origin.cache.clear().unwrap();
    origin.runs.count();
    assert_eq!((origin.with_self_in_macros(0), origin.runs.get()), (7, 7));
}

#[test]
fn companions_of_a_method() {
    let origin = Origin::new();
    assert_eq!(origin.with_companions(1, &10), 12);
    assert_eq!(origin.with_companions_refresh(1, &20), 23);
    assert_eq!(origin.with_companions(1, &10), 23);
    assert_eq!(origin.with_companions_key(1), "1");
    assert!(origin.with_companions_invalidate(1).unwrap());
    assert_eq!(origin.with_companions(1, &10), 14);
}

trait Found {
    fn find(&self, id: &str) -> String;
}

impl Found for Origin {
    #[cached(refresh_ahead = 0.5)]
    fn find(&self, id: &str) -> String {
        format!("{} {id} {}", self.tenant, self.runs.count())
    }
}

trait Greets: Cacheable<Cache = Cache> + Clone + Send + Sync + 'static {
    fn runs(&self) -> &Runs;

    #[cached(refresh_ahead = 0.5)]
    fn greet(&self, name: &str) -> String {
        format!("hello {name} {}", self.runs().count())
    }
}

impl Greets for Origin {
    fn runs(&self) -> &Runs {
        &self.runs
    }
}

#[async_trait::async_trait]
trait Loaded {
    async fn load(&self, id: u32, names: &[String], owned: String) -> anyhow::Result<String>;
}

#[async_trait::async_trait]
impl Loaded for Origin {
    #[async_cached(key = "{self.tenant}:{id}", hard_timeout = "1m")]
    async fn load(&self, id: u32, names: &[String], owned: String) -> anyhow::Result<String> {
        tokio::task::yield_now().await;
        let parsed: u32 = owned.parse()?;
        let run = self.runs.count();
        Ok(format!("{id} {} {parsed} {run}", names.join(",")))
    }
}

#[test]
fn methods_of_traits() {
    let origin = Origin::new();
    for _ in 0..2 {
        assert_eq!(origin.find("a"), "shop a 1");
        assert_eq!(origin.greet("Ada"), "hello Ada 2");
    }
}

#[tokio::test]
async fn methods_under_async_trait() {
    let origin = Origin::new();
    assert!(origin.load(1, &[], "x".into()).await.is_err());
    for _ in 0..2 {
        assert_eq!(
            origin.load(1, &names(), "5".into()).await.unwrap(),
            "1 a,b 5 1"
        );
    }
}
