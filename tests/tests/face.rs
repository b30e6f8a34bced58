//! The shortest way to write what most programs write.

#![cfg(not(shuttle))]

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use cacheio::{
    AsyncCache, AsyncCacheable, AsyncLoadingCache, AsyncTypedCache, Cache, CacheFactory, CacheKey,
    Cacheable, ErrorKind, KeyWriter, LoadError, LoadingCache, Local, Memory, Options, Ttl,
    TypedCache, Update, async_cached, cached,
};
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct User {
    id: u64,
    name: String,
}

fn user() -> User {
    User {
        id: 7,
        name: "Ada".into(),
    }
}

#[derive(Clone, Debug, PartialEq)]
struct DbError(String);

impl From<cacheio::Error> for DbError {
    fn from(error: cacheio::Error) -> Self {
        Self(error.to_string())
    }
}

#[test]
fn values_are_set_by_reference() -> cacheio::Result<()> {
    fn save(cache: &Cache, user: &User) -> cacheio::Result<()> {
        cache.set(("user", user.id), user)
    }
    fn save_any<V: cacheio::Value>(cache: &Cache, value: &V) -> cacheio::Result<()> {
        cache.set_with("any", value, MINUTE)
    }
    let cache = Cache::new(100);
    save(&cache, &user())?;
    assert_eq!(cache.get(("user", 7))?, Some(user()));
    save_any(&cache, &user())?;
    assert_eq!(cache.get("any")?, Some(user()));
    save_any(&cache, &Local::new(5))?;
    assert_eq!(cache.get("any")?, Some(Local::new(5)));
    let map = HashMap::from([("a", user()), ("b", user())]);
    cache.set_many(&map)?;
    cache.set_many_with(&map, MINUTE)?;
    assert_eq!(cache.get_many("ab".chars())?, [Some(user()), Some(user())]);
    let local = Local::new(5);
    cache.set("local", &local)?;
    assert_eq!(cache.get("local")?, Some(local));
    cache.set("text", "text")?;
    cache.set("number", 5)?;
    cache.set("none", None::<u8>)?;
    assert!(!cache.add("text", &String::from("other"))?);
    Ok(())
}

#[test]
fn values_are_updated_and_taken() -> cacheio::Result<()> {
    let cache = Cache::new(100);
    let visits = cache.update("visits", |n: Option<u32>| Update::Set(n.unwrap_or(0) + 1))?;
    assert_eq!(visits, Some(1));
    let rename = |user: Option<User>| match user {
        Some(user) => Update::Set(User {
            name: "Grace".into(),
            ..user
        }),
        None => Update::Keep,
    };
    cache.set("user", user())?;
    let renamed = cache.update_with("user", MINUTE, rename)?;
    assert_eq!(renamed.unwrap().name, "Grace");
    let refreshed = |user: Option<User>| match user {
        Some(user) => Update::SetFor(user, MINUTE.into()),
        None => Update::Keep,
    };
    cache.update("user", refreshed)?;
    assert!(matches!(cache.ttl("user")?, Some(Ttl::After(left)) if left <= MINUTE));
    let user: Option<User> = cache.take("user")?;
    assert_eq!(user.unwrap().name, "Grace");
    Ok(())
}

#[test]
fn keys_and_values_of_handles_are_passed_in_any_way() -> cacheio::Result<()> {
    let cache = Cache::new(100);
    let users = cache.typed::<String, User>("user");
    let (name, ada) = (String::from("Ada"), user());
    users.set("Ada", &ada)?;
    users.set(&name, ada.clone())?;
    users.set(name.clone(), &ada)?;
    assert!(users.has("Ada")? && users.has(&name)? && users.has(name.clone())?);
    assert_eq!(users.get_many(["Ada", "Eve"])?, [Some(ada.clone()), None]);
    assert_eq!(
        users.get_many(std::slice::from_ref(&name))?,
        [Some(ada.clone())]
    );
    users.set_many(&std::collections::BTreeMap::from([(name, ada)]))?;
    assert!(users.take("Ada")?.is_some());
    let by_id: TypedCache<u64, String> = cache.typed(format!("tenant {}", 7));
    let id = 42;
    by_id.set(id, "text")?;
    by_id.set_with(&id, String::from("text"), MINUTE)?;
    assert_eq!(by_id.get(42)?.as_deref(), Some("text"));
    let pairs = cache.typed::<(u64, String), Vec<u8>>("pair");
    pairs.set((1, "a".into()), [1_u8, 2].as_slice())?;
    assert_eq!(pairs.get(&(1, "a".into()))?, Some(vec![1, 2]));
    let names = cache.typed::<&'static str, Local<u8>>("static");
    names.set("a", Local::new(1))?;
    assert_eq!(names.get("a")?, Some(Local::new(1)));
    Ok(())
}

