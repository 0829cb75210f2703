//! `user send-reset`, `user verify-email`, and what `user show` tells of an address.

use std::fs;

use serde_json::json;

use super::{Machine, log_in};
use crate::helpers::{JSON, post_bytes};
use crate::mail::smtp_server::{Behaviour, Received, SmtpServer, Stage};
use crate::process::Server;

const AZURE: &str = "azure@diamond.example";

/// A running server that sends mail, and an account with an address that is not verified.
async fn with_an_account(smtp: &SmtpServer) -> (Machine, Server) {
    let machine = Machine::new();
    fs::write(machine.path().join("config.toml"), smtp.config_file()).unwrap();
    let server = machine.server();
    let body = json!({"username": "AzureDiamond", "password": "hunter2", "email": AZURE});
    assert_eq!(post(&server, "/api/register", &body), 201);
    smtp.next().await;
    (machine, server)
}

fn post(server: &Server, path: &str, body: &serde_json::Value) -> u16 {
    server.ask(&post_bytes(path, JSON, body.to_string())).status()
}

#[tokio::test]
async fn the_operator_mails_a_link_that_sets_a_new_password_and_sees_nothing_of_it() {
    let smtp = SmtpServer::start(Behaviour::default());
    let (machine, server) = with_an_account(&smtp).await;
    let said = machine.said("user send-reset azurediamond");
    assert_eq!(said, "A link that sets a new password was sent to a***@diamond.example.\n");
    let mail: Received = smtp.next().await;
    assert_eq!(mail.to, AZURE);
    assert!(!mail.text().contains("code") && !mail.text().contains("AzureDiamond"), "{}", mail.text());
    let body = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_eq!((post(&server, "/api/password/reset", &body), post(&server, "/api/password/reset", &body)), (200, 400));
    assert_eq!(log_in(&server, "AzureDiamond", "correct horse").0, 200);
    assert_eq!(machine.json("user send-reset AzureDiamond")["to"], "a***@diamond.example");
}

#[tokio::test]
async fn what_keeps_a_reset_from_being_mailed_is_told_in_a_sentence() {
    let smtp = SmtpServer::start(Behaviour::default());
    let (machine, server) = with_an_account(&smtp).await;
    assert_eq!(post(&server, "/api/register", &json!({"username": "nomail", "password": "hunter2"})), 201);
    let nobody = machine.refused("user send-reset nobody");
    assert_eq!(nobody, (1, "there is no account named nobody".to_owned()));
    let no_address = (1, "nomail has no address that mail can be sent to".to_owned());
    assert_eq!(machine.refused("user send-reset nomail"), no_address);
    assert_eq!(machine.refused("user verify-email nomail"), no_address);
    smtp.behave(Behaviour::default().replying(Stage::Rcpt, "550 5.1.1 <{to}> no"));
    let (code, told) = machine.refused("user send-reset AzureDiamond");
    assert!(code == 1 && told.contains("refuses the recipient") && !told.contains(AZURE), "{told}");
    let off = Machine::with_accounts().refused("user send-reset bob");
    assert_eq!(off, (2, "mail.transport is \"off\": no mail is sent".to_owned()));
}

#[tokio::test]
async fn the_operator_counts_an_address_as_verified_and_sees_which_is() {
    let smtp = SmtpServer::start(Behaviour::default());
    let (machine, server) = with_an_account(&smtp).await;
    assert!(machine.said("user show AzureDiamond").contains("azure@diamond.example (not verified)"));
    let said = machine.said("user verify-email azurediamond");
    assert_eq!(said, "azure@diamond.example counts as the verified address of AzureDiamond.\n");
    assert!(machine.said("user show AzureDiamond").contains("azure@diamond.example (verified)"));
    assert_eq!(machine.json("user show AzureDiamond")["email_verified"], true);
    assert_eq!(log_in(&server, AZURE, "hunter2").0, 200, "the server knows");

    let second = json!({"username": "second", "password": "hunter2", "email": AZURE});
    assert_eq!(post(&server, "/api/register", &second), 201);
    let taken = machine.refused("user verify-email second");
    assert_eq!(taken, (1, "another account has verified the address of second".to_owned()));
}
