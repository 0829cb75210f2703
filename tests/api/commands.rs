//! The commands as the operator meets them: the program itself, beside a running server and without one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::{JSON, PATIENCE, left_out, post_bytes};
use crate::process::{Server, authtokens, credentials, program, refusal, run, token_of};

/// A folder in which commands are given.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One with an account named `Admin`, a superuser, and one named `bob`. Their password is `hunter2`.
    fn with_accounts() -> Self {
        let machine = Self::new();
        machine.said_to("hunter2\n", "user create Admin --superuser");
        machine.said_to("hunter2\n", "user create bob");
        machine
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn server(&self) -> Server {
        Server::start(self.path(), |_| {})
    }

    /// The program with these arguments. A command never logs, whatever the log is asked for.
    fn command(&self, arguments: &str) -> Command {
        let mut command = authtokens(self.path());
        command
            .args(arguments.split_whitespace())
            .env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4")
            .env("RUST_LOG", "trace");
        command
    }

    /// What a command prints that does what it is asked.
    fn said(&self, arguments: &str) -> String {
        self.said_to("", arguments)
    }

    fn said_to(&self, input: &str, arguments: &str) -> String {
        let output = run_with(&mut self.command(arguments), input);
        assert!(output.status.success(), "{arguments}: {output:?}");
        // `config show` warns of the cost that the tests use.
        let cost = "authtokens: warning: password.bcrypt_cost is 4: ";
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().find(|line| !line.starts_with(cost)), None, "{arguments}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.said(&format!("{arguments} --json"))).unwrap()
    }

    /// The sentence of a command that fails, with its exit code.
    fn refused(&self, arguments: &str) -> (i32, String) {
        let mut command = self.command(arguments);
        let (code, sentence) = refusal(&mut command);
        assert_eq!(run(&mut command).stdout, b"", "{arguments}");
        (code, sentence)
    }

    fn sqlite(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path().join("data/authtokens.db")).unwrap()
    }
}

fn run_with(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not ask may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn names(users: &Value) -> Vec<&str> {
    users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
}

fn log_in(server: &Server, username: &str, password: &str) -> (u16, Value) {
    let body = json!({"username": username, "password": password}).to_string();
    let response = server.ask(&post_bytes("/api/login", JSON, body));
    (response.status(), response.json())
}

/// The status with which the server answers a token.
fn status_of(server: &Server, token: &str) -> u16 {
    let request = format!("GET /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n\r\n");
    server.ask(request.as_bytes()).status()
}

#[test]
fn the_first_superuser_is_made_on_a_fresh_file_and_logs_in_over_http() {
    let machine = Machine::new();
    let database = machine.path().canonicalize().unwrap().join("data/authtokens.db");
    assert_eq!(
        machine.said_to("hunter2\n", "user create Admin --superuser"),
        format!("Admin was made in a new database at {}; it is a superuser.\n", database.display())
    );
    assert_eq!(machine.said_to("hunter2\n", "user create Bob"), "Bob was made; it has no rights over others.\n");
    let server = machine.server();
    let (status, body) = log_in(&server, "admin", "hunter2");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["user"]["is_superuser"], true);
    assert_eq!(body["user"]["is_staff"], false);

    let made: Value = serde_json::from_str(&machine.said_to("p", "user create Eve --staff --json")).unwrap();
    assert_eq!((&made["username"], &made["is_staff"]), (&json!("Eve"), &json!(true)));
    let (status, body) = log_in(&server, "eve", "p");
    assert_eq!((status, &body["user"]["created"]), (200, &made["created"]), "beside a running server too");
}

#[test]
fn a_deactivated_account_is_refused_by_the_running_server_with_the_very_next_request() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let token = log_in(&server, "bob", "hunter2").1["token"].as_str().unwrap().to_owned();
    assert_eq!(status_of(&server, &token), 200);
    assert!(machine.said("user deactivate BOB").starts_with("bob cannot log in any more"));
    assert_eq!(status_of(&server, &token), 401);
    assert_eq!(log_in(&server, "bob", "hunter2").0, 401);
    assert_eq!(machine.json("user activate bob")["is_active"], true);
    assert_eq!(status_of(&server, &token), 401, "what has ended stays so");
    assert_eq!(log_in(&server, "bob", "hunter2").0, 200);
}

#[test]
fn a_password_that_is_set_ends_the_tokens_and_the_old_password() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let token = log_in(&server, "bob", "hunter2").1["token"].as_str().unwrap().to_owned();
    assert!(machine.said_to("new one\n", "user set-password bob").starts_with("bob has a new password"));
    assert_eq!(status_of(&server, &token), 401);
    assert_eq!(log_in(&server, "bob", "hunter2").0, 401);
    assert_eq!(log_in(&server, "bob", "new one").0, 200);
}

