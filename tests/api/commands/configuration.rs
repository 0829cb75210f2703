//! `config show`: what the configuration says, and where each value comes from.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use super::Machine;
use crate::process::{failure_of, program, run};

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
