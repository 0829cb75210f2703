//! How a server starts on a file.

use std::fs;

use crate::process::{Server, authtokens, failure_of};

#[test]
fn without_a_setting_the_data_is_kept_in_data() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    let said = server.log();
    assert!(said.contains("keeps its data in data/authtokens.db"), "{said}");
    assert!(folder.path().join("data/authtokens.db").is_file());
}

#[test]
fn serve_is_the_default_command_and_takes_the_same_flags() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        let listen = ["serve", "--listen", "127.0.0.1:0", "--database", "elsewhere.db"];
        let mut other = authtokens(folder.path());
        other.args(listen).env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4");
        other.stderr(fs::File::create(folder.path().join("stderr.log")).unwrap());
        *command = other;
    });
    assert_eq!(server.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    assert!(folder.path().join("elsewhere.db").is_file());
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for path in ["file/below/authtokens.db", "/proc/authtokens.db", "/proc/new/authtokens.db"] {
        let (code, sentence) =
            failure_of(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", path]));
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.starts_with("cannot "), "{sentence}");
    }
    let (code, sentence) = failure_of(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "."]));
    assert_eq!((code, sentence.as_str()), (2, "flag --database: database.path must be the path of a file"));
}