#[test]
fn a_password_is_exactly_the_first_line_of_standard_input_and_keeps_the_policy() {
    let machine = Machine::new();
    machine.said_to(" pä ss\t\nsecond\n", "user create a");
    let server = machine.server();
    assert_eq!(log_in(&server, "a", " pä ss\t").0, 200);
    // Exactly one line ending is none of it, LF or CRLF.
    for (n, (input, password)) in [
        ("no newline", "no newline"),
        ("windows\r\n", "windows"),
        ("two\r\r\n", "two\r"),
        ("mac\r", "mac\r"),
        ("inside\rof it\n", "inside\rof it"),
    ]
    .into_iter()
    .enumerate()
    {
        machine.said_to(input, &format!("user create b{n}"));
        assert_eq!(log_in(&server, &format!("b{n}"), password).0, 200, "{input:?}");
        machine.said(&format!("user delete b{n} --yes"));
    }

    for (input, sentence) in [
        ("", "the password must not be empty"),
        ("\n", "the password must not be empty"),
        ("\r\n", "the password must not be empty"),
        ("short\n", "the password must be at least 8 characters"),
        ("Password1\n", "the password must not be one of the most common passwords"),
    ] {
        for arguments in ["user create c", "user set-password a"] {
            let mut command = machine.command(arguments);
            command.env("AUTHTOKENS__PASSWORD__MIN_LENGTH", "8").env("AUTHTOKENS__PASSWORD__REJECT_COMMON", "true");
            let output = run_with(&mut command, input);
            assert_eq!(output.status.code(), Some(1), "{input:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("authtokens: {sentence}\n"));
        }
    }
    let output =
        machine.command("user create c").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().and_then(|mut child| {
            child.stdin.take().unwrap().write_all(b"\xff\n")?;
            child.wait_with_output()
        });
    assert_eq!(output.unwrap().status.code(), Some(1), "not UTF-8");
    assert_eq!(names(&machine.json("user list")), ["a"]);
    assert_eq!(log_in(&server, "a", " pä ss\t").0, 200, "nothing has changed");
}

#[test]
fn a_password_that_no_login_could_send_is_refused_and_never_cut() {
    let machine = Machine::new();
    let set = |input: &str| {
        let mut command = machine.command("user create a");
        run_with(command.env("AUTHTOKENS__SERVER__BODY_LIMIT", "1 KiB"), input)
    };
    // What stands around the password in a login.
    let room = 1_024 - json!({"username": "a", "password": ""}).to_string().len();
    for password in ["x".repeat(room + 1), "x".repeat(10_000), "\"".repeat(room), "ü".repeat(600)] {
        for end in ["", "\n", "\nsecond"] {
            let output = set(&(password.clone() + end));
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.starts_with("authtokens: the password must fit into a login, which is at most 1.0 KiB"),
                "{said}"
            );
        }
    }
    let longest = "x".repeat(room);
    assert!(set(&longest).status.success());
    let server = Server::start(machine.path(), |command| {
        command.env("AUTHTOKENS__SERVER__BODY_LIMIT", "1 KiB");
    });
    assert_eq!(log_in(&server, "a", &longest).0, 200);
}

#[test]
fn what_was_done_and_cannot_be_told_is_said_to_be_done() {
    let machine = Machine::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child =
        machine.command("user create a").stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hunter2\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("authtokens: it was done, but standard output cannot be written: "), "{said}");
    assert_eq!(names(&machine.json("user list")), ["a"]);
    let (code, sentence) = refusal(machine.command("user list").stdout(full()));
    assert!(code == 1 && sentence.starts_with("cannot write to standard output: "), "{sentence}");
}

#[test]
fn a_password_in_an_argument_is_a_usage_error() {
    let machine = Machine::with_accounts();
    for arguments in ["user create c --password secret", "user create c secret", "user set-password bob secret"] {
        let output = run_with(&mut machine.command(arguments), "hunter2\n");
        assert_eq!(output.status.code(), Some(2), "{arguments}");
    }
    assert_eq!(names(&machine.json("user list")), ["Admin", "bob"]);
}

