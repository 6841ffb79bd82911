//! What a machine can check of the house style: file docs, arrows between crates, doors to the
//! outside world, one version of the big crates. Taste is for reviewers.

use std::path::{Path, PathBuf};

/// Crates from the top of the house down; an arrow may only point further down.
const LAYERS: [&str; 4] = ["server", "planner", "runtime", "storage"];

/// Crates of which the tree may hold one version only.
const SINGLE_VERSION: [&str; 5] = ["arrow", "datafusion", "sqlparser", "pgwire", "rdkafka"];

/// Calls that only `storage/src/env` may make, and the files that ARCHITECTURE names as exceptions.
const ENV_DOORS: [&str; 5] =
    ["Instant::now(", "SystemTime::now(", "Utc::now(", "Local::now(", "thread::sleep("];

/// Words that must not be left behind.
const BANNED: [&str; 4] = ["todo!(", "unimplemented!(", "dbg!(", "FIXME"];

/// A file longer than this (tests not counted) is usually two nouns.
const FILE_LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `folder` with this extension, build output left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|actual| actual == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Sources of all crates.
fn sources() -> Vec<PathBuf> {
    let crates = ["storage", "runtime", "planner", "server", "sql-tests", "bench"];
    crates.iter().flat_map(|name| files(&root().join(name), "rs")).collect()
}

/// A source without its unit tests, which follow the first `#[cfg(test)]` by convention.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\n").next().unwrap_or(text)
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> =
        sources().iter().filter(|path| !read(path).starts_with("//! ")).map(|p| shown(p)).collect();
    assert!(silent.is_empty(), "files without a `//!` first line: {silent:#?}");
}

#[test]
fn arrows_between_crates_point_down() {
    for (height, layer) in LAYERS.iter().enumerate() {
        let manifest: toml::Table =
            toml::from_str(&read(&root().join(layer).join("Cargo.toml"))).expect("a manifest");
        let dependencies = manifest["dependencies"].as_table().expect("dependencies");
        for above in &LAYERS[..=height] {
            assert!(!dependencies.contains_key(*above), "{layer} must not depend on {above}");
        }
        if *layer != "planner" {
            assert!(
                !dependencies.contains_key("datafusion"),
                "only planner knows DataFusion plans"
            );
        }
        if *layer != "server" {
            for name in ["pgwire", "clap", "tokio"] {
                assert!(
                    !dependencies.contains_key(name),
                    "only server may use {name}, not {layer}"
                );
            }
        }
    }
}

#[test]
fn features_are_pinned_in_the_workspace_only() {
    for name in ["storage", "runtime", "planner", "server", "sql-tests", "bench"] {
        let text = read(&root().join(name).join("Cargo.toml"));
        assert!(!text.contains("features ="), "{name}/Cargo.toml asks for features of its own");
    }
}

#[test]
fn the_tree_holds_one_version_of_the_big_crates() {
    let lock: toml::Table = toml::from_str(&read(&root().join("Cargo.lock"))).expect("a lock file");
    let packages = lock["package"].as_array().expect("packages");
    let count = |name: &str| packages.iter().filter(|p| p["name"].as_str() == Some(name)).count();
    for name in SINGLE_VERSION {
        assert_eq!(count(name), 1, "versions of {name}");
    }
    for name in ["aws-lc-sys", "openssl-sys"] {
        assert_eq!(count(name), 0, "{name} needs more than a C compiler and make");
    }
}

#[test]
fn clock_and_sleep_come_from_the_env_doors() {
    let mut wrong = Vec::new();
    for path in sources() {
        let name = shown(&path);
        let is_door = name.starts_with("storage/src/env/");
        let is_outside = name.starts_with("sql-tests/") || name.starts_with("bench/");
        // The client listener's timers are tokio's; ARCHITECTURE names it as an exception.
        let is_listener = name == "server/src/connection.rs";
        if is_door || is_outside || is_listener || is_test_file(&path) {
            continue;
        }
        for (index, line) in without_tests(&read(&path)).lines().enumerate() {
            if ENV_DOORS.iter().any(|call| line.contains(call)) {
                wrong.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "use storage::env instead: {wrong:#?}");
}

#[test]
fn files_come_from_the_disk_door() {
    let is_inside = |name: &str| {
        ["storage/src/", "runtime/src/", "planner/src/"].iter().any(|room| name.starts_with(room))
            && !name.starts_with("storage/src/env/")
    };
    let reads_past_it = |path: &&PathBuf| {
        let text = read(path);
        ["std::fs", "tokio::fs"].iter().any(|module| without_tests(&text).contains(module))
    };
    let sources = sources();
    let inside = sources.iter().filter(|path| is_inside(&shown(path)) && !is_test_file(path));
    let wrong: Vec<_> = inside.filter(reads_past_it).map(|path| shown(path)).collect();
    assert!(wrong.is_empty(), "use storage::env::Disk instead: {wrong:#?}");
}

#[test]
fn nothing_unfinished_is_left_behind() {
    let this_file = Path::new(file!()).file_name();
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| path.file_name() != this_file) {
        for (index, line) in read(path).lines().enumerate() {
            if BANNED.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{}:{}: {}", shown(path), index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_stays_in_its_two_files() {
    let mut wrong = Vec::new();
    for path in sources() {
        let name = shown(&path);
        let is_allowed = ["connectors/kafka/batch.rs", "server/src/allocator.rs", "tidy.rs"]
            .iter()
            .any(|file| name.ends_with(file));
        let text = read(&path);
        if !is_allowed && text.lines().any(|line| line.trim_start().starts_with("unsafe ")) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "unsafe outside kafka/batch.rs and allocator.rs: {wrong:?}");
}

#[test]
fn files_stay_readable() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| !is_test_file(path)) {
        let count = without_tests(&read(path)).lines().count();
        if count > FILE_LINES_MAX {
            wrong.push(format!("{}: {count} lines", shown(path)));
        }
    }
    assert!(wrong.is_empty(), "two nouns in one file? {wrong:#?}");
}

#[test]
fn slt_files_are_named_after_their_claim() {
    for folder in ["sql-tests/slt", "sql-tests/plans"] {
        for path in files(&root().join(folder), "slt") {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_plain =
                stem.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            assert!(is_plain && stem.len() > 3, "{}: name it after its claim", shown(&path));
            let starts_with_claim = read(&path).starts_with("# ");
            assert!(starts_with_claim, "{}: the first line says the claim", shown(&path));
        }
    }
}

#[test]
fn readme_links_lead_somewhere() {
    let readme = read(&root().join("README.md"));
    for part in readme.split("](").skip(1) {
        let target =
            part.split(')').next().unwrap_or_default().split('#').next().unwrap_or_default();
        let is_local = !target.is_empty() && !target.contains("://");
        assert!(!is_local || root().join(target).exists(), "README links to {target}");
    }
}