#[test]
fn listed_keys_are_used_as_texts_and_as_keys() -> cacheio::Result<()> {
    let cache = Cache::new(100);
    let users = cache.typed::<u64, String>("user");
    users.set(42, "Ada")?;
    cache.set(("visits", 1), 7)?;
    let mut keys = cache.keys(10)?;
    keys.sort();
    assert_eq!(keys, [":user:42", "visits:1"]);
    assert_eq!(keys, [":user:42".to_owned(), "visits:1".to_owned()]);
    assert!(keys[0] == ":user:42" && keys[0].starts_with(":user:"));
    assert_eq!(
        format!("{} {:?}", keys[0], keys[1]),
        ":user:42 \"visits:1\""
    );
    assert_eq!(String::from(keys[1].clone()), "visits:1");
    assert_eq!(cache.get(&keys[0])?, Some(String::from("Ada")));
    assert_eq!(cache.get_many::<u32>(&keys[1..])?, [Some(7)]);
    for key in keys {
        assert!(cache.delete(key)?);
    }
    assert_eq!(cache.len()?, 0);
    Ok(())
}

#[test]
fn loaders_of_handles_return_values_and_results() {
    struct App {
        users: LoadingCache<u64, User, DbError>,
        squares: LoadingCache<u64, u64>,
    }
    fn load(id: u64) -> Result<User, DbError> {
        match id {
            7 => Ok(user()),
            _ => Err(DbError("no such user".into())),
        }
    }
    fn name(app: &App, id: u64) -> Result<String, DbError> {
        let user = app.users.get(id).map_err(LoadError::into_error)?;
        Ok(user.name)
    }
    let cache = Cache::new(100);
    let all = |ids: Vec<u64>| ids.into_iter().map(|id| Ok((id, load(id)?))).collect();
    let app = App {
        users: cache
            .typed("user")
            .options(MINUTE)
            .loader(load)
            .batch_loader(all as fn(Vec<u64>) -> Result<Vec<_>, _>),
        squares: cache.typed("square").loader(|n| n * n).batch_loader(|ns| {
            ns.into_iter()
                .map(|n| (n, n * n))
                .collect::<HashMap<_, _>>()
        }),
    };
    assert_eq!(name(&app, 7).unwrap(), "Ada");
    assert_eq!(name(&app, 8).unwrap_err(), DbError("no such user".into()));
    assert!(app.users.get_many([7, 8])[0].is_ok());
    assert_eq!(app.squares.get(&3).unwrap(), 9);
    let all: Result<Vec<_>, _> = app.squares.get_many(&[3, 4]).into_iter().collect();
    assert_eq!(all.unwrap(), [Some(9), Some(16)]);
}

#[tokio::test]
async fn handles_are_shared_by_tasks() {
    #[derive(Clone)]
    struct App {
        users: AsyncLoadingCache<String, User, DbError>,
        ages: AsyncTypedCache<String, u32>,
    }
    async fn load(name: String) -> Result<User, DbError> {
        Ok(User { id: 1, name })
    }
    let cache = AsyncCache::new(100);
    let app = App {
        users: cache
            .typed("user")
            .loader(load)
            .batch_loader(|names: Vec<String>| async move {
                let mut users = Vec::new();
                for name in names {
                    users.push((name.clone(), load(name).await?));
                }
                Ok(users)
            }),
        ages: cache.typed("age"),
    };
    let task = tokio::spawn({
        let app = app.clone();
        async move {
            app.ages.set("Ada", 36).await.unwrap();
            app.users.get_many(["Ada", "Eve"]).await;
            app.users.refresh("Ada").await.unwrap();
            app.users.get("Ada").await.unwrap().name
        }
    });
    assert_eq!(task.await.unwrap(), "Ada");
    assert_eq!(app.ages.get("Ada").await.unwrap(), Some(36));
    assert!(app.users.typed().has("Eve").await.unwrap());
}

/// A key that tasks cannot share.
struct Unshared(Cell<u64>);

impl CacheKey for Unshared {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.integer(self.0.get());
    }
}

#[tokio::test]
async fn a_task_loads_by_a_key_that_tasks_cannot_share() {
    let load = |key: Unshared| async move { key.0.get() * 2 };
    let doubles = AsyncCache::new(100).typed("double").loader(load);
    for _ in 0..2 {
        let doubles = doubles.clone();
        let get = async move { doubles.get(Unshared(Cell::new(4))).await };
        assert_eq!(tokio::spawn(get).await.unwrap().unwrap(), 8);
    }
    let refresh = async move { doubles.refresh(Unshared(Cell::new(5))).await };
    assert_eq!(tokio::spawn(refresh).await.unwrap().unwrap(), 10);
}

#[tokio::test]
async fn values_are_set_by_reference_in_tasks() -> cacheio::Result<()> {
    async fn save(cache: &AsyncCache, user: &User) -> cacheio::Result<()> {
        cache.set(("user", user.id), user).await
    }
    let cache = AsyncCache::new(100);
    save(&cache, &user()).await?;
    assert_eq!(cache.get(("user", 7)).await?, Some(user()));
    let map = HashMap::from([("a", user()), ("b", user())]);
    cache.set_many(&map).await?;
    let cache_in_task = cache.clone();
    let task = tokio::spawn(async move { cache_in_task.set("spawned", &user()).await });
    task.await.unwrap()?;
    assert_eq!(cache.get("spawned").await?, Some(user()));
    Ok(())
}