#[test]
fn what_cannot_be_done_is_one_sentence_with_exit_code_1_and_changes_nothing() {
    let machine = Machine::new();
    for arguments in ["user list", "user show bob", "token list bob", "events", "prune"] {
        assert_eq!(
            machine.refused(arguments),
            (1, "there is no database at data/authtokens.db".to_owned()),
            "{arguments}"
        );
    }
    assert_eq!(machine.refused("check").0, 1);
    assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 0, "only the first account makes the file");

    let machine = Machine::with_accounts();
    let events = machine.json("events");
    for (arguments, sentence) in [
        ("user create BOB", "there is an account named BOB already"),
        ("user show nobody", "there is no account named nobody"),
        ("user set-password nobody", "there is no account named nobody"),
        ("user activate nobody", "there is no account named nobody"),
        ("user promote nobody", "there is no account named nobody"),
        ("user delete nobody --yes", "there is no account named nobody"),
        ("token list nobody", "there is no account named nobody"),
        ("token revoke nobody --all", "there is no account named nobody"),
        ("token revoke bob 0123456789abcdef", "bob has no session of this id"),
        ("user demote admin --superuser", "admin is the last superuser who can log in"),
        ("user deactivate Admin", "Admin is the last superuser who can log in"),
        ("user delete Admin --yes", "Admin is the last superuser who can log in"),
        ("--database missing/a.db user list", "there is no database at missing/a.db"),
    ] {
        assert_eq!(machine.refused(arguments), (1, sentence.to_owned()), "{arguments}");
    }
    assert_eq!(machine.json("events"), events);

    fs::write(machine.path().join("notes.txt"), "x".repeat(5000)).unwrap();
    assert_eq!(machine.refused("user list --database notes.txt"), (1, "notes.txt is not a SQLite database".to_owned()));
}

#[test]
fn a_sentence_on_standard_error_shows_a_terminal_no_control_character() {
    let machine = Machine::new();
    let sentence = machine.refused("check a\u{1b}[31m\u{202e}b").1;
    assert_eq!(sentence, "there is no database at a\\u{1b}[31m\\u{202e}b");
}

#[test]
fn a_database_that_another_program_has_locked_is_a_sentence_after_the_busy_timeout() {
    let machine = Machine::with_accounts();
    let other = machine.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut command = machine.command("user promote bob");
    let (code, sentence) = refusal(command.env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "10ms"));
    assert_eq!(code, 1);
    assert!(sentence.contains("locked"), "{sentence}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(machine.json("user promote bob")["is_staff"], true);
}

#[test]
fn a_command_gets_its_turn_beside_a_server_that_lets_go_of_the_file_for_moments_only() {
    let machine = Machine::with_accounts();
    let other = machine.sqlite();
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
fn wrong_usage_and_a_wrong_configuration_have_exit_code_2() {
    let machine = Machine::with_accounts();
    for arguments in [
        "user create bad!name",
        "user create 1234567890123456789012345678901",
        "user show ü",
        "user",
        "user list --active --inactive",
        "user list --limit 0",
        "token revoke bob",
        "token revoke bob 0123456789abcdef --all",
        "token revoke bob 0123456789ABCDEF",
        "events --kind anything",
        "backup",
        "user delete bob",
        "restore data/authtokens.db",
        "completions tcl",
        "--listen 127.0.0.1:0 user list",
        "user list --config missing.toml",
    ] {
        let output = run_with(&mut machine.command(arguments), "");
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        assert_eq!(output.stdout, b"", "{arguments}");
        assert!(!output.stderr.is_empty(), "{arguments}");
    }
    let said = run_with(&mut machine.command("token revoke bob"), "").stderr;
    assert!(
        String::from_utf8(said).unwrap().contains("\nUsage: authtokens token revoke [OPTIONS] <NAME> <ID|--all>\n")
    );
    assert!(
        machine.said("token revoke --help").contains("\nUsage: authtokens token revoke [OPTIONS] <NAME> <ID|--all>\n")
    );
    assert_eq!(names(&machine.json("user list")), ["Admin", "bob"]);
}

#[test]
fn the_flags_of_all_commands_stand_before_or_behind_the_command() {
    let machine = Machine::new();
    fs::write(machine.path().join("other.toml"), "[password]\nmin_length = 9\n").unwrap();
    machine.said_to("hunter2\n", "--database a.db user create a");
    machine.said_to("hunter2\n", "user create b --database a.db");
    assert_eq!(names(&machine.json("user --database a.db list")), ["a", "b"]);
    for arguments in ["--config other.toml config show", "config --config other.toml show"] {
        assert!(machine.said(arguments).contains("min_length = 9 # other.toml line 2\n"));
    }
    assert_eq!(machine.refused("user create c --config other.toml").0, 1);
}

#[test]
fn accounts_are_listed_as_a_table_for_people_and_as_one_array_for_programs() {
    let machine = Machine::with_accounts();
    machine.said("user promote bob");
    machine.said_to("hunter2\n", "user create Eve");
    machine.said("user deactivate eve");
    let table = machine.said("user list");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    let column = lines[0].find("RIGHTS").unwrap();
    assert!(lines[0].starts_with("NAME   ACTIVE  RIGHTS     LAST LOGIN"), "{table}");
    assert!(lines[1].starts_with("Admin  yes") && lines[1][column..].starts_with("superuser"), "{table}");
    assert!(lines[2].starts_with("bob    yes") && lines[2][column..].starts_with("staff"), "{table}");
    assert!(lines[3].starts_with("Eve    no"), "{table}");

    for (filter, expected) in [
        ("", vec!["Admin", "bob", "Eve"]),
        ("--active", vec!["Admin", "bob"]),
        ("--inactive", vec!["Eve"]),
        ("--staff", vec!["bob"]),
        ("--superuser", vec!["Admin"]),
        ("--search B", vec!["bob"]),
        ("--search nothing", vec![]),
        ("--limit 2", vec!["Admin", "bob"]),
    ] {
        assert_eq!(names(&machine.json(&format!("user list {filter}"))), expected, "{filter}");
    }
    let shown = machine.json("user show BOB");
    assert_eq!(shown, machine.json("user list --staff")[0]);
    assert_eq!(shown.as_object().unwrap().len(), 18);
    assert!(machine.said("user show bob").contains("\nis_staff      yes\n"));
}

#[test]
fn a_list_has_every_account_however_many_there_are_and_minds_a_reader_that_leaves() {
    let machine = Machine::with_accounts();
    let sqlite = machine.sqlite();
    let copy = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1700) \
        INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
        SELECT printf('u%05d', n), printf('u%05d', n), '', 0, 0, 0, 0 FROM numbers";
    assert_eq!(sqlite.execute(copy, []).unwrap(), 1700);
    let users = machine.json("user list");
    let listed = names(&users);
    assert_eq!(listed.len(), 1702);
    assert!(listed.windows(2).all(|pair| pair[0].to_lowercase() < pair[1].to_lowercase()));
    assert_eq!(machine.said("user list").lines().count(), 1703);
    assert_eq!(machine.json("user list --limit 501").as_array().unwrap().len(), 501);

    for arguments in ["user list", "user list --json", "events", "manual", "config show", "completions bash"] {
        let mut command = machine.command(arguments);
        // `config show` warns of the cost that the tests use.
        command.env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "12").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]), "{arguments}");
    }
}

