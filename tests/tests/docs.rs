//! The documentation: what it shows can be pasted by the users of `cacheio`.

#![cfg(not(shuttle))]

use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 7] = [
    "cacheio",
    "cacheio-async",
    "cacheio-core",
    "cacheio-macros",
    "cacheio-redis",
    "cacheio-sync",
    "cacheio-testkit",
];

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn examples_name_the_facade() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut files = Vec::new();
    for name in CRATES {
        sources(&root.join(name).join("src"), &mut files);
    }
    let mut wrong = Vec::new();
    for file in files {
        let mut in_example = false;
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let line = line.trim_start();
            let Some(doc) = line.strip_prefix("///").or(line.strip_prefix("//!")) else {
                continue;
            };
            if doc.trim_start().starts_with("```") {
                in_example = !in_example;
            } else if in_example && doc.replace("cacheio_testkit", "").contains("cacheio_") {
                wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "write `cacheio::…`:\n{}",
        wrong.join("\n")
    );
}

/// GitHub and crates.io show hidden lines, and know no links to items.
#[test]
fn markdown_reads_the_same_everywhere() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let guide = fs::read_dir(root.join("cacheio/src/guide")).unwrap();
    let guide = guide.map(|chapter| chapter.unwrap().path());
    let readmes = CRATES.map(|name| root.join(name).join("README.md"));
    let mut wrong = Vec::new();
    for file in readmes.into_iter().chain(guide) {
        let is_readme = file.ends_with("README.md");
        let mut in_example = false;
        let text = fs::read_to_string(&file).unwrap();
        for item in text.split("[`").skip(1).filter(|_| is_readme) {
            let (item, rest) = item.split_once('`').unwrap();
            if !rest.starts_with("](") && !text.contains(&format!("\n[`{item}`]: https://")) {
                wrong.push(format!("{}: {item}", file.display()));
            }
        }
        for (number, line) in text.lines().enumerate() {
            if line.starts_with("```") {
                in_example = !in_example && line.starts_with("```rust");
                continue;
            }
            let is_hidden = in_example && (line.trim() == "#" || line.trim().starts_with("# "));
            let links = line.split("](").skip(1);
            let is_dead = |link: &str| !link.starts_with("https://") && !link.starts_with('#');
            if is_hidden || is_readme && links.into_iter().any(is_dead) {
                wrong.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
