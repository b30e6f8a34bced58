//! The file of a snapshot.
//!
//! Numbers are little-endian.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `cacheio` and `01`, the version of this layout |
//! | 8 | when the file was written, in Unix milliseconds |
//! | 32 | the SHA-256 of the prefix of the namespace |
//! | 32 | the SHA-256 of the name and the settings of the codec, as `Debug` shows them |
//! | … | records: their length, at least 1 (4 bytes), and their [content](super::record) |
//! | 4 | 0, the end of the records |
//! | 4 | the CRC-32 of all bytes before |
//!
//! A file is complete, or it is refused: all of it is read and checked before its first entry is used. Lengths are
//! compared with the size of the file before anything is allocated for them.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crc32fast::Hasher;
use hmac_sha256::Hash;

use super::record::{self, SavedEntry};
use crate::{Error, ErrorKind, Result};

/// What all files begin with.
const NAME: &[u8] = b"cacheio";
const MAGIC: [u8; 8] = *b"cacheio\x01";
const HEADER: u64 = 80;
const BUFFER: usize = 1 << 16;
/// The end of the names of temporary files.
const TEMPORARY: &str = ".tmp";

/// The longest record: reading takes memory for one.
pub(crate) const RECORD_MAX: usize = 512 << 20;

/// How old a temporary file is that no process writes any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// The cache that a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    namespace: [u8; 32],
    codec: [u8; 32],
}

impl Identity {
    pub(crate) fn new(prefix: &str, codec: &str) -> Self {
        Self {
            namespace: Hash::hash(prefix.as_bytes()),
            codec: Hash::hash(codec.as_bytes()),
        }
    }
}

/// A file that replaces the one at a path when it is complete. It is removed if it does not become so.
pub(crate) struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    output: BufWriter<File>,
    checksum: Hasher,
}

