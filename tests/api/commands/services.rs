//! Services that the operator adds, lists and revokes.

use serde_json::{Value, json};

use super::Machine;
use crate::helpers::{UNKNOWN_TOKEN, post_bytes};
use crate::process::Server;

/// What a service is answered that asks for a token, and with which status.
fn ask(server: &Server, name: &str, key: &str) -> u16 {
    let credentials = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{name}:{key}"));
    let headers = format!("Authorization: Basic {credentials}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let request = post_bytes("/api/introspect", &headers, format!("token={UNKNOWN_TOKEN}"));
    server.ask(&request).status()
}

#[test]
fn a_service_is_added_used_listed_and_revoked_beside_a_running_server() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let added = machine.json("service add wiki");
    let key = added["key"].as_str().unwrap();
    assert_eq!((added["name"].as_str(), key.len()), (Some("wiki"), 40));
    let said = machine.said("service add git.example-2");
    assert!(
        said.starts_with("git.example-2 may ask whose a token is, by this key, which is not shown again:\n"),
        "{said}"
    );
    let other = said.lines().nth(1).unwrap();
    assert_eq!((ask(&server, "wiki", key), ask(&server, "git.example-2", other)), (200, 200));
    assert_eq!((ask(&server, "wiki", other), ask(&server, "git", key)), (401, 401));

    let listed = machine.json("service list");
    let names: Vec<&Value> = listed.as_array().unwrap().iter().map(|service| &service["name"]).collect();
    assert_eq!(names, [&json!("git.example-2"), &json!("wiki")]);
    assert!(machine.said("service list").starts_with("NAME           CREATED"));
    for text in [machine.said("service list"), listed.to_string(), machine.said("events"), server.log()] {
        assert!(!text.contains(key) && !text.contains(other), "a key is shown once: {text}");
    }

    assert_eq!(machine.said("service revoke wiki"), "wiki may ask no more.\n");
    assert_eq!((ask(&server, "wiki", key), ask(&server, "git.example-2", other)), (401, 200));
    let events = machine.json("events --kind service_revoked");
    assert_eq!((&events[0]["actor"], &events[0]["detail"]), (&json!("command line"), &json!("wiki")));
    assert!(!machine.store().contains(key.as_bytes()) && !machine.store().contains(other.as_bytes()));
}

#[test]
fn what_cannot_be_done_with_a_service_is_one_sentence() {
    let machine = Machine::with_accounts();
    machine.said("service add wiki");
    for (arguments, code, sentence) in [
        ("service add wiki", 1, "there is a service named wiki already: revoke it first, or take another name"),
        ("service revoke git", 1, "there is no service named git"),
        (
            "check-proxy ftp://x --upstream 127.0.0.1:0",
            1,
            "the proxy cannot be tried: the address: it is neither https nor http",
        ),
    ] {
        assert_eq!(machine.refused(arguments), (code, sentence.to_owned()), "{arguments}");
    }
    for bad in ["Wiki", "a:b", "-x", &"a".repeat(33)] {
        assert_eq!(machine.command(&format!("service add -- {bad}")).output().unwrap().status.code(), Some(2), "{bad}");
    }
}
