//! The README and the guide: their links name chapters, and their code blocks are complete.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn chapters() -> Vec<String> {
    let files = fs::read_dir(root().join("src/guide")).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .collect()
}

fn pages() -> Vec<String> {
    let chapters = chapters().into_iter();
    let chapters = chapters.map(|chapter| read(format!("src/guide/{chapter}.md")));
    [read("README.md"), read("src/guide.md")]
        .into_iter()
        .chain(chapters)
        .collect()
}

#[test]
fn the_readme_links_to_chapters_that_exist() {
    let readme = read("README.md");
    let links = readme.split("https://docs.rs/cacheio/latest/cacheio/guide/");
    let names = links.skip(1).filter_map(|rest| rest.split_once(['/', ')']));
    let chapters = chapters();
    for (name, _) in names.filter(|(name, _)| !name.is_empty()) {
        assert!(chapters.iter().any(|chapter| chapter == name), "{name}");
    }
}

#[test]
fn every_chapter_is_listed() {
    let (contents, modules) = (read("src/guide.md"), read("src/guide.rs"));
    for chapter in chapters() {
        assert!(
            contents.contains(&format!("(crate::guide::{chapter})")),
            "{chapter} is missing in guide.md"
        );
        assert!(
            modules.contains(&format!("pub mod {chapter} ")),
            "{chapter} is missing in guide.rs"
        );
    }
}

#[test]
fn code_blocks_hide_no_lines_and_have_a_main() {
    for page in pages() {
        for (number, block) in page.split("```").enumerate() {
            if number % 2 == 0 || !block.starts_with("rust") {
                continue;
            }
            assert!(block.contains("fn main()"), "{block}");
            let hidden = block
                .lines()
                .any(|line| line == "#" || line.starts_with("# "));
            assert!(!hidden, "{block}");
        }
    }
}

#[test]
fn the_readme_is_short() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 200);
    assert!(readme.split_whitespace().count() <= 1_600);
}