#[test]
fn tokens_are_listed_and_ended_one_by_one_or_all_at_once() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let tokens: Vec<String> = (0..3).map(|_| token_of(&server.ask(&credentials("/api/login", "bob")))).collect();
    let sessions = machine.json("token list bob");
    let keys: Vec<&String> = sessions[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["created", "current", "expires", "id", "ip", "last_used", "user_agent"]);
    assert_eq!(sessions.as_array().unwrap().len(), 3);
    assert!(machine.said("token list bob").starts_with("ID                CREATED "));

    let newest = sessions[0]["id"].as_str().unwrap();
    assert_eq!(machine.said(&format!("token revoke bob {newest}")), "1 token was ended.\n");
    assert_eq!([0, 1, 2].map(|n| status_of(&server, &tokens[n])), [200, 200, 401]);
    assert_eq!(machine.json("token revoke bob --all"), json!({"revoked": 2}));
    assert_eq!([0, 1, 2].map(|n| status_of(&server, &tokens[n])), [401; 3]);
    assert_eq!(machine.json("token list bob"), json!([]));
    assert_eq!(machine.said("token list bob").lines().count(), 1, "the headings alone");
    assert_eq!(machine.json("token revoke bob --all"), json!({"revoked": 0}));
}

#[test]
fn rights_are_given_and_taken_and_the_answer_says_what_is_left() {
    let machine = Machine::with_accounts();
    assert_eq!(machine.said("user promote bob"), "bob is staff.\n");
    assert_eq!(machine.said("user promote bob --superuser"), "bob is staff and a superuser.\n");
    assert_eq!(machine.said("user demote bob"), "bob is a superuser.\n");
    assert_eq!(machine.said("user demote Admin --superuser"), "Admin has no rights over others.\n");
    assert_eq!(machine.refused("user demote bob --superuser").0, 1);
}

#[test]
fn every_change_leaves_an_event_of_the_command_line() {
    let machine = Machine::with_accounts();
    machine.said("user promote bob");
    machine.said("user demote bob");
    machine.said_to("x\n", "user set-password bob");
    machine.said("user deactivate bob");
    machine.said("user activate bob");
    machine.said("user delete bob --yes");
    let events = machine.json("events --user bob");
    let kinds: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let all = machine.json("events");
    assert!(all.as_array().unwrap().iter().all(|event| event["actor"] == "command line"), "{all}");
    let told: Vec<&str> = all.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["created", "promoted", "demoted", "password_set", "deactivated", "activated", "deleted"] {
        assert!(told.contains(&kind), "{kind} in {told:?}; of bob {kinds:?}");
    }
    assert_eq!(machine.json("events --kind demoted").as_array().unwrap().len(), 1);
    assert_eq!(machine.json("events --limit 2").as_array().unwrap().len(), 2);
    assert!(machine.said("events").starts_with("TIME                      EVENT"));
    assert!(machine.said("events").contains("command line"));
}

