//! The snapshot of a cache: what is in the file, and what a program that restarts serves from it.

#![cfg(not(shuttle))]

mod failures;
mod lifetimes;
mod processes;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cacheio_async::AsyncCache;
use cacheio_core::{Error, ErrorKind, Local, Operation, Postcard, Result, Ttl, Update};
use cacheio_sync::{Cache, Memory};
use cacheio_tests::api::{CacheApi, World};
use cacheio_tests::watchdog::guarded;
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3_600);

/// A folder that is removed after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let id = RandomState::new().hash_one(0);
        let path = env::temp_dir().join(format!("cacheio tests+{id:016x}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("snapshot")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Builds a cache with a snapshot, on a memory of its own.
fn cache(world: World, path: &Path) -> CacheApi {
    on(world, path, Memory::new(), "", "json").unwrap()
}

fn on(
    world: World,
    path: &Path,
    memory: impl Into<Arc<Memory>>,
    namespace: &str,
    codec: &str,
) -> Result<CacheApi> {
    let memory = memory.into();
    Ok(match world {
        World::Threads => {
            let builder = Cache::builder().store(memory).namespace(namespace);
            let builder = builder.snapshot(path);
            CacheApi::Threads(match codec {
                "json" => builder.build()?,
                _ => builder.codec(Postcard).build()?,
            })
        }
        World::Tasks => {
            let builder = AsyncCache::builder().store(memory).namespace(namespace);
            let builder = builder.snapshot(path);
            CacheApi::Tasks(match codec {
                "json" => builder.build()?,
                _ => builder.codec(Postcard).build()?,
            })
        }
    })
}

/// Runs a case in both worlds, each with a folder.
fn both(case: impl AsyncFn(World, &Path) + Copy + Send + 'static) {
    guarded(move || {
        for world in [World::Threads, World::Tasks] {
            let folder = Folder::new();
            world.run(case(world, &folder.file()));
        }
    });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    tags: BTreeMap<String, Vec<f64>>,
    parent: Option<Box<User>>,
}

fn user() -> User {
    User {
        name: "Ada".into(),
        tags: BTreeMap::from([("a".into(), vec![0.1, -0.0])]),
        parent: Some(Box::new(User {
            name: String::new(),
            tags: BTreeMap::new(),
            parent: None,
        })),
    }
}

#[test]
fn values_of_all_kinds_come_back() {
    both(async |world, path| {
        for codec in ["json", "postcard"] {
            let build = || on(world, path, Memory::new(), "shop", codec).unwrap();
            let first = build();
            first.set("user", user()).await.unwrap();
            first.set(("number", -7), -7_i64).await.unwrap();
            first.set("max", u64::MAX).await.unwrap();
            first.set("nan", f64::NAN).await.unwrap();
            first.set("bool", true).await.unwrap();
            first.set("unit", ()).await.unwrap();
            first.set("empty", "").await.unwrap();
            first.set("none", None::<u8>).await.unwrap();
            first.set("some none", Some(None::<u8>)).await.unwrap();
            first.set("bytes", vec![0_u8, 255]).await.unwrap();
            first.increment("count", 5).await.unwrap();
            first.set("key\n\0ä", "odd").await.unwrap();
            drop(first);
            let second = build();
            assert_eq!(second.len().await.unwrap(), 12);
            // Twice: the first read replaces what the file had.
            for _ in 0..2 {
                assert_eq!(second.get("user").await.unwrap(), Some(user()));
                assert_eq!(second.get("number:-7").await.unwrap(), Some(-7_i64));
                assert_eq!(second.get("max").await.unwrap(), Some(u64::MAX));
                assert!(second.get::<f64>("nan").await.unwrap().unwrap().is_nan());
                assert_eq!(second.get("bool").await.unwrap(), Some(true));
                assert_eq!(second.get("unit").await.unwrap(), Some(()));
                assert_eq!(second.get("empty").await.unwrap(), Some(String::new()));
                assert_eq!(second.get("none").await.unwrap(), Some(None::<u8>));
                let nested = second.get::<Option<Option<u8>>>("some none").await;
                assert_eq!(nested.unwrap(), Some(Some(None)));
                let bytes = second.get::<Vec<u8>>("bytes").await.unwrap();
                assert_eq!(bytes, Some(vec![0, 255]));
                let odd = second.get::<String>("key\n\0ä").await.unwrap();
                assert_eq!(odd.as_deref(), Some("odd"));
            }
            assert_eq!(second.increment("count", 1).await.unwrap(), 6);
            assert_eq!(second.increment("number:-7", 1).await.unwrap(), -6);
            second.clear().await.unwrap();
            assert_eq!(second.save_snapshot().await.unwrap().entries, 0);
            drop(second);
            assert_eq!(build().len().await.unwrap(), 0);
            fs::remove_file(path).unwrap();
        }
    });
}

/// An entry that was not read is saved again as it is.
#[test]
fn entries_outlive_several_restarts() {
    both(async |world, path| {
        cache(world, path).set("user", user()).await.unwrap();
        for _ in 0..3 {
            drop(cache(world, path));
        }
        let last = cache(world, path);
        assert_eq!(last.get("user").await.unwrap(), Some(user()));
        assert!(last.has("user").await.unwrap());
    });
}

#[test]
fn a_value_is_decoded_once() {
    both(async |world, path| {
        cache(world, path).set("user", user()).await.unwrap();
        let second = cache(world, path);
        let first = second.get_arc::<User>("user").await.unwrap().unwrap();
        let again = second.get_arc::<User>("user").await.unwrap().unwrap();
        let third = second.get_arc::<User>("user").await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &again) && Arc::ptr_eq(&again, &third));
    });
}