impl Writer {
    /// Creates the file, next to the one that it replaces.
    pub(crate) fn create(path: &Path, identity: Identity, saved_at: u64) -> Result<Self> {
        let unwritable = |error| unwritable(path, error);
        remove_abandoned(path);
        let temporary = temporary(path, &format!("{:016x}", RandomState::new().hash_one(0)))
            .ok_or_else(|| unwritable(io::ErrorKind::InvalidFilename.into()))?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary).map_err(unwritable)?;
        let mut writer = Self {
            path: path.to_owned(),
            temporary,
            output: BufWriter::with_capacity(BUFFER, file),
            checksum: Hasher::new(),
        };
        for part in [
            &MAGIC[..],
            &saved_at.to_le_bytes(),
            &identity.namespace,
            &identity.codec,
        ] {
            writer.write(part)?;
        }
        Ok(writer)
    }

    /// Adds a record. Returns whether it is short enough.
    pub(crate) fn add(&mut self, record: &[u8]) -> Result<bool> {
        if record.len() > RECORD_MAX {
            return Ok(false);
        }
        let length = record.len() as u32;
        self.write(&length.to_le_bytes())?;
        self.write(record)?;
        Ok(true)
    }

    /// Replaces the file at the path, when all is on the disk.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.write(&0_u32.to_le_bytes())?;
        let checksum = self.checksum.clone().finalize();
        self.write(&checksum.to_le_bytes())?;
        let replaced = self.output.flush();
        let replaced = replaced.and_then(|()| self.output.get_ref().sync_all());
        // It may have been created meanwhile.
        let replaced = replaced.and_then(|()| match is_replaceable(&self.path)? {
            true => Ok(()),
            false => Err(io::Error::other(occupied(&self.path))),
        });
        let replaced = replaced.and_then(|()| fs::rename(&self.temporary, &self.path));
        replaced.map_err(|error| unwritable(&self.path, error))?;
        // From here on the file is replaced. That a folder can be synchronized is up to its file system.
        #[cfg(unix)]
        if let Some(folder) = self.path.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        let written = self.output.write_all(bytes);
        written.map_err(|error| unwritable(&self.path, error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // After the end it has another name.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A file that was read to its end, and found to be complete.
#[derive(Debug)]
pub(crate) struct Checked {
    /// When it was written, in Unix milliseconds.
    pub(crate) saved_at: u64,
    input: Input,
    types: Vec<Arc<str>>,
    record: Vec<u8>,
}

/// An entry of a file.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) entry: SavedEntry<'a>,
    /// The name of the type that its value was stored as.
    pub(crate) stored_as: Arc<str>,
}

impl Checked {
    /// Opens and checks a file. Returns `None` if there is none.
    pub(crate) fn open(path: &Path, identity: Identity) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(damaged("it is not a regular file"));
        }
        let mut input = Input {
            file: BufReader::with_capacity(BUFFER, file),
            left: metadata.len(),
            checksum: Some(Hasher::new()),
        };
        if input.array()? != MAGIC {
            return Err(damaged("it is of another version of cacheio"));
        }
        let saved_at = u64::from_le_bytes(input.array()?);
        let found = Identity {
            namespace: input.array()?,
            codec: input.array()?,
        };
        let records = input.left;
        let mut checked = Self {
            saved_at,
            input,
            types: Vec::new(),
            record: Vec::new(),
        };
        while checked.next()?.is_some() {}
        let input = &mut checked.input;
        let checksum = input.checksum.take().map(Hasher::finalize);
        let in_file = u32::from_le_bytes(input.array()?);
        if checksum != Some(in_file) || input.left > 0 {
            return Err(damaged("its checksum is wrong"));
        }
        if found.namespace != identity.namespace {
            return Err(damaged("it is of a cache with another namespace"));
        }
        if found.codec != identity.codec {
            return Err(damaged("it is of a cache with another codec"));
        }
        let begin = io::SeekFrom::Start(HEADER);
        input.file.seek(begin).map_err(unreadable)?;
        input.left = records;
        checked.types.clear();
        Ok(Some(checked))
    }

    /// Removes the file, which can be read nevertheless.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|error| {
            let message = "cannot remove the snapshot, which would be loaded again after entries were deleted";
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        })
    }

    /// Returns the next entry; `None` after the last one.
    #[allow(clippy::should_implement_trait)]
    pub(crate) fn next(&mut self) -> Result<Option<Found<'_>>> {
        loop {
            let length = u32::from_le_bytes(self.input.array()?) as usize;
            if length == 0 {
                return Ok(None);
            }
            if length > RECORD_MAX || length as u64 > self.input.left {
                return Err(damaged("a record is longer than the file"));
            }
            self.record.clear();
            self.record.resize(length, 0);
            self.input.read(&mut self.record)?;
            match record::type_name(&self.record)? {
                Some(name) => self.types.push(name.into()),
                None => break,
            }
        }
        let entry = SavedEntry::parse(&self.record)?;
        let stored_as = self.types.get(entry.stored_as as usize).cloned();
        let stored_as = stored_as.ok_or_else(|| damaged("a record has an unknown type"))?;
        Ok(Some(Found { entry, stored_as }))
    }
}

/// A file that is read, with its checksum.
struct Input {
    file: BufReader<File>,
    /// How many bytes of it are left.
    left: u64,
    checksum: Option<Hasher>,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Input {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| damaged("it is truncated"))?;
        self.file.read_exact(bytes).map_err(unreadable)?;
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
        Ok(())
    }
}

/// Checks that nothing but a snapshot is at the path: saving would replace it. What cannot be read is logged when the
/// snapshot is loaded.
pub(crate) fn check_path(path: &Path) -> Result<()> {
    match is_replaceable(path) {
        Ok(false) => Err(Error::new(ErrorKind::Config, occupied(path))),
        _ => Ok(()),
    }
}

fn occupied(path: &Path) -> String {
    let path = path.display();
    format!("{path} is not a snapshot, and is not replaced; choose another path")
}

