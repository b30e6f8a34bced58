//! Files that are damaged, cannot be written, or are older than what is in memory.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cacheio_async::AsyncCache;
use cacheio_core::{ErrorKind, Operation};
use cacheio_sync::{Cache, Memory, RemovalCause};
use cacheio_tests::api::World;
use cacheio_tests::watchdog::guarded;
use serde::{Deserialize, Serialize};

use super::{Folder, both, cache, on};

/// An entry that another cache has stored in the same memory is later than the file.
#[test]
fn a_loaded_entry_replaces_none() {
    both(async |world, path| {
        cache(world, path).set("k", "file").await.unwrap();
        let memory = Arc::new(Memory::new());
        let other = Cache::builder().store(memory.clone()).build().unwrap();
        other.set("k", "memory").unwrap();
        let second = on(world, path, memory, "", "json").unwrap();
        assert_eq!(
            second.get::<String>("k").await.unwrap().as_deref(),
            Some("memory")
        );
    });
}

/// A program that is killed serves nothing that it had deleted since its file was saved.
#[test]
fn a_file_is_loaded_once() {
    both(async |world, path| {
        cache(world, path).set("k", 1).await.unwrap();
        assert!(path.exists());
        let killed = cache(world, path);
        assert_eq!(killed.get::<i32>("k").await.unwrap(), Some(1));
        assert!(!path.exists());
        assert_eq!(cache(world, path).len().await.unwrap(), 0);
        killed.save_snapshot().await.unwrap();
        assert!(path.exists());
    });
}

#[test]
fn a_damaged_file_is_not_served_and_prevents_no_start() {
    both(async |world, path| {
        cache(world, path).set("key", "value").await.unwrap();
        let bytes = fs::read(path).unwrap();
        let is_refused = async |bytes: &[u8]| {
            fs::write(path, bytes).unwrap();
            let cache = cache(world, path);
            assert_eq!(cache.len().await.unwrap(), 0);
            // It is there to be looked at, until the cache is saved.
            assert_eq!(fs::read(path).unwrap(), bytes);
            cache.set("key", "other").await.unwrap();
        };
        // Without `cacheio` at its begin, it is the file of another program.
        let name = "cacheio".len();
        is_refused(&[]).await;
        is_refused(&[0; 100]).await;
        for at in name..bytes.len() {
            is_refused(&bytes[..at]).await;
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 4);
            is_refused(&bytes).await;
            // Half written, as on a file system that allocates before it writes.
            bytes[at..].fill(0);
            is_refused(&bytes).await;
        }
        fs::write(path, bytes).unwrap();
        let found = cache(world, path).get::<String>("key").await.unwrap();
        assert_eq!(found.as_deref(), Some("value"));
    });
}

/// A wrong path must not cost a user another file.
#[test]
fn a_file_of_another_program_is_refused_and_stays() {
    both(async |world, path| {
        let open = |path: &Path| on(world, path, Memory::new(), "", "json");
        for content in [
            "x",
            "caching",
            "cacheiO\u{1}",
            "[cache]\nurl = \"memory://\"\n",
        ] {
            fs::write(path, content).unwrap();
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert_eq!(error.operation(), Some(Operation::Build));
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        assert_eq!(open(path).unwrap_err().kind(), ErrorKind::Config);
        fs::remove_dir(path).unwrap();
        // As a temporary file is created.
        fs::write(path, "").unwrap();
        drop(open(path).unwrap());
        assert!(fs::metadata(path).unwrap().len() > 0);
        // It is created after the cache was built.
        let cache = open(path).unwrap();
        fs::write(path, "x").unwrap();
        let error = cache.save_snapshot().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        drop(cache);
        assert_eq!(fs::read_to_string(path).unwrap(), "x");
    });
}

/// Several caches with the same path, in the middle of writes: each file is complete.
#[test]
fn saves_at_the_same_time_leave_a_complete_file() {
    guarded(|| {
        let folder = Folder::new();
        let caches = [World::Threads, World::Tasks].map(|world| cache(world, &folder.file()));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for cache in &caches {
                cache.world().run(async {
                    for key in 0..400 {
                        cache.set(key, key).await.unwrap();
                    }
                });
                scope.spawn(|| {
                    let mut key = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        key = (key + 7) % 400;
                        cache.world().run(cache.set(key, key)).unwrap();
                    }
                });
            }
            let saving: Vec<_> = (0..4)
                .map(|saver| {
                    let cache = &caches[saver % 2];
                    scope.spawn(move || {
                        for _ in 0..25 {
                            let saved = cache.world().run(cache.save_snapshot()).unwrap();
                            assert_eq!((saved.entries, saved.left_out), (400, 0));
                        }
                    })
                })
                .collect();
            for saver in saving {
                saver.join().unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
        });
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
        let loaded = Cache::builder().snapshot(folder.file()).build().unwrap();
        let entries = loaded.entries::<i32>(1_000).unwrap();
        assert_eq!(entries.len(), 400);
        assert!(
            entries
                .iter()
                .all(|entry| entry.key == entry.value.to_string())
        );
    });
}

