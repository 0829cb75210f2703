//! `config show`: what the configuration says, and where each value comes from.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::Machine;
use crate::process::{authtokens, failure_of, program, run};

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
    // Root may read every folder, so the command runs as another user, who can reach the program and the folder.
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::hard_link(env!("CARGO_BIN_EXE_authtokens"), machine.path().join("authtokens"))
        .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_authtokens"), machine.path().join("authtokens")).map(|_| ()))
        .unwrap();
    let script = "if [ \"$(id -u)\" = 0 ]; then drop='setpriv --reuid=65534 --clear-groups'; fi; \
        cd locked && chmod 000 . && exec ${drop-} ../authtokens user list";
    let mut command = program("sh");
    command.args(["-c", script]).current_dir(machine.path()).stdin(Stdio::null());
    let (code, sentence) = failure_of(command.env_remove("AUTHTOKENS_CONFIG"));
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(code, 2, "{sentence}");
    let folder = locked.canonicalize().unwrap();
    assert!(
        sentence.starts_with(&format!("cannot look for config.toml in the folder {}: ", folder.display())),
        "{sentence}"
    );
}
