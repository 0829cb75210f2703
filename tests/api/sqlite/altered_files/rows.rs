//! Rows that the service never wrote.

use std::fs;
use std::time::Duration;

use reqwest::Method;
use rusqlite::Connection;

use super::{alter, changes, password};
use crate::helpers::{TestApp, until};
use crate::process::{Server, credentials, failure_of, run};
use crate::sqlite::OLDER_SCHEMAS;
use crate::sqlite::backups::{Stopped, back_up, bytes, check, command, restore, sentence, serves_the_account, stopped};

/// Each change makes a file with rows that are refused for the reason beside it.
async fn are_refused(cases: &[(String, String)]) {
    let Stopped { database, backup, folder: _folder } = stopped().await;
    let whole = bytes(&backup);
    let before = bytes(&database);
    for (statements, reason) in cases {
        fs::write(&backup, &whole).unwrap();
        alter(&backup, statements);
        assert!(changes(&whole, &backup), "{statements}");
        let said = check(&backup).expect_err(statements).to_string();
        assert!(said.contains("backup.db is ") && said.contains(reason), "{reason}: {said}");
        assert_eq!(sentence(restore(&backup, &database)), said);
        assert!(bytes(&database) == before);
    }
    fs::write(&backup, &whole).unwrap();
    restore(&backup, &database).unwrap();
}

