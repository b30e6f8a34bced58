//! What the packages promise to those that depend on them, checked on the dependencies that a user
//! gets with the versions of this workspace's `Cargo.lock`.

#![cfg(not(shuttle))]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The most packages in the lock file of a user of the default features.
const LEAN: usize = 45;

/// Returns the packages in the lock file of a program that depends on `cacheio`, with what their
/// manifests say.
fn packages(user: &str, features: &[String]) -> Vec<Value> {
    // Tests run at the same time, and each has a folder of its own.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{user}-{call}"));
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    fs::copy(
        Path::new(ROOT).join("Cargo.lock"),
        folder.join("Cargo.lock"),
    )
    .unwrap();
    let manifest = format!(
        "[package]\nname = {user:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\ncacheio = {{ path = {:?}, features = {features:?} }}\n",
        Path::new(ROOT).join("cacheio")
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1"])
        .current_dir(&folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata:\n{stderr}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| name(package) != user)
        .cloned()
        .collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn is_ours(package: &Value) -> bool {
    package["source"].is_null()
}

/// Returns the packages of a user of all features.
fn all_features() -> Vec<Value> {
    let plain = packages("user-of-features", &[]);
    let facade = plain.iter().find(|package| name(package) == "cacheio");
    let features = facade.unwrap()["features"].as_object().unwrap();
    packages(
        "user-of-everything",
        &features.keys().cloned().collect::<Vec<_>>(),
    )
}

/// Returns the numbers of a Rust version: `1.88` or `1.88.0`.
fn version(text: &str) -> [u64; 3] {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap());
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

/// A dependency that does not declare what it needs is not found. CI also compiles with that version.
#[test]
fn no_dependency_needs_a_newer_rust_than_the_packages_say() {
    let packages = all_features();
    let ours = packages.iter().filter(|package| is_ours(package));
    let promised: Vec<_> = ours
        .map(|package| package["rust_version"].as_str().unwrap())
        .collect();
    assert_eq!(promised.len(), 6, "the published crates");
    for promised in promised {
        let newer: Vec<_> = packages
            .iter()
            .filter_map(|package| Some((name(package), package["rust_version"].as_str()?)))
            .filter(|(_, needed)| version(needed) > version(promised))
            .collect();
        assert!(newer.is_empty(), "Rust {promised} is promised: {newer:?}");
        let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
        assert!(readme.contains(&format!("Rust version is {promised}.")));
    }
}

#[test]
fn the_lock_file_of_a_user_is_lean() {
    let packages = packages("lean-user", &[]);
    let names: Vec<&str> = packages.iter().map(name).collect();
    // A lock file also lists what other platforms need.
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !name.starts_with("windows"))
        .collect();
    assert!(names.len() <= LEAN, "{} packages: {names:?}", names.len());
    for heavy in ["shuttle", "tokio", "cacheio-async", "redis", "memcache"] {
        assert!(!names.contains(&heavy), "{heavy}");
    }
    let parsers = names.iter().filter(|name| **name == "syn").count();
    assert_eq!(parsers, 1, "one `syn`, that of serde_derive");
    let packages = all_features();
    assert!(packages.iter().all(|package| name(package) != "shuttle"));
}

/// They call hidden items of each other, and a module of `memcache` that may change in any version.
#[test]
fn what_fits_one_version_is_required_exactly() {
    let packages = all_features();
    let mut exact = 0;
    for package in packages.iter().filter(|package| is_ours(package)) {
        for dependency in package["dependencies"].as_array().unwrap() {
            let [on, requirement] = ["name", "req"].map(|key| dependency[key].as_str().unwrap());
            if dependency["kind"].is_null() && (on.starts_with("cacheio") || on == "memcache") {
                assert!(
                    requirement.starts_with('='),
                    "{} needs {on} {requirement}",
                    name(package)
                );
                exact += 1;
            }
        }
    }
    assert!(exact >= 10, "{exact}");
}

/// The compiler for WebAssembly need not be installed: the file is compiled as if for it.
#[test]
fn webassembly_is_refused_by_name() {
    let compile = |flags: &[&str]| {
        let metadata = Path::new(env!("CARGO_TARGET_TMPDIR")).join("platform.rmeta");
        let output = Command::new("rustc")
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "lib",
                "--emit",
                "metadata",
                "-o",
            ])
            .arg(metadata)
            .args(flags)
            .arg(Path::new(ROOT).join("cacheio-core/src/platform.rs"))
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(compile(&[]), "");
    let allow = "-Aexplicit-builtin-cfgs-in-flags";
    let message = compile(&[allow, "--cfg", "target_family=\"wasm\""]);
    assert!(
        message.contains("cacheio does not support WebAssembly"),
        "{message}"
    );
}
