//! What is printed, for people and for programs.

use std::process::Stdio;

use super::{Machine, names, said_at_a_terminal};
use crate::process::{credentials, token_of};
use crate::store::StoredAccount;

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
    let mut shown = machine.json("user show BOB");
    assert_eq!(shown.as_object_mut().unwrap().remove("security").unwrap()["has_password"], true);
    assert_eq!(shown, machine.json("user list --staff")[0]);
    assert_eq!(shown.as_object().unwrap().len(), 18);
    assert!(machine.said("user show bob").contains("\nis_staff      yes\n"));
}

#[test]
fn a_list_has_every_account_however_many_there_are_and_minds_a_reader_that_leaves() {
    let machine = Machine::with_accounts();
    let others: Vec<_> = (1..=1700).map(|number| StoredAccount::named(format!("u{number:05}"))).collect();
    machine.store().add_accounts(&others);
    let users = machine.json("user list");
    let listed = names(&users);
    assert_eq!(listed.len(), 1702);
    assert!(listed.windows(2).all(|pair| pair[0].to_lowercase() < pair[1].to_lowercase()));
    assert_eq!(machine.said("user list").lines().count(), 1703);
    assert_eq!(machine.json("user list --limit 501").as_array().unwrap().len(), 501);

    for arguments in ["user list", "user list --json", "events", "manual", "config show", "completions bash"] {
        let mut command = machine.command(arguments);
        // `config show` warns about the low cost that the tests use.
        command.env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "12").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]), "{arguments}");
    }
}

#[test]
fn nothing_that_is_printed_holds_a_secret_or_a_control_character() {
    let machine = Machine::with_accounts();
    {
        let server = machine.server();
        server.ask(&credentials("/api/login", "bob"));
    }
    let store = machine.store();
    let nasty = "x\u{1b}[2J\u{9b}31m\r\n\u{202e}\u{3164}\u{e0041}y";
    store.change_accounts(&|account| {
        for text in [&mut account.email, &mut account.first_name, &mut account.city] {
            nasty.clone_into(text);
        }
    });
    store.change_sessions(&|session| nasty.clone_into(&mut session.user_agent));
    store.change_events(&|event| {
        for text in [&mut event.detail, &mut event.actor] {
            nasty.clone_into(text);
        }
    });
    let digest = store.sessions().remove(0).digest;
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
fn a_list_fits_the_terminal_and_is_whole_behind_a_pipe() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    token_of(&server.ask(&credentials("/api/login", "bob")));
    let store = machine.store();
    store.change_accounts(&|account| "bob@mail.example.org".clone_into(&mut account.email));
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120 Safari/537.36";
    store.change_sessions(&|session| {
        agent.clone_into(&mut session.user_agent);
        "2001:db8:1111:2222:3333:4444:5555:6666".clone_into(&mut session.ip);
    });
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