/// The value that was stored is kept until it is read as its type: another type may have less.
#[test]
fn a_read_as_another_type_loses_nothing() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Named {
        name: String,
    }
    both(async |world, path| {
        let first = cache(world, path);
        first.set("user", user()).await.unwrap();
        first.set("number", 300_u16).await.unwrap();
        drop(first);
        let second = cache(world, path);
        for _ in 0..2 {
            let named = second.get::<Named>("user").await.unwrap().unwrap();
            assert_eq!(named.name, "Ada");
            assert_eq!(second.get::<u64>("number").await.unwrap(), Some(300));
        }
        let error = second.get::<u8>("number").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert_eq!(second.get("user").await.unwrap(), Some(user()));
        assert_eq!(second.get::<u16>("number").await.unwrap(), Some(300));
        // As from the beginning: a load replaces what cannot be read.
        let loaded = second.get_or_set("number", || async { "text".to_owned() });
        assert_eq!(loaded.await, "text");
    });
}

#[test]
fn writes_replace_what_was_loaded() {
    both(async |world, path| {
        let first = cache(world, path);
        for key in ["set", "add", "update", "take", "delete", "touch"] {
            first.set(key, "old").await.unwrap();
        }
        drop(first);
        let second = cache(world, path);
        second.set("set", "new").await.unwrap();
        assert!(!second.add("add", "new").await.unwrap());
        let updated = second.update("update", |old: Option<String>| {
            Update::Set(old.unwrap() + "er")
        });
        assert_eq!(updated.await.unwrap().as_deref(), Some("older"));
        let taken = second.take::<String>("take").await.unwrap();
        assert_eq!(taken.as_deref(), Some("old"));
        assert!(second.delete("delete").await.unwrap());
        assert!(second.touch("touch", Ttl::After(HOUR)).await.unwrap());
        let entries = second.entries::<String>(10).await.unwrap();
        let entries = entries.iter().map(|entry| (&*entry.key, &*entry.value));
        let expected = [
            ("add", "old"),
            ("set", "new"),
            ("touch", "old"),
            ("update", "older"),
        ];
        assert_eq!(entries.collect::<Vec<_>>(), expected);
        let removed = second.retain(|key, _: &String| key == "set").await.unwrap();
        assert_eq!(removed, 3);
    });
}

#[test]
fn values_that_cannot_be_encoded_are_left_out() {
    #[derive(Clone, Deserialize)]
    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("broken"))
        }
    }
    both(async |world, path| {
        let first = cache(world, path);
        first.set("a", 1).await.unwrap();
        first.set("local", Local::new(1)).await.unwrap();
        first.set("broken", Broken).await.unwrap();
        let saved = first.save_snapshot().await.unwrap();
        assert_eq!((saved.entries, saved.left_out), (1, 2));
        drop(first);
        assert_eq!(cache(world, path).keys(10).await.unwrap(), ["a"]);
    });
}

