//! The house rules that a compiler does not know: who may import whom, and who may name which driver.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// Which of our modules each module may import. What is not listed may import anything: `startup`, `main`, `lib`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("blocking", &[]),
    ("hashing", &[]),
    ("memory", &[]),
    ("json", &[]),
    ("visible", &[]),
    ("framing", &[]),
    ("error_chain", &[]),
    ("connection", &["framing"]),
    ("field", &[]),
    ("token", &[]),
    ("proxy", &[]),
    ("item", &["field"]),
    ("user", &["clock", "field", "item"]),
    ("event", &["clock", "user"]),
    ("limits", &["clock", "user"]),
    ("refusals", &["clock", "event", "limits"]),
    ("staff", &["event", "session", "user"]),
    ("session", &["clock", "token", "user"]),
    ("last_used", &["clock", "session", "token"]),
    ("chores", &["clock", "config", "error_chain", "last_used", "limits", "refusals", "repository", "session"]),
    ("backups", &["clock", "error_chain", "hashing", "repository"]),
    ("config", &["item", "limits", "memory", "password", "session"]),
    ("cli", &["clock", "commands", "config", "event", "repository", "session", "staff", "user"]),
    (
        "commands",
        &[
            "blocking",
            "chores",
            "clock",
            "config",
            "error_chain",
            "event",
            "field",
            "json",
            "password",
            "repository",
            "routes",
            "session",
            "staff",
            "startup",
            "user",
            "visible",
        ],
    ),
    ("logging", &["clock", "token", "visible"]),
    ("service_manager", &["error_chain"]),
    ("password", &["field", "hashing", "user"]),
    (
        "repository",
        &["blocking", "clock", "error_chain", "event", "item", "repository", "session", "staff", "token", "user"],
    ),
    ("error", &["field", "hashing", "json", "password", "repository"]),
    ("auth", &["clock", "error", "last_used", "proxy", "repository", "session", "token"]),
    ("metrics", &["backups", "clock", "error_chain", "hashing", "repository"]),
    ("scrape", &["connection", "error_chain", "metrics"]),
    ("exchange", &["auth", "connection", "error", "error_chain", "metrics", "proxy", "routes", "token"]),
    (
        "routes",
        &[
            "auth",
            "backups",
            "blocking",
            "clock",
            "connection",
            "error",
            "event",
            "field",
            "item",
            "json",
            "limits",
            "metrics",
            "password",
            "refusals",
            "repository",
            "session",
            "staff",
            "token",
            "user",
        ],
    ),
];

/// Which modules may name each crate.
const MAY_NAME: &[(&[&str], &[&str])] = &[
    (&["rusqlite", "r2d2", "r2d2_sqlite", "scheduled_thread_pool"], &["repository"]),
    (&["bcrypt", "hmac"], &["password"]),
    (
        &["actix_web", "actix_http", "actix_server", "actix_service", "actix_cors"],
        &["auth", "error", "exchange", "routes", "scrape", "startup"],
    ),
    (&["actix_rt"], &["connection", "scrape", "startup", "main"]),
    (&["prometheus"], &["metrics"]),
    (&["thread_priority"], &["hashing"]),
    (&["toml", "humantime"], &["config"]),
    (&["clap", "clap_complete", "clap_mangen"], &["cli", "main"]),
    (&["indicatif"], &["commands"]),
    (&["env_logger"], &["logging"]),
    (&["listenfd", "sd_notify"], &["service_manager"]),
    (&["chrono"], &["clock"]),
    (&["icu_normalizer"], &["staff"]),
    (&["utoipa"], &["routes"]),
    (&["icu_properties"], &["visible"]),
    (&["url"], &["config"]),
    (&["ipnet"], &["config", "proxy"]),
];

/// The code of every source file under the name of its module, without comments and tests.
fn modules() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let code: String = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .fold(String::new(), |code, line| code + line + "\n");
                let below = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().with_extension("");
                let module = below.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
                found.push((module, path, code));
            }
        }
    }
    assert!(found.len() > 20);
    found
}

/// What follows each `prefix` in `code` up to the end of the name.
fn names_after<'a>(code: &'a str, prefix: &str) -> Vec<&'a str> {
    code.split(prefix)
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .collect()
}

#[test]
fn each_module_imports_only_those_below_it() {
    for (module, path, code) in modules() {
        assert!(
            !code.contains("use crate::{"),
            "{}: one `use crate::` a module, so that this test sees it",
            path.display()
        );
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            assert!(["startup", "main", "lib"].contains(&module.as_str()), "{module} is missing from the table");
            continue;
        };
        for imported in names_after(&code, "crate::") {
            assert!(imported == module || allowed.contains(&imported), "{} imports {imported}", path.display());
        }
    }
}

#[test]
fn each_driver_is_named_only_in_its_room() {
    for (module, path, code) in modules() {
        for (crates, rooms) in MAY_NAME {
            for name in *crates {
                let is_named = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name)
                    && (code.contains(&format!("{name}::")) || code.contains(&format!("use {name};")));
                assert!(!is_named || rooms.contains(&module.as_str()), "{} names {name}", path.display());
            }
        }
    }
}

#[test]
fn each_module_opens_by_saying_what_it_is_for() {
    for (_, path, _) in modules() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}