#[test]
fn an_account_is_deleted_with_yes_and_never_unasked() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let token = token_of(&server.ask(&credentials("/api/login", "bob")));
    let (code, sentence) = machine.refused("user delete bob");
    assert_eq!((code, sentence.as_str()), (2, "it needs --yes where there is no terminal to ask at"));
    assert_eq!(run_with(&mut machine.command("user delete bob"), "y\n").status.code(), Some(2), "a pipe is not asked");
    assert_eq!(status_of(&server, &token), 200);
    assert_eq!(machine.said("user delete BOB --yes"), "bob was deleted.\n");
    assert_eq!(status_of(&server, &token), 401);
    assert_eq!(machine.refused("user show bob").0, 1);
}

#[test]
fn commands_at_the_same_time_all_do_their_work_also_on_a_file_that_is_not_there_yet() {
    let machine = Machine::new();
    let outputs: Vec<Output> = thread::scope(|scope| {
        let started: Vec<_> = (0..8)
            .map(|n| {
                let mut command = machine.command(&format!("user create u{}", n % 4));
                scope.spawn(move || run_with(&mut command, "hunter2\n"))
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let done = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(done, 4, "{outputs:?}");
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("already"), "{said}");
    }
    assert_eq!(names(&machine.json("user list")), ["u0", "u1", "u2", "u3"]);
}

#[test]
fn nothing_that_is_printed_holds_a_secret_or_a_control_character() {
    let machine = Machine::with_accounts();
    {
        let server = machine.server();
        server.ask(&credentials("/api/login", "bob"));
    }
    let sqlite = machine.sqlite();
    let nasty = "x\u{1b}[2J\u{9b}31m\r\n\u{202e}\u{3164}\u{e0041}y";
    sqlite.execute("UPDATE users SET email = ?1, first_name = ?1, city = ?1", [nasty]).unwrap();
    sqlite.execute("UPDATE tokens SET user_agent = ?1", [nasty]).unwrap();
    sqlite.execute("UPDATE events SET detail = ?1, actor = ?1", [nasty]).unwrap();
    let digest: String = sqlite.query_row("SELECT lower(hex(digest)) FROM tokens", [], |row| row.get(0)).unwrap();
    for arguments in ["user list", "user show bob", "token list bob", "events", "config show", "user promote bob"] {
        for form in ["", " --json"] {
            let said = machine.said(&format!("{arguments}{form}"));
            let is_bad = |c: char| c != '\n' && authtokens::system::visible::is_unseen(c);
            assert!(!said.contains(is_bad), "{arguments}: {said:?}");
            for secret in ["hunter2", "bcrypt-sha256", digest.as_str()] {
                assert!(!said.contains(secret), "{arguments}: {said}");
            }
        }
    }
    assert_eq!(machine.json("user show bob")["email"], nasty, "programs get it as it is");
    assert!(machine.said("user list").contains("x\\u{1b}[2J\\u{9b}31m\\r\\n\\u{202e}\\u{3164}\\u{e0041}y"));
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
    machine.sqlite().execute("UPDATE users SET date_joined = ?1 WHERE username = 'bob'", [i64::MIN + 1]).unwrap();
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
        machine.sqlite().execute("UPDATE users SET password_hash = ''", []).unwrap();
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
    let sqlite = machine.sqlite();
    let spoil = "UPDATE users SET username = 'A min'; UPDATE tokens SET last_used = -9223372036854775807; \
        UPDATE events SET kind = 'odd'; INSERT INTO login_failures VALUES (1, -1, 0); \
        INSERT INTO wants VALUES (1, 7, 9223372036854775807)";
    sqlite.execute_batch(spoil).unwrap();
    let (_, said) = machine.refused("check");
    for part in ["the account A min (id 1), username: ", "the wish list of A min (id 1), added: a time", "; and "] {
        assert!(said.contains(part), "{part} in {said}");
    }
    sqlite.execute_batch("UPDATE users SET username = 'Admin'; DELETE FROM wants; DELETE FROM events").unwrap();
    let (_, said) = machine.refused("check");
    for part in ["a token of Admin (id 1), last_used: a time", "the failed logins of Admin (id 1), failures: "] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn pruning_forgets_what_has_ended_and_says_how_much() {
    let machine = Machine::with_accounts();
    {
        let server = machine.server();
        server.ask(&credentials("/api/login", "bob"));
        server.ask(&credentials("/api/login", "bob"));
    }
    assert_eq!(machine.json("prune"), json!({"sessions": 0, "events": 0}));
    let sqlite = machine.sqlite();
    sqlite.execute("UPDATE tokens SET created = 0 WHERE digest = (SELECT min(digest) FROM tokens)", []).unwrap();
    sqlite.execute("UPDATE events SET at = 0 WHERE id <= 2", []).unwrap();
    assert_eq!(machine.json("prune"), json!({"sessions": 1, "events": 2}));
    assert_eq!(machine.said("prune"), "Deleted 0 tokens that had ended and 0 old events.\n");
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
    fs::write(machine.path().join("odd.toml"), machine.said("config show --database x\u{e0041}\u{202e}.db")).unwrap();
    let read_back = machine.json("config show --config odd.toml");
    assert_eq!(read_back["database"]["path"]["value"], "x\u{e0041}\u{202e}.db", "TOML has an escape of its own for it");

    let mut command = authtokens(machine.path());
    let again = String::from_utf8(run(command.args(["--config", "effective.toml", "config", "show"])).stdout).unwrap();
    let values =
        |text: &str| text.lines().skip(1).map(|line| line.split(" # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&toml));
}

#[test]
fn the_file_that_the_variable_names_goes_before_the_folders_own_and_behind_the_flags() {
    let machine = Machine::new();
    for name in ["config", "variable", "flag"] {
        fs::write(machine.path().join(format!("{name}.toml")), format!("[database]\npath = \"{name}.db\"\n")).unwrap();
    }
    let path = |arguments: &str, variable: &str| {
        let output =
            run(machine.command(&format!("config show --json {arguments}")).env("AUTHTOKENS_CONFIG", variable));
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        (shown["file"].as_str().unwrap().to_owned(), shown["database"]["path"]["value"].as_str().unwrap().to_owned())
    };
    let expected = |name: &str| (format!("{name}.toml"), format!("{name}.db"));
    assert_eq!(path("", ""), expected("config"));
    assert_eq!(path("", "variable.toml"), expected("variable"));
    assert_eq!(path("--config flag.toml", "variable.toml"), expected("flag"));
}

#[test]
fn a_folder_in_which_nobody_can_look_for_a_file_is_named() {
    let machine = Machine::new();
    let locked = machine.path().join("locked");
    fs::create_dir(&locked).unwrap();
    // Root may look everywhere: it becomes somebody else, for whom the program and the way to the folder are open.
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(env!("CARGO_BIN_EXE_authtokens"), machine.path().join("authtokens"))
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_authtokens"), machine.path().join("authtokens")).map(|_| ()))
        .unwrap();
    let script = "if [ \"$(id -u)\" = 0 ]; then drop='setpriv --reuid=65534 --clear-groups'; fi; \
        cd locked && chmod 000 . && exec ${drop-} ../authtokens user list";
    let mut command = program("sh");
    command.args(["-c", script]).current_dir(machine.path()).stdin(Stdio::null());
    let (code, sentence) = refusal(command.env_remove("AUTHTOKENS_CONFIG"));
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(code, 2, "{sentence}");
    let folder = locked.canonicalize().unwrap();
    assert!(
        sentence.starts_with(&format!("cannot look for config.toml in the folder {}: ", folder.display())),
        "{sentence}"
    );
}

/// Has a terminal ask for the password of a new account, and does `then` with its keys and the command's process when
/// it has asked. Gives everything that the terminal showed, with the code and the terminal's modes at the end.
fn at_a_terminal(machine: &Machine, then: impl FnOnce(&mut ChildStdin, &str)) -> Option<String> {
    let inside = format!(
        "trap : INT; sh -c 'echo process=$$.; exec {} user create Admin'; echo code=$?; stty -a",
        env!("CARGO_BIN_EXE_authtokens")
    );
    let mut terminal = program("script");
    terminal.args(["-qec", &inside, "/dev/null"]).current_dir(machine.path());
    // One shell for all: they differ in what Ctrl-C at a command that they wait for does to themselves.
    terminal.env("SHELL", "/bin/sh").env("AUTHTOKENS_CONFIG", "/dev/null");
    let Ok(mut child) = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        left_out("there is no script(1) that gives a terminal");
        return None;
    };
    let mut out = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"New password: ") {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    let until_now = String::from_utf8_lossy(&said).into_owned();
    let process = until_now.split_once("process=").unwrap().1.split_once('.').unwrap().0;
    let mut keys = child.stdin.take().unwrap();
    then(&mut keys, process);
    out.read_to_end(&mut said).unwrap();
    drop(keys);
    child.wait().unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains(" echo ") && said.contains(" icanon ") && said.contains("isig "), "{said}");
    assert!(!said.contains("hun"), "{said}");
    Some(said)
}

#[test]
fn a_password_is_typed_twice_and_never_shown() {
    let machine = Machine::new();
    // Both at once: the second question finds its answer already there.
    for (typed, code) in [("hunter2\nhunter3\n", 1), ("hunter2\nhunter2\n", 0)] {
        let Some(said) = at_a_terminal(&machine, |keys, _| keys.write_all(typed.as_bytes()).unwrap()) else { return };
        assert!(said.contains("The same again: ") && said.contains(&format!("code={code}")), "{said}");
    }
    token_of(&machine.server().ask(&credentials("/api/login", "Admin")));
}

#[test]
fn a_password_that_is_given_up_leaves_a_terminal_that_shows_what_is_typed() {
    // At once: the terminal is silent, and Ctrl-C is heard, before the question is asked.
    let interrupt: fn(&mut ChildStdin, &str) = |keys, _| keys.write_all(b"hun\x03").unwrap();
    let terminate: fn(&mut ChildStdin, &str) =
        |_, process| assert!(Command::new("kill").args(["-TERM", process]).status().unwrap().success());
    for give_up in [interrupt, terminate] {
        let machine = Machine::new();
        let Some(said) = at_a_terminal(&machine, give_up) else { return };
        assert!(
            said.contains("authtokens: it was interrupted, and nothing was done") && said.contains("code=130"),
            "{said}"
        );
        assert!(!machine.path().join("data").exists(), "{said}");
    }
}

#[test]
fn a_backup_whose_terminal_goes_away_stops_and_leaves_nothing_unless_nohup_started_it() {
    let machine = Machine::with_accounts();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) \
        INSERT INTO wants (user_id, item_id, added) SELECT id, i, 0 FROM n, users WHERE username = 'bob'";
    machine.sqlite().execute(many, []).unwrap();
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

/// Every command, as it is given.
const COMMANDS: [&str; 20] = [
    "serve",
    "user create",
    "user list",
    "user show",
    "user set-password",
    "user activate",
    "user deactivate",
    "user promote",
    "user demote",
    "user delete",
    "token list",
    "token revoke",
    "events",
    "backup",
    "restore",
    "check",
    "prune",
    "config show",
    "completions",
    "manual",
];

/// What a command prints at a terminal that is so wide.
fn said_at_a_terminal(machine: &Machine, width: usize, arguments: &str) -> Option<String> {
    let inside = format!("stty cols {width} && {} {arguments}", env!("CARGO_BIN_EXE_authtokens"));
    let mut terminal = program("script");
    terminal.args(["-qec", &inside, "/dev/null"]).current_dir(machine.path()).stdin(Stdio::null());
    terminal.env("SHELL", "/bin/sh").env("AUTHTOKENS_CONFIG", "/dev/null");
    let Ok(output) = terminal.output() else {
        left_out("there is no script(1) that gives a terminal");
        return None;
    };
    let said = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn a_list_fits_the_terminal_and_is_whole_behind_a_pipe() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    token_of(&server.ask(&credentials("/api/login", "bob")));
    let sqlite = machine.sqlite();
    sqlite.execute("UPDATE users SET email = 'bob@mail.example.org'", []).unwrap();
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120 Safari/537.36";
    sqlite
        .execute("UPDATE tokens SET user_agent = ?1, ip = '2001:db8:1111:2222:3333:4444:5555:6666'", [agent])
        .unwrap();
    for (arguments, last) in [("user list", "EMAIL"), ("token list bob", "USER AGENT"), ("events", "DETAIL")] {
        let piped = machine.said(arguments);
        let headings = piped.lines().next().unwrap();
        assert!(headings.ends_with(last), "{piped}");
        for width in [80, 40] {
            let Some(said) = said_at_a_terminal(&machine, width, arguments) else { return };
            for line in said.lines() {
                assert!(line.chars().count() <= width, "{width}: {said}");
            }
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&said)[..words(headings).len()], words(headings), "{said}");
            // Nothing is left out but the end of what is wider than the terminal.
            for word in words(&piped).iter().filter(|word| word.len() < 36 && !agent.contains(*word)) {
                assert!(said.contains(word), "{word} in {said}");
            }
        }
        let Some(said) = said_at_a_terminal(&machine, 300, arguments) else { return };
        assert_eq!(said, piped);
    }
    assert!(machine.said("token list bob").contains(agent));
    let Some(said) = said_at_a_terminal(&machine, 80, "token list bob") else { return };
    assert!(said.contains("Mozilla/5.0") && said.contains('…'), "{said}");
}

#[test]
fn help_fits_the_terminal_and_is_never_wider_than_a_page() {
    let machine = Machine::new();
    let commands = COMMANDS.iter().copied().chain(["", "user", "token", "config"]);
    for command in commands {
        for (columns, width) in [("", 100), ("200", 100), ("80", 80)] {
            let output = run(machine.command(&format!("{command} --help")).env("COLUMNS", columns));
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(help.contains("Usage: authtokens"), "{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= width, "{command}: {line}");
            }
        }
    }
    assert!(
        machine.said("--help").contains("  curl -H 'Content-Type: application/json' \\\n    -d '{"),
        "to be copied"
    );
}

#[test]
fn the_manual_has_the_sections_that_people_look_for() {
    let manual = Machine::new().said("manual");
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "\"EXIT STATUS\"",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
    ] {
        assert_eq!(manual.matches(&format!("\n.SH {section}\n")).count(), 1, "{section}");
    }
    for said in ["AUTHTOKENS_CONFIG", "RUST_LOG", "/etc/authtokens/config.toml", "data/authtokens.db", "\n.B 130\n"] {
        assert!(manual.contains(said), "{said}");
    }
}