/// Each cache has a file of its own, also on one memory.
#[test]
fn namespaces_are_saved_apart() {
    both(async |world, path| {
        let long = "n".repeat(95);
        let path = |namespace: &str| path.with_extension(namespace);
        let namespaces = ["", "a", "b", &long];
        let build = |memory: &Arc<Memory>| {
            let memory = memory.clone();
            namespaces.map(|namespace| {
                let path = path(namespace);
                on(world, &path, memory.clone(), namespace, "json").unwrap()
            })
        };
        for (cache, namespace) in build(&Arc::new(Memory::new())).iter().zip(namespaces) {
            cache.set("k", namespace.to_owned()).await.unwrap();
            cache.set(format!("only {namespace}"), 1).await.unwrap();
        }
        let memory = Arc::new(Memory::new());
        for (cache, namespace) in build(&memory).iter().zip(namespaces) {
            let value = cache.get::<String>("k").await.unwrap();
            assert_eq!(value.as_deref(), Some(namespace));
            assert_eq!(cache.len().await.unwrap(), 2);
        }
        assert_eq!(memory.len(), 8);
        // The file of another namespace, and of another codec.
        let other = on(world, &path("a"), Memory::new(), "c", "json").unwrap();
        assert_eq!(other.len().await.unwrap(), 0);
        let other = on(world, &path("b"), Memory::new(), "b", "postcard").unwrap();
        assert_eq!(other.len().await.unwrap(), 0);
    });
}

#[test]
fn memory_that_holds_less_is_filled() {
    both(async |world, path| {
        let first = on(world, path, Memory::with_capacity(1_000), "", "json").unwrap();
        for key in 0..1_000 {
            first.set(key, key).await.unwrap();
        }
        drop(first);
        let memory = Arc::new(Memory::with_capacity(100));
        let second = on(world, path, memory.clone(), "", "json").unwrap();
        assert_eq!((memory.len(), second.len().await.unwrap()), (100, 100));
        for key in second.keys(100).await.unwrap() {
            assert_eq!(
                second.get(&key).await.unwrap(),
                Some(key.parse::<i32>().unwrap())
            );
        }
        drop(second);
        let heavy = Memory::builder().max_weight(10, |_, value| {
            let bytes = value.downcast_ref::<Vec<u8>>();
            bytes.map_or(1, |bytes| bytes.len() as u64 * 100)
        });
        let none = on(world, path, heavy.build(), "", "json").unwrap();
        assert_eq!(none.len().await.unwrap(), 0);
    });
}

#[test]
fn the_last_clone_saves() {
    both(async |world, path| {
        let cache = cache(world, path);
        let clone = cache.clone();
        cache.set("k", 1).await.unwrap();
        drop(cache);
        assert!(!path.exists());
        drop(clone);
        assert!(path.exists());
    });
}

#[test]
fn only_memory_has_a_snapshot() {
    let folder = Folder::new();
    let config = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let memory = Memory::builder().through_codec(true).build();
    let refused = on(World::Threads, &folder.file(), memory, "shop", "json");
    assert!(config(refused.unwrap_err()).contains("only a cache that keeps the values"));
    let builder = AsyncCache::builder().snapshot(folder.file());
    let redis = cacheio_async::Redis::new("redis://127.0.0.1:1").unwrap();
    config(builder.store(redis).build().unwrap_err());
    config(Cache::builder().snapshot("").build().unwrap_err());
    config(Cache::from_url("memory://?snapshot=").unwrap_err());
    config(Cache::from_url("redis://127.0.0.1:1?snapshot=x").unwrap_err());
    let error = Cache::new(10).save_snapshot().unwrap_err();
    assert_eq!(error.operation(), Some(Operation::SaveSnapshot));
    config(error);
}

#[test]
fn a_url_names_the_file() {
    both(async |world, path| {
        // The folder has a space and a `+`.
        let encoded: String = path
            .to_str()
            .unwrap()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let url = format!("memory://?snapshot={encoded}&namespace=shop&capacity=10");
        let open = || match world {
            World::Threads => CacheApi::Threads(Cache::from_url(&url).unwrap()),
            World::Tasks => CacheApi::Tasks(AsyncCache::from_url(&url).unwrap()),
        };
        open().set("k", 1).await.unwrap();
        assert!(path.exists());
        assert_eq!(open().get::<i32>("k").await.unwrap(), Some(1));
        open().save_snapshot().await.unwrap();
    });
}
