//! The tests on PostgreSQL: a database of the private cluster for each folder, and the run of the whole suite on it.

mod nodes;
mod sealing_key;
pub mod store;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::{env, io};

use crate::cluster;

/// On which store a run is: SQLite, unless this variable says `postgres`.
const STORE: &str = "AUTHTOKENS_TEST_STORE";

/// What a run on PostgreSQL leaves out: the tests that are always on the backend that they name, and the one that takes the
/// port that there is one of, which the other run takes meanwhile.
const LEFT_TO_THE_BACKENDS: [&str; 8] =
    ["--skip", "sqlite::", "--skip", "postgres::", "--skip", "moving::", "--skip", "serves_on_127_0_0_1_8000"];

/// The URL of the database that belongs to a folder, in a run on PostgreSQL. It is made when it is first asked for, and
/// dropped once the folder is gone.
pub fn url_in(folder: &Path) -> Option<String> {
    static URLS: LazyLock<Mutex<HashMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
    let store = env::var(STORE).ok()?;
    if store == "sqlite" {
        return None;
    }
    assert_eq!(store, "postgres", "{STORE} must be postgres or sqlite");
    let cluster = cluster::cluster().expect("PostgreSQL (initdb, postgres) is not installed");
    let (url, gone) = {
        let mut urls = URLS.lock().unwrap();
        let url = urls.entry(folder.to_owned()).or_insert_with(|| cluster.new_database()).clone();
        let gone: Vec<_> = urls.extract_if(|folder, _| !folder.exists()).map(|(_, url)| url).collect();
        (url, gone)
    };
    for gone in gone {
        let name = gone.trim_start_matches("postgres:///").split('?').next().unwrap();
        cluster::execute(&url, &format!("DROP DATABASE {name} WITH (FORCE)")).unwrap();
    }
    Some(url)
}

/// Runs this program's tests again, on PostgreSQL.
#[test]
fn every_test_that_names_no_backend_passes_on_postgresql() {
    let mut arguments: Vec<_> = LEFT_TO_THE_BACKENDS.map(str::to_owned).into();
    let mut given = env::args().skip_while(|argument| !argument.starts_with("--test-threads"));
    match given.next() {
        Some(threads) if threads.contains('=') => arguments.push(threads),
        Some(name) => arguments.extend([name, given.next().unwrap()]),
        None => {}
    }
    let mut tests = Command::new(env::current_exe().unwrap());
    tests.args(arguments).env(STORE, "postgres").stdin(Stdio::null());
    if cluster::cluster().is_none() {
        let list = String::from_utf8(tests.arg("--list").output().unwrap().stdout).unwrap();
        let count = list.lines().filter(|line| line.ends_with(": test")).count();
        return cluster::left_out(&format!("{count} tests of the API"));
    }
    // What it leaves out is told at once.
    let output = tests.stderr(Stdio::inherit()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let failures = told.split_once("\nfailures:\n").map_or(&*told, |(_, failures)| failures);
    assert!(output.status.success(), "on PostgreSQL, {}:\n{failures}", output.status);
    let summary = told.lines().rfind(|line| line.starts_with("test result: ")).unwrap_or_default();
    // Written past the capture of the tests' output, which hides what a passing test prints.
    let _ = writeln!(io::stderr(), "on PostgreSQL, {summary}");
}
