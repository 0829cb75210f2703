//! A copy that is killed at any point: the target is empty or complete, and the source is whole.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::{cluster, with_file};
use crate::cluster::Cluster;
use crate::commands::Machine;
use crate::sqlite::store::SqliteStore;
use crate::store::{StoredAccount, TestStore as _};

const ACCOUNTS: usize = 500;

/// A file with accounts that have items.
fn filled() -> Machine {
    let (machine, file) = with_file("a.db");
    machine.said("--database a.db database migrate");
    let accounts: Vec<_> = (0..ACCOUNTS).map(|number| StoredAccount::named(format!("user{number}"))).collect();
    file.add_accounts(&accounts);
    file.fill_lists(20);
    machine
}

/// Begins a command, and kills it after a while.
fn kill_after(machine: &Machine, arguments: &str, time: Duration) {
    let mut child = machine.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(time);
    let _ = child.kill();
    child.wait().unwrap();
}

fn count(cluster_url: &str) -> i64 {
    let made = "SELECT count(*) FROM pg_class WHERE relname = 'users'";
    let is_made = cluster::on(cluster_url, async |client| client.query_one(made, &[]).await).unwrap();
    if is_made.get::<_, i64>(0) == 0 {
        return 0;
    }
    // It waits for the locks of a connection whose end PostgreSQL has not noticed.
    let rows = "SELECT count(*) FROM users";
    cluster::on(cluster_url, async |client| client.query_one(rows, &[]).await).unwrap().get(0)
}

/// How long a copy takes that is not killed.
fn usual_time(cluster: &Cluster) -> Duration {
    let machine = filled();
    let began = Instant::now();
    machine.said(&format!("database copy --from a.db --to {}", cluster.new_database()));
    began.elapsed()
}

#[test]
fn a_copy_that_is_killed_leaves_the_target_empty_or_complete() {
    let Some(cluster) = cluster("copies that are killed") else { return };
    let rounds: u32 = std::env::var("KILL_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    let usual = usual_time(cluster);
    let machine = filled();
    let rows = i64::try_from(ACCOUNTS).unwrap();
    let url = cluster.new_database();
    let mut complete = 0;
    for round in 0..rounds {
        kill_after(&machine, &format!("database copy --from a.db --to {url}"), usual * round / rounds);
        let found = count(&url);
        assert!(found == 0 || found == rows, "{found} rows");
        if found == rows {
            complete += 1;
            break;
        }
        assert_eq!(SqliteStore::at(&machine.path().join("a.db")).count("users"), rows, "and the source is as it was");
    }
    if complete == 0 {
        machine.said(&format!("database copy --from a.db --to {url}"));
    }
    let to = "b.db";
    for round in 0..rounds {
        kill_after(&machine, &format!("database copy --from {url} --to {to}"), usual * round / rounds);
        if machine.path().join(to).exists() {
            let found = SqliteStore::at(&machine.path().join(to));
            assert!(found.is_whole() && found.count("users") == rows);
            return;
        }
    }
    machine.said(&format!("database copy --from {url} --to {to}"));
    let left = std::fs::read_dir(machine.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}