/// Returns whether there is a snapshot at the path, or nothing.
fn is_replaceable(path: &Path) -> io::Result<bool> {
    let is_file = match fs::metadata(path) {
        Ok(metadata) => metadata.is_file(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !is_file {
        return Ok(false);
    }
    let mut begin = Vec::new();
    File::open(path)?.take(HEADER).read_to_end(&mut begin)?;
    // A file that was not written to its end may be empty, or have zeros only.
    let is_unwritten = begin.iter().all(|byte| *byte == 0);
    let version = begin.strip_prefix(NAME).map(<[u8]>::first);
    let is_snapshot = version.is_some_and(|version| version.is_none_or(u8::is_ascii_control));
    Ok(is_unwritten || is_snapshot)
}

/// Returns the path of a temporary file next to the one that it replaces.
fn temporary(path: &Path, id: &str) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    name.push(format!(".{id}{TEMPORARY}"));
    Some(path.with_file_name(name))
}

/// Removes the temporary files of processes that were killed while they saved.
fn remove_abandoned(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let prefix = prefix.into_encoded_bytes();
    let Ok(files) = fs::read_dir(folder) else {
        return;
    };
    for file in files.flatten() {
        let name = file.file_name().into_encoded_bytes();
        let id = name.strip_prefix(&prefix[..]);
        let id = id.and_then(|id| id.strip_suffix(TEMPORARY.as_bytes()));
        let is_temporary =
            id.is_some_and(|id| id.len() == 16 && id.iter().all(u8::is_ascii_hexdigit));
        let age = || {
            let modified = file.metadata().ok()?.modified().ok()?;
            SystemTime::now().duration_since(modified).ok()
        };
        if is_temporary && age().is_some_and(|age| age > ABANDONED_AFTER) {
            let _ = fs::remove_file(file.path());
        }
    }
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    let message = format!("cannot write the snapshot {}", path.display());
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "cannot read the snapshot").with_source(error)
}