#[test]
fn the_start_tells_where_it_listens_and_where_the_calls_are_explained() {
    let machine = Machine::new();
    for listen in [":0", "localhost:0"] {
        let mut server = Server::start(machine.path(), |command| {
            command.args(["serve", "--listen", listen]);
        });
        server.signal("TERM");
        server.wait();
        let said = server.log();
        let address = said.split("listens on ").nth(1).unwrap().split_whitespace().next().unwrap();
        assert!(address.starts_with("http://127.0.0.1:"), "{said}");
        assert!(said.contains(&format!("{address}/docs\n")), "{said}");
    }
    let (code, sentence) = machine.refused("serve --listen example.org:80");
    assert!(code == 2 && sentence.ends_with("no other name is looked up"), "{sentence}");
}

#[test]
fn a_filter_of_the_log_that_means_nothing_is_told_and_silences_nothing() {
    let machine = Machine::new();
    for (filter, is_told, is_logged) in
        [("inof", true, true), ("authtokens::acess=off", true, true), ("", false, true), ("warn", false, false)]
    {
        let mut server = Server::start(machine.path(), |command| {
            command.env("RUST_LOG", filter);
        });
        server.signal("TERM");
        server.wait();
        let said = server.log();
        assert_eq!(
            said.contains(" WARN  authtokens::telemetry::log RUST_LOG is not understood"),
            is_told,
            "{filter}: {said}"
        );
        assert_eq!(said.contains(" INFO  authtokens::server::application stopped"), is_logged, "{filter}: {said}");
    }
}

