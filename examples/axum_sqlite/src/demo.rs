//! The page: the same requests with and without the cache, and switches for what can go wrong.

mod faults;
mod load;
mod policies;
#[path = "../../guide/redis_server.rs"]
#[allow(dead_code, reason = "another example also lets the server hang")]
mod redis_server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use axum::extract::{FromRef, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use cacheio::{AsyncCache, Memory, Redis};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use self::faults::{Faults, Health};
use self::load::{History, Lane};
pub use self::load::{RATE, send_requests};
use self::policies::Place;
pub use self::policies::Policies;
use self::redis_server::RedisServer;
use crate::{Database, Error, Products, Result};

/// How many requests "at once" are.
const CALLERS: usize = 200;

/// Requests are sent for this long after the page has asked for the last time.
const WATCHED: Duration = Duration::from_secs(10);

/// The state of the page: two lanes, and the switches. Clones share it.
#[derive(Clone, Debug)]
pub struct Demo(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    health: watch::Sender<Health>,
    uncached: Database,
    without: Arc<Lane>,
    with: Arc<Lane>,
    cached: RwLock<Cached>,
    place: Place,
    redis: Mutex<Option<RunningRedis>>,
    history: Mutex<History>,
    asked_at: Mutex<Option<Instant>>,
}

/// The service with the cache, whose policies can change.
#[derive(Debug)]
struct Cached {
    database: Database,
    cache: AsyncCache,
    policies: Policies,
}

#[derive(Debug)]
struct RunningRedis {
    server: RedisServer,
    is_up: bool,
}

/// The state of the program's own Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RedisState {
    /// It is not installed: the cache is in memory.
    None,
    Up,
    Down,
}

impl Demo {
    /// Starts with a cache on a Redis of its own, or in memory if Redis is not installed.
    ///
    /// # Errors
    ///
    /// Returns an error when SQLite or Redis cannot be started.
    pub fn start_with_redis() -> anyhow::Result<Self> {
        let Some(server) = RedisServer::start()? else {
            return Ok(Self::start_in_memory()?);
        };
        let redis = Redis::builder()
            .url(server.url())
            .timeout(Duration::from_millis(250))
            .build()?;
        let running = RunningRedis {
            server,
            is_up: true,
        };
        Ok(Self::start(Place::Redis(redis), Some(running))?)
    }

    /// Starts with a cache in memory.
    ///
    /// # Errors
    ///
    /// Returns an error when SQLite cannot be started.
    pub fn start_in_memory() -> Result<Self> {
        let memory = Memory::with_capacity(1_000);
        Self::start(Place::Memory(Arc::new(memory)), None)
    }

    fn start(place: Place, redis: Option<RunningRedis>) -> Result<Self> {
        let (health, is) = watch::channel(Health::default());
        let without = Lane::new(Faults::new(is.clone()));
        let with = Lane::new(Faults::new(is));
        let database = Database::open(with.faults.clone())?;
        let policies = Policies::ALL;
        let cache = policies.build(&place)?;
        Ok(Self(Arc::new(Shared {
            health,
            uncached: Database::open(without.faults.clone())?,
            without: Arc::new(without),
            with: Arc::new(with),
            cached: RwLock::new(Cached {
                database,
                cache,
                policies,
            }),
            place,
            redis: Mutex::new(redis),
            history: Mutex::default(),
            asked_at: Mutex::default(),
        })))
    }

    fn without(&self) -> &Arc<Lane> {
        &self.0.without
    }

    fn with(&self) -> &Arc<Lane> {
        &self.0.with
    }

    fn uncached(&self) -> Database {
        self.0.uncached.clone()
    }

    fn cached(&self) -> RwLockReadGuard<'_, Cached> {
        self.0.cached.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> AsyncCache {
        self.cached().cache.clone()
    }

    fn products(&self) -> Products {
        let cached = self.cached();
        Products::new(cached.database.clone(), cached.cache.clone())
    }

    /// Returns a database that has answered no query.
    fn another_database(&self) -> Result<(Faults, Database)> {
        let faults = self.0.without.faults.of_another();
        Ok((faults.clone(), Database::open(faults)?))
    }