pub(crate) fn damaged(reason: &str) -> Error {
    Error::new(
        ErrorKind::Decode,
        format!("the snapshot cannot be used: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    /// A folder that is removed after the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let id = RandomState::new().hash_one(0);
            let path = std::env::temp_dir().join(format!("cacheio-snapshot-{id:016x}"));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("entries")
        }

        fn names(&self) -> Vec<OsString> {
            let files = fs::read_dir(&self.0).unwrap();
            files.map(|file| file.unwrap().file_name()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn identity() -> Identity {
        Identity::new("shop:", "Json")
    }

    fn of_type(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        record::write_type(name, &mut bytes);
        bytes
    }

    fn entry(key: &str, stored_as: u32) -> Vec<u8> {
        let entry = SavedEntry {
            key,
            kept_until: Timestamp::MAX,
            stored_as,
            meta: None,
            value: b"7",
        };
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        bytes
    }

    /// Writes a file with these records.
    fn write(path: &Path, records: &[Vec<u8>]) {
        let mut file = Writer::create(path, identity(), 1_000).unwrap();
        for record in records {
            assert!(file.add(record).unwrap());
        }
        file.finish().unwrap();
    }

    fn entries(path: &Path, identity: Identity) -> Result<Vec<String>> {
        let mut file = Checked::open(path, identity)?.unwrap();
        let mut keys = Vec::new();
        while let Some(found) = file.next()? {
            assert_eq!((&*found.stored_as, found.entry.value), ("i64", &b"7"[..]));
            keys.push(found.entry.key.to_owned());
        }
        Ok(keys)
    }

    fn three_records() -> [Vec<u8>; 3] {
        [of_type("i64"), entry("a", 0), entry("b", 0)]
    }

    /// Writes bytes with the right checksum.
    fn forge(path: &Path, records: &[u8]) {
        let identity = identity();
        let at = 1_000_u64.to_le_bytes();
        let parts = [
            &MAGIC[..],
            &at,
            &identity.namespace,
            &identity.codec,
            records,
        ];
        let bytes = parts.concat();
        let checksum = crc32fast::hash(&bytes).to_le_bytes();
        fs::write(path, [&bytes[..], &checksum].concat()).unwrap();
    }

    #[test]
    fn a_file_comes_back_and_replaces_the_one_before() {
        let folder = Folder::new();
        assert!(Checked::open(&folder.file(), identity()).unwrap().is_none());
        write(&folder.file(), &[]);
        assert_eq!(entries(&folder.file(), identity()).unwrap(), [""; 0]);
        write(&folder.file(), &three_records());
        assert_eq!(entries(&folder.file(), identity()).unwrap(), ["a", "b"]);
        assert_eq!(folder.names(), ["entries"]);
        let file = Checked::open(&folder.file(), identity()).unwrap().unwrap();
        assert_eq!(file.saved_at, 1_000);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let permissions = fs::metadata(folder.file()).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn every_changed_byte_and_every_other_length_is_an_error() {
        let folder = Folder::new();
        write(&folder.file(), &three_records());
        let bytes = fs::read(folder.file()).unwrap();
        let damaged = |bytes: &[u8]| {
            fs::write(folder.file(), bytes).unwrap();
            let error = Checked::open(&folder.file(), identity()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        };
        for length in 0..bytes.len() {
            damaged(&bytes[..length]);
        }
        damaged(&[&bytes[..], &[0]].concat());
        damaged(&[&bytes[..], &bytes[..]].concat());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                damaged(&bytes);
            }
        }
        // Half written, as on a file system that allocates before it writes.
        for length in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[length..].fill(0);
            damaged(&bytes);
        }
    }

    #[test]
    fn a_file_of_another_cache_is_an_error() {
        let folder = Folder::new();
        write(&folder.file(), &three_records());
        for other in [
            Identity::new("shop", "Json"),
            Identity::new("shop:", "MessagePack"),
        ] {
            assert!(entries(&folder.file(), other).is_err());
        }
        let error = Checked::open(&folder.0, identity()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }

    #[test]
    fn a_forged_file_takes_no_more_memory_than_its_size() {
        let folder = Folder::new();
        let end = 0_u32.to_le_bytes();
        for length in [1, 2, 100, 1 << 20, u32::MAX] {
            forge(&folder.file(), &[&length.to_le_bytes()[..], &end].concat());
            let error = Checked::open(&folder.file(), identity()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{length} bytes");
        }
        // A type that is not in the file, and a record of an unknown kind.
        for record in [entry("a", 0), entry("a", u32::MAX), vec![2]] {
            let length = (record.len() as u32).to_le_bytes();
            forge(&folder.file(), &[&length[..], &record, &end].concat());
            assert!(Checked::open(&folder.file(), identity()).is_err());
        }
        // The helper is right.
        forge(&folder.file(), &end);
        assert_eq!(entries(&folder.file(), identity()).unwrap(), [""; 0]);
    }

    #[test]
    fn a_file_that_is_not_finished_changes_nothing() {
        let folder = Folder::new();
        write(&folder.file(), &three_records());
        let mut file = Writer::create(&folder.file(), identity(), 1_000).unwrap();
        file.add(&entry("c", 0)).unwrap();
        assert_eq!(folder.names().len(), 2);
        drop(file);
        assert_eq!(folder.names(), ["entries"]);
        assert_eq!(entries(&folder.file(), identity()).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_file_in_no_folder_is_an_error() {
        let folder = Folder::new();
        let path = folder.0.join("none").join("entries");
        let error = Writer::create(&path, identity(), 0).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("none"));
    }

    #[test]
    fn only_abandoned_temporary_files_are_removed() {
        let folder = Folder::new();
        let temporary = |name: &str, id: &str| temporary(&folder.0.join(name), id).unwrap();
        let (old, new) = (
            temporary("entries", &"1".repeat(16)),
            temporary("entries", &"2".repeat(16)),
        );
        let (other, short) = (
            temporary("others", &"3".repeat(16)),
            temporary("entries", "4"),
        );
        for path in [&old, &new, &other, &short] {
            let file = File::create(path).unwrap();
            if path != &new {
                let modified = SystemTime::now() - 2 * ABANDONED_AFTER;
                file.set_modified(modified).unwrap();
            }
        }
        write(&folder.file(), &[]);
        let exist = [&old, &new, &other, &short].map(|path| path.exists());
        assert_eq!(exist, [false, true, true, true]);
    }
}
