//! Programs that restart, and programs that are killed: this binary starts itself.

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use cacheio_sync::{Cache, Memory};
use cacheio_tests::watchdog::guarded;

use super::Folder;

/// The variable with the path of the child's snapshot.
const CHILD: &str = "CACHEIO_TESTS_SNAPSHOT";
/// How many entries a child saves.
const ENTRIES: usize = 500;

/// Starts this binary again, as a process that runs one test.
fn start(test: &str, path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("processes::{test}"), "--nocapture"])
        .env(CHILD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_program_that_restarts_serves_its_first_requests_from_the_file() {
    if let Some(path) = env::var_os(CHILD) {
        let cache = Cache::builder().snapshot(path).build().unwrap();
        let value: String = cache.get_or_set("k", || format!("of {}", std::process::id()));
        println!("> {value} {}", cache.stats().loads);
        return;
    }
    guarded(|| {
        let folder = Folder::new();
        let test = "a_program_that_restarts_serves_its_first_requests_from_the_file";
        let run = || {
            let output = start(test, &folder.file()).wait_with_output().unwrap();
            let output = String::from_utf8(output.stdout).unwrap();
            let line = output.lines().find_map(|line| line.split_once("> "));
            line.unwrap().1.to_owned()
        };
        let first = run();
        assert!(first.ends_with(" 1"), "{first}");
        let loaded = first.strip_suffix(" 1").unwrap();
        assert_eq!(run(), format!("{loaded} 0"));
        assert_eq!(run(), format!("{loaded} 0"));
    });
}

#[test]
fn a_program_that_is_killed_while_it_saves_leaves_the_old_file_or_the_new_one() {
    if let Some(path) = env::var_os(CHILD) {
        let memory = Memory::with_capacity(2 * ENTRIES);
        let cache = Cache::builder().store(memory).snapshot(path);
        let cache = cache.build().unwrap();
        for version in 0_u32.. {
            cache
                .set_many((0..ENTRIES).map(|key| (key, version)))
                .unwrap();
            cache.save_snapshot().unwrap();
            println!("> {version}");
        }
    }
    // Each ten rounds have the time limit of a test.
    for _ in 0..10 {
        guarded(|| {
            let folder = Folder::new();
            for round in 0..10 {
                killed_while_saving(&folder.file(), round);
            }
        });
    }
}

fn killed_while_saving(path: &Path, round: u32) {
    let test = "a_program_that_is_killed_while_it_saves_leaves_the_old_file_or_the_new_one";
    let mut child = start(test, path);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let version = |line: &str| line.rsplit_once("> ")?.1.trim().parse::<u32>().ok();
    let mut line = String::new();
    while version(&line).is_none() {
        line.clear();
        output.read_line(&mut line).unwrap();
    }
    let random = RandomState::new().hash_one(round) % 20_000;
    thread::sleep(Duration::from_micros(random));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let saved = rest.lines().filter_map(version).next_back();
    let saved = saved.or(version(&line)).unwrap();

    let memory = Memory::with_capacity(2 * ENTRIES);
    let cache = Cache::builder()
        .store(memory)
        .snapshot(path)
        .build()
        .unwrap();
    let versions = cache.entries::<u32>(usize::MAX).unwrap();
    let (first, count) = (versions[0].value, versions.len());
    assert!(versions.iter().all(|entry| entry.value == first));
    assert_eq!(count, ENTRIES);
    // A line may be lost that was not written out yet.
    assert!(
        (saved..=saved + 1).contains(&first),
        "{first} after {saved}"
    );
}
