//! Plays every `.slt` file, in the ways the server must not show a difference between.
//! A test is named `<way>/<folder>/<file>`; a file under a streaming folder has more ways.

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use tidewater_sql_tests::{process::ServerOptions, runner};

/// Folders whose files are also played with other numbers of workers and queues of capacity 1.
const STREAMING: [&str; 4] = ["window", "kafka", "job", "stream"];

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("slt"), &mut files);
    files.sort();
    assert!(!files.is_empty(), "no .slt file found");
    let mut trials = Vec::new();
    for file in files {
        for (way, options) in ways(&file) {
            let name = format!("{way}/{}", file.strip_prefix(root).unwrap_or(&file).display());
            let file = file.clone();
            trials.push(Trial::test(name, move || {
                runner::play(&file, &options).map_err(Failed::from)
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// All `.slt` files below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            files.push(path);
        }
    }
}

/// The ways a file is played in.
fn ways(file: &Path) -> Vec<(&'static str, ServerOptions)> {
    let line = |text: &str| vec![text.to_owned()];
    let plain = ServerOptions::default();
    let owners = ServerOptions { config: line("simulated_owners = 3"), ..ServerOptions::default() };
    let mut ways = vec![("plain", plain), ("owners-3", owners)];
    let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    if folder.is_some_and(|folder| STREAMING.contains(&folder)) {
        for (way, count) in [("workers-1", 1), ("workers-4", 4)] {
            let config = line("queue_capacity = 1");
            ways.push((
                way,
                ServerOptions { config, worker_count: Some(count), ..ServerOptions::default() },
            ));
        }
    }
    ways
}