#[tokio::test]
async fn one_turbofish_in_both_worlds() {
    let cache = Cache::default();
    assert_eq!(cache.get_or_set::<u64>("k", || 1), 1);
    assert_eq!(cache.get_or_set_with::<u64>("k", MINUTE, || 2), 1);
    assert_eq!(
        cache.get_or_try_set::<u64, DbError>("k", || Ok(2)).unwrap(),
        1
    );
    let cache = AsyncCache::default();
    let borrowed = String::from("1");
    let load = || async { borrowed.parse().unwrap() };
    assert_eq!(cache.get_or_set::<u64>("k", load).await, 1);
    assert_eq!(
        cache.get_or_set_with::<u64>("k", MINUTE, async || 2).await,
        1
    );
    let loaded = cache
        .get_or_try_set::<u64, DbError>("k", || async { Ok(2) })
        .await;
    assert_eq!(loaded.unwrap(), 1);
}

#[test]
fn options_have_one_setter_for_each_setting_and_one_constructor() -> cacheio::Result<()> {
    let cache = Cache::default();
    cache.set_with("k", 1, Options::new().tags(["a"]).ttl(MINUTE).jitter(0.1))?;
    cache.set_with("k", 1, Options::new().ttl(Ttl::Never))?;
    assert_eq!(cache.get("k")?, Some(1));
    Ok(())
}

#[test]
fn a_load_error_becomes_the_error_of_the_function_in_one_word() {
    fn page(cache: &Cache) -> Result<u32, DbError> {
        let load = || Err(DbError("gone".into()));
        cache
            .get_or_try_set("page", load)
            .map_err(LoadError::into_error)
    }
    fn any(cache: &Cache) -> anyhow::Result<u32> {
        Ok(cache.get_or_try_set("page", || "x".parse())?)
    }
    fn boxed(cache: &Cache) -> Result<u32, Box<dyn std::error::Error>> {
        Ok(cache.get_or_try_set("page", || "x".parse())?)
    }
    let cache = Cache::default();
    assert_eq!(page(&cache), Err(DbError("gone".into())));
    assert!(any(&cache).is_err() && boxed(&cache).is_err());
}

#[test]
fn caches_in_memory_are_built_in_one_line() -> cacheio::Result<()> {
    let cache = CacheFactory::memory_cache_with(2, MINUTE)?;
    cache.set_many([("a", 1), ("b", 2), ("c", 3), ("d", 4)])?;
    let kept = cache.get_many::<u8>(["a", "b", "c", "d"])?;
    assert!(kept.iter().flatten().count() <= 2, "{kept:?}");
    let invalid = CacheFactory::async_memory_cache_with(2, Duration::ZERO);
    assert_eq!(invalid.unwrap_err().kind(), ErrorKind::Config);
    Cache::builder().capacity(10).default_ttl(MINUTE).build()?;
    AsyncCache::builder().capacity(10).build()?;
    let twice = Cache::builder().store(Memory::new()).capacity(10).build();
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Config);
    Ok(())
}

#[test]
#[should_panic(expected = "capacity")]
fn a_cache_without_capacity_panics() {
    Cache::new(0);
}

#[derive(Cacheable, Default)]
struct Defaults {
    cache: Cache,
}

impl Defaults {
    #[cached]
    fn find(&self, n: u32) -> u32 {
        n
    }
}

#[test]
fn a_type_with_a_cache_is_default() {
    let service = Defaults::default();
    assert_eq!(service.find(1), 1);
    assert_eq!(service.cache.stats().loads, 1);
}

#[derive(AsyncCacheable, Cacheable, Clone, Copy)]
struct Unit;

impl Unit {
    #[cached(key = "{n}")]
    fn find(self, n: u32, value: u32) -> u32 {
        n + value
    }

    #[async_cached(key = "{n}")]
    async fn find_async(self, n: u32, value: u32) -> u32 {
        n + value
    }
}

#[derive(Cacheable)]
struct Repository<T> {
    value: T,
}

impl<T: Copy + Into<u64>> Repository<T> {
    #[cached(key = "{n}")]
    fn find(&self, n: u32) -> u64 {
        self.value.into() + u64::from(n)
    }
}

#[derive(Cacheable)]
enum Source {
    One,
    Two,
}

impl Source {
    #[cached(key = "{n}")]
    fn find(&self, n: u32) -> u32 {
        n + match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

#[tokio::test]
async fn a_type_without_a_field_for_its_cache_has_one() {
    assert_eq!((Unit.find(1, 0), Unit.find(1, 1)), (1, 1));
    assert_eq!(Unit.find_async(1, 1).await, 2);
    assert_eq!(Unit.find_async(1, 2).await, 2);
    assert_eq!(Cacheable::cache(&Unit).stats().loads, 1);
    // One cache for each type, and not for each value.
    assert_eq!(Repository { value: 1_u8 }.find(1), 2);
    assert_eq!(Repository { value: 2_u8 }.find(1), 2);
    assert_eq!(Repository { value: 2_u16 }.find(1), 3);
    assert_eq!((Source::One.find(1), Source::Two.find(1)), (2, 2));
}
