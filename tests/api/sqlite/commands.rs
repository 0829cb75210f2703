//! Commands whose subject is the SQLite file.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::commands::{Machine, log_in, names};
use crate::helpers::PATIENCE;
use crate::process::{authtokens, failure_of, program, run};

fn connect(machine: &Machine) -> Connection {
    Connection::open(machine.path().join("data/authtokens.db")).unwrap()
}

#[test]
fn the_first_account_makes_the_file_and_its_full_path_is_told() {
    let machine = Machine::new();
    for arguments in ["user list", "user show bob", "token list bob", "events", "prune", "check"] {
        let refused = machine.refused(arguments);
        assert_eq!(refused, (1, "there is no database at data/authtokens.db".to_owned()), "{arguments}");
    }
    assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 0, "only the first account makes it");
    let database = machine.path().canonicalize().unwrap().join("data/authtokens.db");
    assert_eq!(
        machine.said_to("hunter2\n", "user create Admin --superuser"),
        format!("Admin was made in a new database at {}; it is a superuser.\n", database.display())
    );
}

#[test]
fn a_sentence_on_standard_error_shows_a_terminal_no_control_character() {
    let machine = Machine::new();
    let sentence = machine.refused("check a\u{1b}[31m\u{202e}b").1;
    assert_eq!(sentence, "there is no database at a\\u{1b}[31m\\u{202e}b");
}

#[test]
fn the_flag_that_names_the_file_stands_before_or_behind_the_command() {
    let machine = Machine::new();
    machine.said_to("hunter2\n", "--database a.db user create a");
    machine.said_to("hunter2\n", "user create b --database a.db");
    assert_eq!(names(&machine.json("user --database a.db list")), ["a", "b"]);
    let missing = machine.refused("--database missing/a.db user list");
    assert_eq!(missing, (1, "there is no database at missing/a.db".to_owned()));
}

