//! What the program says of its configuration: errors and warnings.

use std::fs;

use crate::process::{Server, authtokens, failure_of, run};

#[test]
fn what_is_unwise_is_told_in_the_log_at_the_start_and_by_config_show_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.toml"), "[password]\nbcrypt_cost = 5\n").unwrap();
    let sentence = "password.bcrypt_cost is 5: whoever steals the database tries passwords fast; give it at least 10";

    let shown = run(authtokens(folder.path()).args(["config", "show"]));
    assert!(shown.status.success());
    assert_eq!(String::from_utf8(shown.stderr).unwrap(), format!("authtokens: warning: {sentence}\n"));
    assert!(!String::from_utf8(shown.stdout).unwrap().contains("warning"));
    let shown = run(authtokens(folder.path()).args(["config", "show", "--json"]));
    assert_eq!(String::from_utf8(shown.stderr).unwrap(), format!("authtokens: warning: {sentence}\n"));

    let mut server = Server::start(folder.path(), |command| {
        command.env_remove("AUTHTOKENS__PASSWORD__BCRYPT_COST");
    });
    server.signal("TERM");
    assert!(server.wait().success());
    let log = server.log();
    let told = |sentence: &str| log.lines().any(|line| line.contains(" WARN ") && line.ends_with(sentence));
    assert!(told(sentence), "{log}");
    assert!(log.contains(" rate_limit.enabled is false: "), "{log}");

    let defaults = run(authtokens(tempfile::tempdir().unwrap().path()).args(["config", "show"]));
    assert!(defaults.status.success() && defaults.stderr.is_empty());
}

#[test]
fn a_mistyped_setting_is_told_the_one_that_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "[server]\nwokers = 2\n").unwrap();
    let (code, sentence) = failure_of(&mut authtokens(folder.path()));
    assert_eq!(code, 2);
    let expected = "config.toml line 2: there is no setting server.wokers; did you mean server.workers? [server] has ";
    assert!(sentence.starts_with(expected), "{sentence}");

    fs::write(&file, "[server]\nbcrypt_cost = 12\n").unwrap();
    let (_, sentence) = failure_of(&mut authtokens(folder.path()));
    assert!(sentence.contains("server.bcrypt_cost; did you mean password.bcrypt_cost? [server] has "), "{sentence}");

    fs::write(&file, "").unwrap();
    let variable = "AUTHTOKENS__PASWORD__BCRYPT_COST";
    let (code, sentence) = failure_of(authtokens(folder.path()).env(variable, "12"));
    assert_eq!(code, 2);
    let expected = format!(
        "environment variable {variable}: there is no setting pasword.bcrypt_cost; did you mean \
         AUTHTOKENS__PASSWORD__BCRYPT_COST? The sections are server, "
    );
    assert!(sentence.starts_with(&expected), "{sentence}");
}
