//! What is refused, and what an import never does.

use std::fs;

use super::sources::{self, BCRYPT, HASHES, MD5, Site, drf_token, knox_token};
use super::{files_in, imported};
use crate::commands::{Machine, run_with};
use crate::process::run;

#[test]
fn wrong_usage_of_an_import_has_exit_code_2() {
    let machine = Machine::new();
    Site::with(machine.path(), &["anna"]).close();
    for arguments in [
        "",
        "mysql site.db",
        "django",
        "django site.db --names theirs",
        "django site.db --items beers=wine_user_beers",
        "django site.db --items cellar",
        "django site.db --field username=nick",
        "django site.db --source ü",
        "django site.db --collection users",
        "pocketbase pb_data --timezone UTC",
        "pocketbase pb_data --unconfirmed maybe",
        "supabase users.csv --items cellar=x",
    ] {
        let output = run_with(&mut machine.command(&format!("import {arguments}")), "");
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        assert_eq!(output.stdout, b"", "{arguments}");
    }
    assert!(!machine.store().exists());
}

#[test]
fn a_file_that_cannot_be_read_is_refused_in_a_sentence_and_makes_no_database() {
    let machine = Machine::new();
    let folder = machine.path();
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("text"), "no data at all\n").unwrap();
    fs::write(folder.join("custom"), b"PGDMP\x01\x0e\0").unwrap();
    fs::write(folder.join("torn.json"), r#"[{"model": "wine.user", "pk": 1, "fields": {"username": "an"#).unwrap();
    let users = "CREATE TABLE public.auth_user (\n    id integer,\n    password text,\n    username text\n);\n";
    fs::write(
        folder.join("torn.sql"),
        format!("{users}COPY public.auth_user (id, password, username) FROM stdin;\n1\tx\n"),
    )
    .unwrap();
    Site::with(folder, &["anna"]).close();
    let mut torn = fs::read(folder.join("site.db")).unwrap();
    torn.truncate(torn.len() / 2);
    fs::write(folder.join("torn.db"), torn).unwrap();
    for file in ["missing", "empty", "text", "custom", "torn.json", "torn.sql", "torn.db", "."] {
        for source in ["django", "pocketbase", "supabase"] {
            let (code, sentence) = machine.refused(&format!("import {source} {file}"));
            assert_eq!(code, 1, "{source} {file}: {sentence}");
        }
    }
    assert!(machine.refused("import django custom").1.contains("pg_restore -f -"));
    assert!(!machine.store().exists());
}

#[test]
fn the_source_is_never_changed_and_nothing_is_left_beside_it() {
    let machine = Machine::new();
    let folder = machine.path().join("theirs");
    fs::create_dir(&folder).unwrap();
    let site = Site::with(&folder, &["anna"]);
    site.connection.execute_batch("COMMIT").unwrap();
    // A running site, whose newest user is in its log alone.
    site.connection.pragma_update(None, "journal_mode", "wal").unwrap();
    site.connection.execute_batch("BEGIN").unwrap();
    site.user("ben");
    site.connection.execute_batch("COMMIT").unwrap();
    let before = files_in(&folder);
    assert_eq!(before.len(), 3, "with its log");
    let report = imported(&machine, "django theirs/site.db");
    assert_eq!(report["accounts"]["imported"], 2);
    assert!(files_in(&folder) == before);
    drop(site);

    let folder = machine.path().join("pb_data");
    sources::pocketbase(&folder, &["anna@wine.example"]);
    let before = files_in(&folder);
    imported(&machine, "pocketbase pb_data");
    assert!(files_in(&folder) == before);
    let left: Vec<_> = fs::read_dir(machine.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let known = ["theirs", "pb_data", "data"];
    assert!(left.iter().all(|name| known.iter().any(|known| name == known)), "{left:?}");
}

#[test]
fn nothing_that_an_import_says_has_a_hash_a_token_or_a_salt() {
    let machine = Machine::with_accounts();
    let site = Site::new(machine.path().join("site.db"));
    for (number, hash) in (1..).zip(HASHES.into_iter().chain([MD5, "!unusable", "crypt$$ab1cd2ef3gh4i", "gibberish"])) {
        let user = site.user(&format!("user{number}"));
        site.set(user, "password", hash);
        site.token(user, &drf_token(number));
        site.knox(user, &knox_token(number), None);
    }
    // A token of another form, and a name in conflict.
    site.token(site.user("odd"), "not-a-token");
    site.user("Bob");
    site.close();
    sources::pocketbase(&machine.path().join("pb_data"), &["anna@wine.example", "x y"]);
    sources::supabase(&machine.path().join("users.csv"), &["ben@wine.example", ""]);
    let secrets = HASHES.into_iter().chain([MD5, BCRYPT, "crypt$$ab1cd2ef3gh4i", "gibberish"]);
    let secrets: Vec<&str> =
        secrets.flat_map(|hash| hash.split('$')).filter(|part| part.len() > 10 && !part.contains("_sha256")).collect();
    for arguments in ["django site.db", "pocketbase pb_data", "supabase users.csv"] {
        for options in ["--dry-run", "", "--leave-out-conflicts --json", "--json"] {
            let output = run(&mut machine.command(&format!("import {arguments} {options}")));
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!said.is_empty());
            for secret in secrets.iter().copied().chain(["not-a-token", "kkkkkkkk", "0000000100000001"]) {
                assert!(!said.contains(secret), "{arguments} {options}: {secret} in {said}");
            }
        }
    }
}

#[test]
fn a_column_of_secrets_is_neither_a_name_nor_a_field_of_the_profile() {
    let machine = Machine::with_accounts();
    Site::with(machine.path(), &["anna"]).close();
    let before = machine.store().dump();
    for options in ["--name password", "--field city=password", "--name PASSWORD --names source"] {
        let (code, sentence) = machine.refused(&format!("import django site.db {options}"));
        assert!(code == 1 && sentence.contains("secrets"), "{options}: {sentence}");
    }
    assert_eq!(machine.store().dump(), before);
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let machine = Machine::new();
    Site::with(machine.path(), &["anna"]).close();
    let made = std::process::Command::new("mkfifo").arg(machine.path().join("pipe")).status().unwrap();
    assert!(made.success());
    for arguments in ["django pipe", "pocketbase pipe", "supabase pipe", "django site.db --rename pipe"] {
        let (code, sentence) = machine.refused(&format!("import {arguments}"));
        assert!(code == 1 && sentence.contains("not a file"), "{arguments}: {sentence}");
    }
}

#[test]
fn a_file_without_an_account_is_refused() {
    let machine = Machine::new();
    Site::new(machine.path().join("site.db")).close();
    let (code, sentence) = machine.refused("import django site.db");
    assert!(code == 1 && sentence.contains("no account"), "{sentence}");
    assert!(!machine.store().exists());
}

#[test]
fn what_the_source_says_is_shown_escaped() {
    let machine = Machine::new();
    Site::with(machine.path(), &["\u{1b}[2Jclear", "\u{202e}gpj", "two\nlines"]).close();
    let output = run(&mut machine.command("import django site.db"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("clear") && said.contains("gpj"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{202e}']) && !said.contains("two\nlines"), "{said}");
}