#[test]
fn a_folder_that_is_missing_prevents_no_start() {
    both(async |world, path| {
        let path = path.join("none").join("snapshot");
        let cache = cache(world, &path);
        cache.set("k", 1).await.unwrap();
        let error = cache.save_snapshot().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.operation(), Some(Operation::SaveSnapshot));
    });
}

/// A value whose encoding panics. `save_snapshot` panics then; a drop catches the panic.
#[test]
fn a_panic_while_saving_leaves_the_old_file() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    #[derive(Clone, Deserialize)]
    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert!(!PANICS.load(Ordering::SeqCst), "on purpose");
            serializer.serialize_unit()
        }
    }
    guarded(|| {
        let folder = Folder::new();
        let cache = Cache::builder().snapshot(folder.file()).build().unwrap();
        cache.set("k", Panics).unwrap();
        cache.save_snapshot().unwrap();
        let before = fs::read(folder.file()).unwrap();
        PANICS.store(true, Ordering::SeqCst);
        let clone = cache.clone();
        assert!(thread::spawn(move || clone.save_snapshot()).join().is_err());
        let clone = AsyncCache::builder()
            .snapshot(folder.0.join("other"))
            .build()
            .unwrap();
        World::Tasks.run(clone.set("k", Panics)).unwrap();
        let saving = thread::spawn(move || World::Tasks.run(clone.save_snapshot()).map(drop));
        assert!(saving.join().is_err());
        drop(cache);
        assert_eq!(fs::read(folder.file()).unwrap(), before);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    });
}

/// The listener may use the cache, which is not there while it is built.
#[test]
fn a_listener_is_not_called_while_a_snapshot_is_loaded() {
    both(async |world, path| {
        let stored = cache(world, path);
        for key in 0..50 {
            stored.set(key, key).await.unwrap();
        }
        drop(stored);
        let log = Arc::new(Mutex::new(Vec::new()));
        let removals = Arc::clone(&log);
        let memory = Memory::builder().capacity(20).on_removal(move |removal| {
            let value = removal.value::<i32>().map(|value| *value);
            removals.lock().unwrap().push((removal.cause(), value));
        });
        let loaded = on(world, path, memory.build(), "", "json").unwrap();
        assert!(log.lock().unwrap().is_empty());
        let entries = loaded.keys(100).await.unwrap();
        let [read, unread, ..] = &entries[..] else {
            panic!("nothing was loaded");
        };
        let value = loaded.get::<i32>(read).await.unwrap();
        assert!(log.lock().unwrap().is_empty());
        let expected: i32 = unread.to_string().parse().unwrap();
        loaded.delete(unread).await.unwrap();
        loaded.set(read, -1).await.unwrap();
        let deleted = (RemovalCause::Deleted, Some(expected));
        let replaced = (RemovalCause::Replaced, value);
        assert_eq!(*log.lock().unwrap(), [deleted, replaced]);
    });
}

/// A file behind a link is loaded once, too.
#[cfg(unix)]
#[test]
fn a_link_stays_and_its_file_is_replaced() {
    both(async |world, path| {
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(path, &link).unwrap();
        cache(world, path).set("k", 1).await.unwrap();
        let second = cache(world, &link);
        assert_eq!(second.get::<i32>("k").await.unwrap(), Some(1));
        assert!(!path.exists());
        second.delete("k").await.unwrap();
        drop(second);
        assert!(path.exists() && link.is_symlink());
        assert_eq!(cache(world, &link).len().await.unwrap(), 0);
        fs::remove_file(link).unwrap();
    });
}