    fn health(&self) -> Health {
        *self.0.health.borrow()
    }

    fn policies(&self) -> Policies {
        self.cached().policies
    }

    fn set_policies(&self, policies: Policies) -> Result<()> {
        let cache = policies.build(&self.0.place)?;
        let cached = self.0.cached.write();
        let mut cached = cached.unwrap_or_else(PoisonError::into_inner);
        (cached.cache, cached.policies) = (cache, policies);
        Ok(())
    }

    fn redis(&self) -> MutexGuard<'_, Option<RunningRedis>> {
        self.0.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn redis_state(&self) -> RedisState {
        match &*self.redis() {
            None => RedisState::None,
            Some(redis) if redis.is_up => RedisState::Up,
            Some(_) => RedisState::Down,
        }
    }

    /// Kills Redis, or starts it again, empty.
    fn set_redis(&self, is_up: bool) -> Result<()> {
        if let Some(redis) = &mut *self.redis() {
            match (redis.is_up, is_up) {
                (true, false) => redis.server.kill().map_err(Error::internal)?,
                (false, true) => redis.server.restart().map_err(Error::internal)?,
                _ => {}
            }
            redis.is_up = is_up;
        }
        Ok(())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.0
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn asked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0
            .asked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_watched(&self) -> bool {
        self.asked_at().is_some_and(|at| at.elapsed() < WATCHED)
    }

    fn switches(&self) -> Value {
        json!({
            "database": self.health(),
            "redis": self.redis_state(),
            "policies": self.policies(),
        })
    }
}

/// The routes of the service use the products with the current policies.
impl FromRef<Demo> for Products {
    fn from_ref(demo: &Demo) -> Self {
        demo.products()
    }
}

/// Builds the routes of the page.
pub fn routes() -> Router<Demo> {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, kind)], text).into_response() })
    };
    Router::new()
        .route("/", get(Html(include_str!("page/page.html"))))
        .route(
            "/page.css",
            file("text/css; charset=utf-8", include_str!("page/page.css")),
        )
        .route(
            "/page.js",
            file(
                "text/javascript; charset=utf-8",
                include_str!("page/page.js"),
            ),
        )
        .route("/demo", get(state))
        .route("/demo/database", put(set_database))
        .route("/demo/redis", put(set_redis))
        .route("/demo/policies", put(set_policies))
        .route("/demo/burst", post(burst))
        .route("/demo/invalidate", post(invalidate))
}

#[derive(Deserialize)]
struct Since {
    /// The first second that the page does not know.
    #[serde(default)]
    since: u64,
}

async fn state(State(demo): State<Demo>, Query(Since { since }): Query<Since>) -> Json<Value> {
    *demo.asked_at() = Some(Instant::now());
    let samples = demo.history().since(since);
    Json(json!({ "rate": RATE, "switches": demo.switches(), "samples": samples }))
}

async fn set_database(State(demo): State<Demo>, Json(health): Json<Health>) -> Json<Value> {
    demo.0.health.send_replace(health);
    Json(demo.switches())
}

async fn set_redis(State(demo): State<Demo>, Json(is_up): Json<bool>) -> Result<Json<Value>> {
    demo.set_redis(is_up)?;
    Ok(Json(demo.switches()))
}

async fn set_policies(
    State(demo): State<Demo>,
    Json(policies): Json<Policies>,
) -> Result<Json<Value>> {
    demo.set_policies(policies)?;
    Ok(Json(demo.switches()))
}

/// Sends many requests at once for a product that is not in the cache.
async fn burst(State(demo): State<Demo>) -> Result<Json<Value>> {
    let (without, with) = load::burst(&demo, CALLERS).await?;
    Ok(Json(
        json!({ "callers": CALLERS, "without": without, "with": with }),
    ))
}

/// Invalidates all products, and returns whether that was possible: Redis may be down.
async fn invalidate(State(demo): State<Demo>) -> Json<Value> {
    let invalidated = demo.products().invalidate_all().await;
    Json(json!({ "invalidated": invalidated.is_ok() }))
}
