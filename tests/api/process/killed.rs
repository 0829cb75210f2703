//! Durability: what was acknowledged before a kill -9.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Server, ask, credentials, logout, store_in, token_of, until};
use crate::store::StoredAccount;

/// What was acknowledged to clients before the server died.
#[derive(Default)]
struct Acknowledged {
    /// Users with the token of their registration.
    registered: Mutex<Vec<(String, String)>>,
    /// Tokens whose logout was answered 200.
    logged_out: Mutex<Vec<String>>,
}

#[test]
fn every_acknowledged_registration_and_logout_survives_kill_9() {
    let rounds: usize = std::env::var("KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let quiet = |command: &mut Command| {
        command.env("RUST_LOG", "warn");
    };
    let acknowledged = Arc::new(Acknowledged::default());
    let next_name = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds {
        let mut server = Server::start(folder.path(), quiet);
        let dying = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (acknowledged, next_name, dying) = (acknowledged.clone(), next_name.clone(), dying.clone());
                let address = server.address;
                thread::spawn(move || {
                    while !dying.load(Ordering::Relaxed) {
                        let number = next_name.fetch_add(1, Ordering::Relaxed);
                        let name = format!("user{number}");
                        let Ok(answer) = ask(address, &credentials("/api/register", &name)) else { continue };
                        assert_eq!(answer.status(), 201, "{answer:?}");
                        let token = token_of(&answer);
                        acknowledged.registered.lock().unwrap().push((name, token.clone()));
                        if number % 2 == 0 {
                            let Ok(answer) = ask(address, &logout(&token)) else { continue };
                            assert_eq!(answer.status(), 200, "{answer:?}");
                            acknowledged.logged_out.lock().unwrap().push(token);
                        }
                    }
                })
            })
            .collect();
        // However slow the machine is, the kill comes during the load.
        until(|| acknowledged.logged_out.lock().unwrap().len() > 2 * (round + 1));
        thread::sleep(Duration::from_millis(37 * (round as u64 % 7)));
        server.child.kill().unwrap();
        dying.store(true, Ordering::Relaxed);
        server.wait();
        for client in clients {
            client.join().unwrap();
        }
    }

    let store = store_in(folder.path());
    assert!(store.is_whole());
    let with_session: HashSet<_> = store.sessions().into_iter().map(|session| session.username).collect();
    for StoredAccount { username, .. } in store.accounts() {
        let has_logged_out = username["user".len()..].parse::<usize>().unwrap() % 2 == 0;
        assert!(has_logged_out || with_session.contains(&username), "{username} without its registration's session");
    }

    let server = Server::start(folder.path(), quiet);
    let registered = acknowledged.registered.lock().unwrap();
    let logged_out = acknowledged.logged_out.lock().unwrap();
    assert!(registered.len() > rounds && logged_out.len() > rounds, "the load was real");
    for (name, _) in registered.iter() {
        assert_eq!(server.ask(&credentials("/api/login", name)).status(), 200, "{name} was acknowledged");
    }
    for token in logged_out.iter() {
        assert_eq!(server.ask(&logout(token)).status(), 401, "a logout was acknowledged and is undone");
    }
    let never_ended = registered.iter().filter(|(name, _)| name["user".len()..].parse::<usize>().unwrap() % 2 == 1);
    for (name, token) in never_ended {
        assert_eq!(server.ask(&logout(token)).status(), 200, "the session of {name} is lost");
    }
    println!(
        "{rounds} rounds: {} registrations and {} logouts acknowledged, none lost",
        registered.len(),
        logged_out.len()
    );
}

#[test]
fn every_acknowledged_edit_of_a_list_survives_kill_9() {
    let rounds: usize = std::env::var("KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let quiet = |command: &mut Command| {
        command.env("RUST_LOG", "warn");
    };
    let tokens: Vec<String> = {
        let server = Server::start(folder.path(), quiet);
        (0..8).map(|client| token_of(&server.ask(&credentials("/api/register", &format!("user{client}"))))).collect()
    };
    let edit = |method: &str, token: &str, item: usize| {
        let path = format!("/api/user/cellar/{item}");
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Token {token}\r\n\r\n")
    };
    // Each client adds the next item and removes the one three before it, and knows what it was told.
    let mut known: Vec<(usize, usize)> = vec![(0, 0); tokens.len()];
    let acknowledged = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds {
        let mut server = Server::start(folder.path(), quiet);
        let address = server.address;
        let clients: Vec<_> = tokens
            .iter()
            .cloned()
            .zip(known.iter().copied())
            .map(|(token, (mut added, mut removed))| {
                let acknowledged = Arc::clone(&acknowledged);
                thread::spawn(move || {
                    while let Ok(answer) = ask(address, edit("PUT", &token, added + 1).as_bytes()) {
                        assert_eq!(answer.status(), 200, "{answer:?}");
                        added += 1;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        if added > removed + 3 {
                            let Ok(answer) = ask(address, edit("DELETE", &token, removed + 1).as_bytes()) else {
                                break;
                            };
                            assert_eq!(answer.status(), 200, "{answer:?}");
                            removed += 1;
                        }
                    }
                    (added, removed)
                })
            })
            .collect();
        // However slow the machine is, the kill comes during the load.
        until(|| acknowledged.load(Ordering::Relaxed) > 2 * tokens.len() * (round + 1));
        thread::sleep(Duration::from_millis(37 * (round as u64 % 7)));
        server.child.kill().unwrap();
        server.wait();
        known = clients.into_iter().map(|client| client.join().unwrap()).collect();

        let server = Server::start(folder.path(), quiet);
        for (token, (added, removed)) in tokens.iter().zip(&known) {
            let request = format!("GET /api/user/cellar HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n\r\n");
            let list: Vec<usize> = serde_json::from_str(&server.ask(request.as_bytes()).body).unwrap();
            // The edit that was under way may have happened; nothing that was acknowledged may be missing.
            let lowest = list.first().copied().unwrap_or(added + 1);
            let highest = list.last().copied().unwrap_or(*added);
            assert!(lowest == removed + 1 || lowest == removed + 2, "{list:?}, told of {added} and {removed}");
            assert!(highest == *added || highest == added + 1, "{list:?}, told of {added} and {removed}");
            assert_eq!(list.len(), highest + 1 - lowest, "{list:?}");
        }
    }
    let edits: usize = known.iter().map(|(added, removed)| added + removed).sum();
    assert!(edits > rounds * tokens.len(), "the load was real");
    println!("{rounds} rounds: {edits} edits acknowledged, none lost");
}