#[tokio::test]
async fn a_file_with_rows_that_the_service_cannot_have_written_is_refused_by_the_check_and_the_restore() {
    let user = "the account AzureDiamond (id 1), ";
    let mallory = "INSERT INTO users (username, username_key, password_hash, is_superuser, date_joined, created, modified, \
         last_login) SELECT 'Mallory', 'Mallory', password_hash, 1, created, created, created, created FROM users";
    let hash = |cost: &str| {
        format!(
            "UPDATE users SET password_hash = '$bcrypt-sha256$v=2,t=2b,r={cost}$QexDYaiSw.PMflDlGeyERe$\
             0JhXa2JmpMTbORvBDFxYcs2.SN09JvW'"
        )
    };
    let far = 260_000_000_000_000_i64; // behind the year 9999
    are_refused(&[
        (mallory.to_owned(), "the account Mallory (id 2), username_key: it is not the folded name".to_owned()),
        (hash("31"), format!("{user}password_hash: it is not a hash that this service makes")),
        (hash("04"), format!("{user}password_hash: it is not a hash that this service makes")),
        (hash("17"), format!("{user}password_hash: it is not a hash that this service makes")),
        ("UPDATE users SET email = 'nobody'".to_owned(), format!("{user}email: must be empty or an e-mail address")),
        ("UPDATE users SET zipcode = hex(zeroblob(11))".to_owned(), format!("{user}zipcode: must be at most 20 char")),
        ("UPDATE users SET city = char(27)".to_owned(), format!("{user}city: must not have control characters")),
        (format!("UPDATE users SET modified = {far}"), format!("{user}modified: a time is out of range")),
        (
            "UPDATE users SET last_login = -1".to_owned(),
            format!("{user}last_login: 1969-12-31T23:59:59.999Z is before"),
        ),
        (
            "UPDATE users SET date_joined = 0".to_owned(),
            format!("{user}date_joined: it is not when the account was made"),
        ),
        ("UPDATE users SET is_superuser = 2".to_owned(), format!("{user}is_superuser: it is neither 0 nor 1")),
        ("UPDATE users SET is_active = -1".to_owned(), format!("{user}is_active: it is neither 0 nor 1")),
        ("UPDATE tokens SET digest = x'00'".to_owned(), "a token of AzureDiamond (id 1), digest: ".to_owned()),
        (
            "DELETE FROM events; DELETE FROM tokens; UPDATE users SET id = -4".to_owned(),
            "the account AzureDiamond (id -4), user_id: -4 is out of range".to_owned(),
        ),
        (
            format!("UPDATE tokens SET created = {far}, last_used = {far}"),
            "a token of AzureDiamond (id 1), created: a time is out of range".to_owned(),
        ),
        (
            format!("UPDATE tokens SET last_used = {far}"),
            "a token of AzureDiamond (id 1), last_used: a time is".to_owned(),
        ),
        (
            format!("UPDATE tokens SET reauthenticated = {far}"),
            "a token of AzureDiamond (id 1), reauthenticated: a time is".to_owned(),
        ),
        (
            "UPDATE tokens SET reauthenticated = -1".to_owned(),
            "a token of AzureDiamond (id 1), reauthenticated: 1969-12-31T23:59:59.999Z is before".to_owned(),
        ),
        ("UPDATE tokens SET last_used = created - 1".to_owned(), "last_used: it is before the login".to_owned()),
        (
            "UPDATE tokens SET ip = 'here'".to_owned(),
            "a token of AzureDiamond (id 1), ip: it is not an address".to_owned(),
        ),
        ("UPDATE tokens SET user_agent = char(7)".to_owned(), "user_agent: it is not as it is kept".to_owned()),
        (
            "UPDATE tokens SET user_id = 9".to_owned(),
            "a row of tokens belongs to a row of users that is missing".to_owned(),
        ),
        ("INSERT INTO cellar VALUES (1, 0, 0)".to_owned(), "the cellar of AzureDiamond (id 1), ".to_owned()),
        (
            format!("INSERT INTO wants VALUES (1, 5, {far})"),
            "the wish list of AzureDiamond (id 1), added: a time is".to_owned(),
        ),
        ("INSERT INTO login_failures VALUES (1, 0, 0)".to_owned(), "failures: there are none".to_owned()),
        (format!("INSERT INTO login_failures VALUES (1, 3, {far})"), "last_failed: a time is".to_owned()),
        (format!("UPDATE events SET at = {far}"), "an event of AzureDiamond (id 1), at: a time is".to_owned()),
        ("UPDATE events SET user_id = 7".to_owned(), "user_id: 7 is nobody's number yet".to_owned()),
        ("UPDATE events SET user_id = NULL".to_owned(), "username: it has no account".to_owned()),
        ("UPDATE events SET username = ''".to_owned(), "username: it is not a name".to_owned()),
        ("UPDATE events SET actor = ' nobody'".to_owned(), "actor: it is not a name".to_owned()),
        ("UPDATE events SET detail = 'Come here'".to_owned(), "detail: it is not what an event tells".to_owned()),
        ("UPDATE events SET ip = '010.0.0.1'".to_owned(), "ip: it is not an address".to_owned()),
        (
            format!("UPDATE sqlite_sequence SET seq = {} WHERE name = 'users'", i64::MAX),
            "the sequence of users is out of range".to_owned(),
        ),
        (
            format!("UPDATE sqlite_sequence SET seq = {} WHERE name = 'events'", i64::MAX - 5),
            "the sequence of events is out of range".to_owned(),
        ),
        (
            "UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'users'; DELETE FROM events".to_owned(),
            "the sequence of users is out of range".to_owned(),
        ),
        (
            "DELETE FROM events; DELETE FROM sqlite_sequence".to_owned(),
            "the sequence of users is out of range".to_owned(),
        ),
        (
            "INSERT INTO sqlite_sequence VALUES ('tokens', 1)".to_owned(),
            "there is a sequence of a table that".to_owned(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_file_with_services_or_public_ids_that_the_service_cannot_have_written_is_refused() {
    let statements = [
        (
            "UPDATE users SET public_id = NULL",
            "the account AzureDiamond (id 1), public_id: a public id is out of range",
        ),
        ("UPDATE tokens SET methods = 'face'", "a token of AzureDiamond (id 1), methods: a method is out of range"),
        (
            "INSERT INTO services VALUES ('Wiki', zeroblob(32), 0, NULL)",
            "the service Wiki (id none), username: name must be 1 to 32 characters",
        ),
        (
            "INSERT INTO services VALUES ('wiki', zeroblob(32), 0, -1)",
            "the service wiki (id none), last_used: 1969-12-31T23:59:59.999Z is before",
        ),
    ];
    are_refused(&statements.map(|(statement, told)| (statement.to_owned(), told.to_owned()))).await;
}

#[tokio::test]
async fn a_file_with_addresses_codes_or_mails_that_the_service_cannot_have_written_is_refused() {
    let user = "the account AzureDiamond (id 1), ";
    let code = |but: &str| {
        format!(
            "INSERT INTO one_time_codes VALUES (randomblob(32), 'reset_password', 1, 0, 'a@b.example', 'a@b.example', \
             NULL, '', randomblob(32), randomblob(32), 0, 1000, 601000, 1801000); UPDATE one_time_codes SET {but}"
        )
    };
    let of_code = "a code of AzureDiamond (id 1), ";
    let mail = |but: &str| {
        format!(
            "INSERT INTO outbox VALUES (1, 'password_set', 1, 'AzureDiamond', 'a@b.example', 1, NULL, '', 0, '', '', \
             NULL, 0, 0, 0, 0); UPDATE outbox SET {but}"
        )
    };
    let of_mail = "a mail to AzureDiamond (id 1), ";
    let far = 260_000_000_000_000_i64; // behind the year 9999
    let not_its_key = "email_key: it is not that of the address";
    are_refused(&[
        ("UPDATE users SET email_key = 'a@b.example'".to_owned(), format!("{user}{not_its_key}")),
        (
            "UPDATE users SET email = 'A@b.example', email_key = 'A@b.example'".to_owned(),
            format!("{user}{not_its_key}"),
        ),
        ("UPDATE users SET email_verified = 1".to_owned(), format!("{user}email_verified: there is no address")),
        ("UPDATE users SET email_verified = 2".to_owned(), format!("{user}email_verified: it is neither 0 nor 1")),
        (format!("UPDATE users SET told_of_login = {far}"), format!("{user}told_of_login: a time is out of range")),
        (code("purpose = 'anything'"), format!("{of_code}purpose: a purpose is out of range")),
        (code("email_key = 'A@b.example'"), format!("{of_code}{not_its_key}")),
        (code("email = 'nobody', email_key = 'nobody'"), format!("{of_code}{not_its_key}")),
        (code("link = 'a b'"), format!("{of_code}link: it is not a link")),
        (code("detail = '0123456789abcdef'"), format!("{of_code}detail: it is nothing that can be disowned")),
        (code("purpose = 'not_me', detail = 'x'"), format!("{of_code}detail: it is nothing that can be disowned")),
        (code("token = x'00'"), format!("{of_code}token: ")),
        (code("mac = x'00'"), format!("{of_code}mac: ")),
        (code("token = NULL"), format!("{of_code}mac: there is a code and no link")),
        (code("tries = 5"), format!("{of_code}tries: 5 end it")),
        (code("tries = -1"), format!("{of_code}tries: -1 is out of range")),
        (code("is_familiar = 2"), format!("{of_code}is_familiar: it is neither 0 nor 1")),
        (code("created = -1"), format!("{of_code}created: 1969-12-31T23:59:59.999Z is before")),
        (code("code_expires = 601001"), format!("{of_code}code_expires: it is too late")),
        (code("expires = 1801001"), format!("{of_code}expires: it is too late")),
        (code("user_id = 9"), "a row of one_time_codes belongs to a row of users that is missing".to_owned()),
        (mail("id = -4"), format!("{of_mail}id: -4 is out of range")),
        (mail("kind = 'anything'"), format!("{of_mail}kind: a kind is out of range")),
        (mail("user_id = 7"), "a mail to AzureDiamond (id 7), user_id: 7 is nobody's number yet".to_owned()),
        (mail("username = 'alice'"), "a mail to alice (id 1), username: it is not the name of that".to_owned()),
        (mail("recipient = 'nobody'"), format!("{of_mail}recipient: it is not an address")),
        (mail("is_verified = 0"), format!("{of_mail}is_verified: it is not as its kind says")),
        (mail("request = randomblob(32)"), format!("{of_mail}request: it is not as its kind says")),
        (mail("kind = 'confirm_email', is_verified = 0"), format!("{of_mail}request: it is not as its kind says")),
        (mail("detail = 'x'"), format!("{of_mail}detail: it is not a session's id")),
        (mail("ip = 'here'"), format!("{of_mail}ip: it is not an address")),
        (mail("user_agent = char(7)"), format!("{of_mail}user_agent: it is not as it is kept")),
        (mail("link = char(10)"), format!("{of_mail}link: it is not a link")),
        (mail("attempts = -1"), format!("{of_mail}attempts: -1 is out of range")),
        (mail("claims = -1"), format!("{of_mail}claims: -1 is out of range")),
        (mail(&format!("due = {far}")), format!("{of_mail}due: a time is out of range")),
        (
            format!("{}; UPDATE sqlite_sequence SET seq = -1 WHERE name = 'outbox'", mail("at = 0")),
            "the sequence of outbox is out of range".to_owned(),
        ),
    ])
    .await;
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of rows")]
async fn a_file_with_factors_passkeys_identities_or_challenges_that_the_service_cannot_have_written_is_refused() {
    let of = |table: &str, row: &str| {
        let (table, row) = (table.to_owned(), row.to_owned());
        move |but: &str| format!("INSERT INTO {table} VALUES ({row}); UPDATE {table} SET {but}")
    };
    // What looks sealed: a version, a key's id, a nonce, and a secret with its tag.
    let sealed = "x'01' || zeroblob(8) || zeroblob(12) || zeroblob(36)";
    let sealed = format!("CAST({sealed} AS BLOB)");
    let totp = of("totp", &format!("1, {sealed}, 1000, 2000, 7"));
    let with_code = format!("{}; INSERT INTO recovery_codes VALUES (randomblob(32), 1, 1000)", totp("created = 1000"));
    let code = |but: &str| format!("{with_code}; UPDATE recovery_codes SET {but}");
    let passkey = of(
        "passkeys",
        "x'aa', 1, zeroblob(16), 'cellar.example', 'Laptop', '{}', 1000, NULL), (x'bb', 1, zeroblob(16), \
         'cellar.example', 'Phone', '{}', 1000, 2000",
    );
    let identity =
        of("identities", &format!("'https://id.example', 'somebody', 1, 'example', '', 1000, 1000, {sealed}"));
    let challenge = of("challenges", "randomblob(32), 'second_factor', 1, '', 5, 1000, 301000");
    let revocation = of("revocations", &format!("1, 'example', zeroblob(32), {sealed}, 0, 1000, 0, 2000"));
    let [app, of_code, of_passkey, of_identity, of_challenge] =
        ["the authenticator app", "a recovery code", "a passkey", "an identity", "a challenge"]
            .map(|what| format!("{what} of AzureDiamond (id 1), "));
    let of_nobody = "a challenge of  (id none), ";
    let of_revocation = "a refresh token of example (id none), ";
    let many = |table: &str, row: &str, count: u32| {
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO {table} SELECT {row} FROM n"
        )
    };
    // What it has written is taken.
    for right in [
        totp("created = 1000"),
        with_code.clone(),
        passkey("user_handle = randomblob(16)"),
        identity("email = 'azure@diamond.example'"),
        identity("refresh_token = NULL"),
        challenge("tries = 5"),
        challenge("purpose = 'used_id_token', user_id = NULL, tries = 0, expires = 9000000"),
        revocation("attempts = 3"),
    ] {
        let Stopped { backup, folder: _folder, .. } = stopped().await;
        alter(&backup, &right);
        check(&backup).unwrap_or_else(|error| panic!("{right}: {error}"));
    }
    are_refused(&[
        (totp("secret = x'01'"), format!("{app}secret: it is not sealed")),
        (totp("secret = zeroblob(57)"), format!("{app}secret: it is not sealed")),
        (totp("created = -1"), format!("{app}created: 1969-12-31T23:59:59.999Z is before")),
        (totp("confirmed = -1"), format!("{app}confirmed: 1969-12-31T23:59:59.999Z is before")),
        (totp("last_step = -1"), format!("{app}last_step: -1 is out of range")),
        (totp("confirmed = NULL"), format!("{app}last_step: no code was accepted yet")),
        (totp("user_id = 9"), "a row of totp belongs to a row of users that is missing".to_owned()),
        (code("digest = x'00'"), format!("{of_code}digest: ")),
        (code("created = -1"), format!("{of_code}created: 1969-12-31T23:59:59.999Z is before")),
        (
            format!("{with_code}; UPDATE totp SET confirmed = NULL, last_step = 0"),
            format!("{of_code}digest: there is no authenticator app that it stands for"),
        ),
        (
            format!("{with_code}; {}", many("recovery_codes", "randomblob(32), 1, 1000", 10)),
            format!("{of_code}codes: there are 11, and 10 at most under any setting"),
        ),
        (passkey("credential_id = x'' WHERE name = 'Phone'"), format!("{of_passkey}credential_id: it is empty")),
        (passkey("user_handle = x'00'"), format!("{of_passkey}user_handle: ")),
        (passkey("rp_id = ''"), format!("{of_passkey}rp_id: it is empty")),
        (passkey("name = ''"), format!("{of_passkey}name: it is not a name")),
        (passkey("name = ' Laptop'"), format!("{of_passkey}name: it is not a name")),
        (passkey("name = char(7)"), format!("{of_passkey}name: it is not a name")),
        (passkey("credential = '{'"), format!("{of_passkey}credential: it is not JSON")),
        (passkey("last_used = -1"), format!("{of_passkey}last_used: 1969-12-31T23:59:59.999Z is before")),
        (
            many("passkeys", "randomblob(16), 1, zeroblob(16), 'a.example', 'Phone', '{}', 1000, NULL", 21),
            format!("{of_passkey}passkeys: there are 21, and 20 at most under any setting"),
        ),
        (identity("issuer = ''"), format!("{of_identity}issuer: it is empty")),
        (identity("subject = ''"), format!("{of_identity}subject: it is empty")),
        (identity("provider = ''"), format!("{of_identity}provider: it is empty")),
        (identity("last_used = -1"), format!("{of_identity}last_used: 1969-12-31T23:59:59.999Z is before")),
        (identity("refresh_token = x''"), format!("{of_identity}refresh_token: it is not sealed")),
        (
            many("identities", "'https://id.example', i, 1, 'example', '', 1000, 1000, NULL", 21),
            format!("{of_identity}identities: there are 21, and 20 at most under any setting"),
        ),
        (challenge("digest = x'00'"), format!("{of_challenge}digest: ")),
        (challenge("purpose = 'anything'"), format!("{of_challenge}purpose: a purpose is out of range")),
        (challenge("user_id = NULL"), format!("{of_nobody}user_id: it is not as its purpose says")),
        (challenge("purpose = 'use_passkey'"), format!("{of_challenge}user_id: it is not as its purpose says")),
        (challenge("state = '{'"), format!("{of_challenge}state: it is not JSON")),
        (challenge("tries = 6"), format!("{of_challenge}tries: there are 6, and 5 at most")),
        (challenge("tries = -1"), format!("{of_challenge}tries: -1 is out of range")),
        (challenge("purpose = 'add_passkey'"), format!("{of_challenge}tries: there are 5, and 0 at most")),
        (challenge("expires = 301001"), format!("{of_challenge}expires: it is too late")),
        (revocation("id = -4"), format!("{of_revocation}id: -4 is out of range")),
        (revocation("provider = ''"), "a refresh token of  (id none), username: it is empty".to_owned()),
        (revocation("binding = x'00'"), format!("{of_revocation}binding: ")),
        (revocation("token = x'00'"), format!("{of_revocation}token: it is not sealed")),
        (revocation("attempts = -1"), format!("{of_revocation}attempts: -1 is out of range")),
        (revocation("claims = -1"), format!("{of_revocation}claims: -1 is out of range")),
        (revocation("due = -1"), format!("{of_revocation}due: 1969-12-31T23:59:59.999Z is before")),
        (
            format!("{}; UPDATE sqlite_sequence SET seq = -1 WHERE name = 'revocations'", revocation("due = 0")),
            "the sequence of revocations is out of range".to_owned(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_file_with_more_than_any_setting_allows_or_with_what_is_told_of_another_account_is_refused() {
    let user = "the account AzureDiamond (id 1), ";
    let many = |list, count| {
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO {list} SELECT 1, i, 0 FROM n"
        )
    };
    are_refused(&[
        (many("cellar", 100_001), format!("{user}cellar: there are 100001, and 100000 at most under any setting")),
        (many("wants", 100_001), format!("{user}wants: there are 100001, and 100000 at most under any setting")),
        (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO tokens \
             SELECT randomblob(32), user_id, created, last_used, user_agent, ip, NULL, NULL, NULL, NULL FROM n, tokens"
                .to_owned(),
            format!("{user}tokens: there are 10001, and 10000 at most under any setting"),
        ),
        ("UPDATE events SET username = 'alice'".to_owned(), "username: it is not the name of that account".to_owned()),
    ])
    .await;
}

#[tokio::test]
async fn what_the_service_wrote_while_its_clock_was_ahead_is_checked_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::spawn();
    app.clock.set(app.clock.now().plus(Duration::from_secs(3 * 86_400)));
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(app.ask(Method::PUT, "/api/user/cellar/42", &token, None).await.status(), 200);
    assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401);
    until("the failure is stored", || app.count("login_failures") == 1).await;
    let backup = folder.path().join("backup.db");
    back_up(&app.database, &backup).unwrap();
    // By the clock of the rules, which is right.
    check(&app.database).unwrap();
    check(&backup).unwrap();
    restore(&backup, &folder.path().join("data/authtokens.db")).unwrap();
    serves_the_account(&folder.path().join("data/authtokens.db")).await;
    alter(&backup, "UPDATE users SET created = 250000000000000, date_joined = 250000000000000");
    check(&backup).unwrap();
    alter(&backup, "UPDATE users SET created = 260000000000000, date_joined = 260000000000000");
    assert!(sentence(check(&backup)).ends_with("created: a time is out of range"), "no clock has a year 10000");
}

#[tokio::test]
async fn a_superuser_that_cannot_be_found_by_its_own_name_keeps_the_server_from_starting() {
    let Stopped { folder, backup, database } = stopped().await;
    fs::copy(&backup, &database).unwrap();
    for (statements, reason) in [
        ("UPDATE users SET is_superuser = 1, username_key = 'zz'", "username_key: it is not the folded name"),
        ("UPDATE users SET username_key = 'azurediamond', is_active = 2", "is_active: it is neither 0 nor 1"),
    ] {
        alter(&database, statements);
        let before = bytes(&database);
        let said = failure_of(&mut command(folder.path(), "serve --listen 127.0.0.1:0 --database data/authtokens.db"));
        let finding = format!("the account AzureDiamond (id 1), {reason}");
        let expected = format!("data/authtokens.db holds what the service never wrote: {finding}: restore a backup");
        assert_eq!(said, (1, expected));
        assert!(bytes(&database) == before);
    }
    // What a command can repair does not keep the server from starting.
    alter(&database, "UPDATE users SET is_active = 1, password_hash = 'none'");
    let server = Server::start(folder.path(), |command| {
        command.args(["--database", "data/authtokens.db"]);
    });
    drop(server);
}

#[tokio::test]
async fn an_account_whose_hash_has_a_cost_that_is_not_used_any_more_is_mended_as_the_log_and_the_check_say() {
    let Stopped { folder, backup, database } = stopped().await;
    fs::copy(&backup, &database).unwrap();
    alter(&database, "UPDATE users SET password_hash = replace(password_hash, 'r=4$', 'r=17$')");
    let said = sentence(check(&database));
    assert!(said.ends_with("password_hash: it is not a hash that this service makes; `user set-password` sets one"));
    let file = "--database data/authtokens.db";
    let server = Server::start(folder.path(), |command| {
        command.args(file.split(' '));
    });
    let log_in = || server.ask(&credentials("/api/login", "AzureDiamond")).status();
    assert_eq!(log_in(), 500);
    let told = "of the account with id 1 is malformed, or of a cost that is not used any more: `user set-password`";
    until("the log tells what to do", || server.log().contains(told)).await;
    run(command(folder.path(), &format!("user set-password AzureDiamond {file}")).stdin(password()));
    assert_eq!(log_in(), 200);
    check(&database).unwrap();
}

#[tokio::test]
async fn nobody_logs_in_under_a_name_that_is_not_the_accounts() {
    let app = TestApp::spawn();
    app.new_user("carol").await;
    app.new_user("other").await;
    alter(&app.database, "UPDATE users SET username_key = 'zz' WHERE username = 'carol'");
    assert_eq!(app.log_in("zz", "hunter2").await.status(), 500);
    assert_eq!(app.log_in("carol", "hunter2").await.status(), 401);
    assert_eq!(app.log_in("other", "hunter2").await.status(), 200);
}

#[tokio::test]
async fn an_older_files_rows_are_held_against_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.db");
    let first = Connection::open(&old).unwrap();
    first.execute_batch(OLDER_SCHEMAS[0]).unwrap();
    first.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1").unwrap();
    first
        .execute_batch(
            "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             VALUES ('Mallory', 'Mallory', '$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$\
             0JhXa2JmpMTbORvBDFxYcs2.SN09JvW', 0, 0, 0, 0)",
        )
        .unwrap();
    drop(first);
    let said = sentence(restore(&old, &folder.path().join("data/authtokens.db")));
    assert!(said.ends_with("the account Mallory (id 1), username_key: it is not the folded name"), "{said}");
    alter(&old, "UPDATE users SET username_key = 'mallory'");
    check(&old).unwrap();
    alter(&old, "CREATE TRIGGER promote AFTER UPDATE ON users BEGIN DELETE FROM tokens; END");
    let said = failure_of(&mut command(folder.path(), "serve --listen 127.0.0.1:0 --database old.db"));
    assert_eq!(
        said.1, "cannot use old.db: its schema is not that of version 1: the trigger promote is not part of it",
        "an upgrade carries nothing along"
    );
}
