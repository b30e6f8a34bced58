//! The store keeps the contract that all stores of cacheio keep, except for the operations that it leaves out.

mod folder;

use std::fs;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};

use cacheio_testkit::{Contract, Optional, TestEnv};

use crate::folder::Folder;

const UNSUPPORTED: [Optional; 7] = [
    Optional::Add,
    Optional::Increment,
    Optional::Touch,
    Optional::Take,
    Optional::Update,
    Optional::TtlLeft,
    Optional::Keys,
];

/// Is removed when the test has ended.
struct TemporaryFolder(PathBuf);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a store in an empty folder.
fn folder(env: &TestEnv) -> Folder {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("cacheio-contract-{}-{count}", process::id()));
    let folder = Folder::new(&path).expect("the folder can be created");
    env.keep(TemporaryFolder(path));
    folder
}

fn main() -> ExitCode {
    let contracts = [
        Contract::threads("folder", folder),
        Contract::tasks("folder", folder),
    ];
    cacheio_testkit::run(
        contracts.map(|contract| UNSUPPORTED.into_iter().fold(contract, Contract::without)),
    )
}
