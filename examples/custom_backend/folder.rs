//! A store that keeps entries in a folder, for threads and for tasks.

use std::fs::{self, File};
use std::io::{self, ErrorKind::NotFound, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use cacheio::store::{AsyncStore, BoxFuture, Entry, Form, Key, KeyRule, Payload, Store};
use cacheio::{Error, ErrorKind, Result};

/// A file is an entry: its name is the key, and its modification time is when the entry expires.
/// Expired files stay until they are replaced, deleted or cleared.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Store for Folder {
    fn form(&self) -> Form {
        Form::Bytes
    }

    fn get(&self, key: &Key<'_>) -> Result<Option<Entry>> {
        let entry = File::open(self.file(key.text())).and_then(|mut file| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(is_live(&file)?.then(|| Entry::bytes(bytes)))
        });
        Ok(found(entry)?.flatten())
    }

    fn set(&self, key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> Result<()> {
        let Payload::Bytes(bytes) = entry.payload else {
            return Err(Error::new(ErrorKind::Unsupported, "a folder stores bytes"));
        };
        let spare = self.spare_file();
        let written = File::create_new(&spare).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.set_modified(SystemTime::now() + ttl.unwrap_or(FOREVER))?;
            // A rename is atomic: readers see the old entry or the new one, never half of it.
            fs::rename(&spare, self.file(key.text()))
        });
        written.map_err(failed)
    }

    fn delete(&self, key: &Key<'_>) -> Result<bool> {
        let spare = self.spare_file();
        // Of several concurrent deletes, only one gets the file.
        let taken = fs::rename(self.file(key.text()), &spare).and_then(|()| {
            let live = is_live(&File::open(&spare)?)?;
            fs::remove_file(&spare)?;
            Ok(live)
        });
        Ok(found(taken)?.unwrap_or(false))
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        let prefix = file_name(prefix);
        for file in fs::read_dir(&self.0).map_err(failed)? {
            let file = file.map_err(failed)?;
            if file.file_name().to_string_lossy().starts_with(&prefix) {
                found(fs::remove_file(file.path()))?;
            }
        }
        Ok(())
    }

    /// A file name has at most 255 bytes, and two of them for each byte of the key.
    fn key_rule(&self) -> KeyRule {
        KeyRule::Wire { max: 120 }
    }
}

const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl Folder {
    pub(crate) fn new(path: impl AsRef<Path>) -> Result<Self> {
        fs::create_dir_all(&path).map_err(failed)?;
        Ok(Self(path.as_ref().to_owned()))
    }

    fn file(&self, key: &str) -> PathBuf {
        self.0.join(file_name(key))
    }

    fn spare_file(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        self.0.join(format!("spare-{}-{count}", process::id()))
    }
}

fn file_name(key: &str) -> String {
    let digits = key.bytes().map(|byte| format!("{byte:02x}"));
    format!("key-{}", digits.collect::<String>())
}

fn is_live(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.modified()? > SystemTime::now())
}

/// Turns a missing file into `None`.
fn found<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the folder cannot be used").with_source(error)
}

/// The store for tasks. File operations block, so they run on tokio's threads for blocking work. (A
/// store that never waits needs only one line: `immediate_store!(Folder)`.)
impl AsyncStore for Folder {
    fn form(&self) -> Form {
        Store::form(self)
    }

    fn get<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<Option<Entry>>> {
        let key = key.text().to_owned();
        self.blocking(move |folder| Store::get(folder, &Key::new(&key)))
    }

    fn set<'a>(
        &'a self,
        key: &'a Key<'a>,
        entry: Entry,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<()>> {
        let key = key.text().to_owned();
        self.blocking(move |folder| Store::set(folder, &Key::new(&key), entry, ttl))
    }

    fn delete<'a>(&'a self, key: &'a Key<'a>) -> BoxFuture<'a, Result<bool>> {
        let key = key.text().to_owned();
        self.blocking(move |folder| Store::delete(folder, &Key::new(&key)))
    }

    fn clear<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<()>> {
        let prefix = prefix.to_owned();
        self.blocking(move |folder| Store::clear(folder, &prefix))
    }

    fn key_rule(&self) -> KeyRule {
        Store::key_rule(self)
    }
}

impl Folder {
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let folder = self.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&folder)).await;
            done.unwrap_or_else(|error| Err(failed(error.into())))
        })
    }
}
