//! How the server starts, and what keeps it from starting.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use super::{Server, authtokens, contents, failure_of, run, store_in};

#[test]
fn without_arguments_or_files_it_serves_on_127_0_0_1_8000_and_tells_where() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(authtokens(folder.path()).arg("--help"));
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in ["serve", "--config", "--listen", "--database", "config.toml", "AUTHTOKENS__", "curl", "Exit codes"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let config = authtokens::config::Config::from_settings(authtokens::config::Settings::default()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8000");

    let version = run(authtokens(folder.path()).arg("--version"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("authtokens {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(contents(folder.path()), [], "asking changes nothing");

    let server = Server::start(folder.path(), |_| {});
    let said = server.log();
    assert!(said.contains(&format!("listens on http://{}", server.address)), "{said}");
    assert!(said.contains("curl "), "{said}");
    assert!(store_in(folder.path()).exists());
}

#[test]
fn what_is_wrong_in_the_configuration_is_one_sentence_that_names_its_source_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let refused = |configure: &dyn Fn(&mut Command)| {
        let mut command = authtokens(folder.path());
        configure(&mut command);
        let (code, sentence) = failure_of(&mut command);
        assert_eq!(code, 2, "{sentence}");
        sentence
    };
    fs::write(&file, "[server]\nlisten = \"127.0.0.1:0\"\n\n[password]\nbcrypt_cots = 12\n").unwrap();
    let sentence = refused(&|_| {});
    assert!(sentence.starts_with("config.toml line 5: there is no setting password.bcrypt_cots"), "{sentence}");

    fs::write(&file, "[server]\nworkers = true\n").unwrap();
    assert!(refused(&|_| {}).starts_with("config.toml line 2: server.workers must be "));

    fs::write(&file, "[server\n").unwrap();
    assert!(refused(&|_| {}).starts_with("config.toml line 1: "));

    fs::write(&file, "").unwrap();
    let variable = "AUTHTOKENS__PASSWORD__BCRYPT_COST";
    let sentence = refused(&|command| {
        command.env(variable, "99");
    });
    assert_eq!(
        sentence,
        format!("environment variable {variable}: password.bcrypt_cost must be a whole number from 4 to 16")
    );

    let sentence = refused(&|command| {
        command.env("AUTHTOKENS_SERVER__LISTEN", "127.0.0.1:0");
    });
    assert!(sentence.starts_with("environment variable AUTHTOKENS_SERVER__LISTEN: "), "{sentence}");

    let sentence = refused(&|command| {
        command.env("AUTHTOKENS_CONFIG", "elsewhere.toml");
    });
    assert!(sentence.starts_with("cannot read elsewhere.toml: "), "{sentence}");

    let sentence = refused(&|command| {
        command.args(["--listen", "8000"]);
    });
    let expected = "flag --listen: server.listen must be an address and a port such as \"127.0.0.1:8000\"";
    assert!(sentence.starts_with(expected), "{sentence}");

    let sentence = refused(&|command| {
        command.args(["--config", "missing.toml"]);
    });
    assert!(sentence.starts_with("cannot read missing.toml: "), "{sentence}");
    assert_eq!(run(authtokens(folder.path()).arg("--no-such-flag")).status.code(), Some(2));
    assert!(!store_in(folder.path()).exists(), "nothing is touched");
}

#[test]
fn a_port_in_use_is_one_sentence_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, sentence) = failure_of(authtokens(folder.path()).args(["--listen", &address]));
    assert_eq!(code, 1);
    assert!(sentence.starts_with(&format!("cannot listen on {address}: ")), "{sentence}");
    assert!(!store_in(folder.path()).exists());
}