#[test]
fn the_configuration_is_shown_with_where_each_value_comes_from_and_reads_back_as_the_same() {
    let machine = Machine::new();
    fs::write(
        machine.path().join("config.toml"),
        "[server]\n\nbody_limit = \"2 MiB\"\n[tokens]\nlifetime = \"never\"\n",
    )
    .unwrap();
    let shown = |arguments: &str| {
        let mut command = machine.command(arguments);
        command.env("AUTHTOKENS__CORS__ORIGINS", "https://a.example, https://b.example");
        String::from_utf8(run(&mut command).stdout).unwrap()
    };
    let toml = shown("config show --database other.db");
    assert!(toml.starts_with("# The file that was read is config.toml.\n\n[server]\n"), "{toml}");
    for line in [
        "workers = \"auto\" # default",
        "body_limit = \"2 MiB\" # config.toml line 3",
        "keep_alive = \"75s\" # default",
        "lifetime = \"never\" # config.toml line 5",
        "origins = [\"https://a.example\", \"https://b.example\"] # environment variable AUTHTOKENS__CORS__ORIGINS",
        "path = \"other.db\" # flag --database",
    ] {
        assert!(toml.lines().any(|shown| shown == line), "{line} in {toml}");
    }
    let json: Value = serde_json::from_str(&shown("config show --json --database other.db")).unwrap();
    assert_eq!(json["server"]["body_limit"], json!({"value": "2 MiB", "origin": "config.toml line 3"}));
    assert_eq!(json["file"], "config.toml");
    assert_eq!(json["database"]["path"], json!({"value": "other.db", "origin": "flag --database"}));

    fs::write(machine.path().join("effective.toml"), &toml).unwrap();
    let shown_again = machine.json("config show --database x\u{e0041}\u{202e}.db");
    assert_eq!(shown_again["database"]["path"]["value"], "x\u{e0041}\u{202e}.db");
    fs::write(machine.path().join("escaped.toml"), machine.said("config show --database x\u{e0041}\u{202e}.db"))
        .unwrap();
    let read_back = machine.json("config show --config escaped.toml");
    assert_eq!(read_back["database"]["path"]["value"], "x\u{e0041}\u{202e}.db", "TOML has an escape of its own for it");

    let mut command = authtokens(machine.path());
    let again = String::from_utf8(run(command.args(["--config", "effective.toml", "config", "show"])).stdout).unwrap();
    let values =
        |text: &str| text.lines().skip(1).map(|line| line.split(" # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&toml));
}

#[test]
fn a_backup_is_made_checked_and_put_back() {
    let machine = Machine::with_accounts();
    {
        let _server = machine.server();
        assert!(machine.said("backup copy.db").contains("copy.db"));
        let again = machine.refused("backup copy.db");
        assert_eq!(again, (1, "copy.db exists already".to_owned()));
        let made = machine.json("backup copy.db --replace");
        assert_eq!((&made["file"], &made["tables"]["users"]), (&json!("copy.db"), &json!(2)));
        assert_eq!(machine.json("check copy.db")["tables"]["users"], 2);
        let (code, sentence) = machine.refused("restore copy.db --yes");
        assert!(code == 1 && sentence.contains("in use"), "{sentence}");
    }
    machine.said("user delete bob --yes");
    assert_eq!(machine.json("check")["tables"]["users"], 1);
    assert_eq!(machine.refused("restore copy.db").0, 2, "it does not do it unasked");
    let restored = machine.json("restore copy.db --yes");
    assert!(Path::new(restored["kept"].as_str().unwrap()).is_file());
    assert_eq!(names(&machine.json("user list")), ["Admin", "bob"]);

    fs::write(machine.path().join("broken.db"), &fs::read(machine.path().join("copy.db")).unwrap()[..9000]).unwrap();
    assert_eq!(machine.refused("check broken.db").0, 1);
    assert_eq!(machine.refused("restore broken.db --yes").0, 1);
    assert_eq!(names(&machine.json("user list")), ["Admin", "bob"]);
}

#[test]
fn an_account_that_the_service_cannot_read_is_named_by_the_check_the_listing_and_the_log_and_can_be_deleted() {
    let machine = Machine::with_accounts();
    connect(&machine).execute("UPDATE users SET date_joined = ?1 WHERE username = 'bob'", [i64::MIN + 1]).unwrap();
    let bob = "the account bob (id 2), date_joined: a time is out of range";
    assert_eq!(machine.refused("user list"), (1, format!("the store holds something that cannot be right: {bob}")));
    let whole = |file: &str| format!("{file} is whole, but holds what the service never wrote: ");
    assert_eq!(machine.refused("check"), (1, whole("data/authtokens.db") + bob));
    machine.said("backup copy.db");
    assert_eq!(machine.refused("check copy.db"), (1, whole("copy.db") + bob), "a copy is better than none");
    assert_eq!(machine.said("user delete bob --yes"), "bob was deleted.\n");
    machine.said("user list");

    {
        let server = machine.server();
        log_in(&server, "Admin", "hunter2");
        log_in(&server, "Admin", "wrong");
        connect(&machine).execute("UPDATE users SET password_hash = ''", []).unwrap();
        assert_eq!(log_in(&server, "Admin", "hunter2").0, 500);
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(machine.path().join("stderr.log")).unwrap().contains("hash of the account with id 1")
        {
            assert!(Instant::now() < deadline, "the log does not tell whose hash it is");
            thread::sleep(Duration::from_millis(5));
        }
    }
    let admin = "the account Admin (id 1), password_hash: it is not a hash that this service makes; \
        `user set-password` sets one";
    assert_eq!(machine.refused("check").1, whole("data/authtokens.db") + admin);
    let sqlite = connect(&machine);
    let spoil = "UPDATE users SET username = 'A min '; UPDATE tokens SET last_used = -9223372036854775807; \
        UPDATE events SET kind = 'unknown'; INSERT INTO login_failures VALUES (1, -1, 0); \
        INSERT INTO wants VALUES (1, 7, 9223372036854775807)";
    sqlite.execute_batch(spoil).unwrap();
    let (_, said) = machine.refused("check");
    for part in ["the account A min  (id 1), username: ", "the wish list of A min  (id 1), added: a time", "; and "] {
        assert!(said.contains(part), "{part} in {said}");
    }
    sqlite.execute_batch("UPDATE users SET username = 'Admin'; DELETE FROM wants; DELETE FROM events").unwrap();
    let (_, said) = machine.refused("check");
    for part in ["a token of Admin (id 1), last_used: a time", "the failed logins of Admin (id 1), failures: "] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_backup_whose_terminal_goes_away_stops_and_leaves_nothing_unless_nohup_started_it() {
    let machine = Machine::with_accounts();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) \
        INSERT INTO wants (user_id, item_id, added) SELECT id, i, 0 FROM n, users WHERE username = 'bob'";
    connect(&machine).execute(many, []).unwrap();
    let copies = machine.path().join("copies");
    fs::create_dir(&copies).unwrap();
    for (how, is_stopped) in [("exec", true), ("exec nohup", false)] {
        let line = format!("{how} \"$0\" backup copies/copy.db");
        let mut command = program("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_authtokens")]).current_dir(machine.path());
        command
            .env("AUTHTOKENS_CONFIG", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // It has begun.
        let deadline = Instant::now() + PATIENCE;
        while fs::read_dir(&copies).unwrap().next().is_none() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
        Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(is_stopped)), "{said}");
        assert_eq!(said.contains("it was stopped before its end"), is_stopped, "{said}");
        let left: Vec<_> = fs::read_dir(&copies).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), usize::from(!is_stopped), "{left:?}");
    }
}

#[test]
fn a_database_that_another_program_has_locked_is_a_sentence_after_the_busy_timeout() {
    let machine = Machine::with_accounts();
    let other = connect(&machine);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut command = machine.command("user promote bob");
    let (code, sentence) = failure_of(command.env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "10ms"));
    assert_eq!(code, 1);
    assert!(sentence.contains("locked"), "{sentence}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(machine.json("user promote bob")["is_staff"], true);
}

#[test]
fn a_command_gets_its_turn_beside_a_server_that_lets_go_of_the_file_for_moments_only() {
    let machine = Machine::with_accounts();
    let other = connect(&machine);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                other.execute_batch("BEGIN IMMEDIATE").unwrap();
                thread::sleep(Duration::from_millis(20));
                other.execute_batch("COMMIT").unwrap();
                thread::sleep(Duration::from_micros(500));
            }
        });
        for _ in 0..5 {
            assert_eq!(machine.json("user promote bob")["is_staff"], true);
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_file_that_is_not_a_database_is_named_in_one_sentence() {
    let machine = Machine::new();
    fs::write(machine.path().join("notes.txt"), "x".repeat(5000)).unwrap();
    assert_eq!(machine.refused("user list --database notes.txt"), (1, "notes.txt is not a SQLite database".to_owned()));
}