#[test]
fn whoever_meets_a_limit_on_this_machine_is_told_once_how_to_lift_it() {
    let machine = Machine::new();
    let mut server = Server::start(machine.path(), |command| {
        command.env("AUTHTOKENS__RATE_LIMIT__ENABLED", "true").env("AUTHTOKENS__RATE_LIMIT__REGISTER", "1 per 1h");
    });
    let statuses = ["a", "b", "c"].map(|name| server.ask(&credentials("/api/register", name)).status());
    assert_eq!(statuses, [201, 429, 429]);
    server.signal("TERM");
    server.wait();
    let said = server.log();
    assert_eq!(said.matches("AUTHTOKENS__RATE_LIMIT__ENABLED=false").count(), 1, "{said}");
    assert!(said.contains("[server] trusted_proxies"), "{said}");
}

#[test]
fn every_command_is_helped_and_stands_in_the_manual_and_the_completions() {
    let machine = Machine::new();
    // Neither needs a configuration that is right.
    fs::write(machine.path().join("config.toml"), "nonsense").unwrap();
    let manual = machine.said("manual");
    assert!(manual.contains(".TH authtokens 1"), "{manual}");
    let shells = ["bash", "zsh", "fish"].map(|shell| machine.said(&format!("completions {shell}")));
    for command in COMMANDS {
        let help = machine.said(&format!("{command} --help"));
        assert!(help.contains(&format!("Usage: authtokens {command}")), "{help}");
        assert!(help.lines().next().unwrap().len() > 10, "{help}");
        assert!(manual.contains(&format!(".SS \"authtokens {}\"", command.replace('-', "\\-"))), "{command}");
        for script in &shells {
            assert!(command.split(' ').all(|word| script.contains(word)), "{command}");
        }
    }
    for command in ["create", "set-password"] {
        let help = machine.said(&format!("user {command} --help"));
        let words: Vec<&str> = help.split_whitespace().collect();
        assert!(words.join(" ").contains("first line of standard input"), "{help}");
    }
    assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 1, "asking makes no file");
}
