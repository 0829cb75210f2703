//! `mail test`, `mail preview`, `config check`.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::Machine;
use crate::helpers::left_out;
use crate::mail::smtp_server::{Behaviour, Certificate, PASSWORD, SmtpServer, Stage, closed_port};
use crate::process::{authtokens, failure_of, program, run};

/// A machine whose mail goes to this server.
fn machine_with(server: &SmtpServer) -> Machine {
    let machine = Machine::new();
    let file = machine.path().join("config.toml");
    fs::write(&file, server.config_file()).unwrap();
    // It holds a password.
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    machine
}

#[test]
fn a_test_mail_goes_the_way_that_is_configured() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let said = machine.said("mail test bob@diamond.example");
    assert_eq!(said, "The mail to bob@diamond.example was sent. It may take a minute to arrive.\n");
    assert_eq!(machine.json("mail test bob@diamond.example")["sent_to"], "bob@diamond.example");
    let received = server.messages();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].subject(), "A test mail from Diamonds");
    assert!(received[0].is_encrypted && received[0].to == "bob@diamond.example");
    assert!(!machine.store().exists(), "no database is made for it");
}

#[test]
fn what_keeps_a_test_mail_from_arriving_is_told_in_a_sentence() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let refused = |behaviour: Behaviour| {
        server.behave(behaviour);
        let (code, sentence) = machine.refused("mail test bob.secret@diamond.example");
        assert_eq!(code, 1, "{sentence}");
        assert!(!sentence.contains("bob.secret") && !sentence.contains(PASSWORD), "{sentence}");
        sentence
    };
    let certificate = |certificate| Behaviour { certificate, ..Behaviour::default() };
    for (behaviour, sentence) in [
        (certificate(Certificate::OtherName), "is for another name than localhost"),
        (certificate(Certificate::OtherAuthority), "is by an authority that is not trusted; "),
        (
            Behaviour::default().replying(Stage::Auth, "535 5.7.8 no"),
            "refuses the user and the password of mail.smtp: 535 ",
        ),
        (Behaviour::default().replying(Stage::Rcpt, "550 5.1.1 <{to}> no"), "refuses the recipient: 550 5.1.1 *** no"),
    ] {
        let told = refused(behaviour);
        assert!(told.contains(sentence), "{told}");
    }
    for (name, value, sentence) in [
        ("AUTHTOKENS__MAIL__SMTP__PORT", closed_port().to_string().as_str(), "is not reached: "),
        ("AUTHTOKENS__MAIL__SMTP__HOST", "no-such-host.invalid", "no-such-host.invalid is not found: "),
    ] {
        let mut command = machine.command("mail test bob@diamond.example");
        let (code, told) = failure_of(command.env(name, value));
        assert!(code == 1 && told.contains(sentence), "{told}");
    }
    let (code, told) = Machine::new().refused("mail test bob@diamond.example");
    assert_eq!((code, told.as_str()), (2, "mail.transport is \"off\": no mail is sent"));
    let mut command = authtokens(machine.path());
    let output = run(command.args(["mail", "test", "bob@diamond.example\r\nRCPT TO:<evil@example.org>"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("must be one e-mail address"));
}

#[test]
fn each_mail_is_shown_with_values_of_nobodys_whether_mail_is_sent_or_not() {
    let machine = Machine::new();
    let all = machine.said("mail preview");
    let names: Vec<_> = all.lines().filter_map(|line| line.strip_prefix("=== ")).collect();
    assert_eq!(names.len(), 23);
    assert_eq!((names[0], names[22]), ("confirm_email", "test"));
    let one = machine.said("mail preview reset_password");
    assert!(one.starts_with("Subject: Your new password for Diamonds\n\nHello AzureDiamond,\n"), "{one}");
    assert!(one.contains("123 456") && one.contains("https://diamond.example/account/reset#"), "{one}");
    let html = machine.said("mail preview reset_password --html");
    assert!(html.starts_with("<!DOCTYPE html>\n") && html.contains("123 456"), "{html}");
    let json = machine.json("mail preview sign_in");
    assert_eq!(json["sign_in"]["subject"], "Log in to Diamonds");
    let output = run(&mut machine.command("mail preview nothing"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("unfamiliar_sign_in"), "it lists what there is");
}

#[test]
fn templates_and_names_of_ones_own_are_shown_in_the_preview() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let templates = machine.path().join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("test.txt"), "Subject: Probe von {{ service_name }}\n\nGuten Tag.\n").unwrap();
    let preview = || {
        let mut command = machine.command("mail preview test");
        command.env("AUTHTOKENS__MAIL__TEMPLATES", &templates).env("AUTHTOKENS__MAIL__FROM", "noreply@exämple.de");
        command
    };
    let said = String::from_utf8(run(&mut preview()).stdout).unwrap();
    assert_eq!(said, "Subject: Probe von exämple.de\n\nGuten Tag.\n");
    fs::write(templates.join("test.txt"), "Subject: {{ name }}\n").unwrap();
    let (code, told) = failure_of(&mut preview());
    assert_eq!((code, told.as_str()), (2, "the mail template test.txt line 1: undefined value"));
}

#[test]
fn a_template_that_is_wrong_stops_the_start_as_a_wrong_configuration() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    fs::write(machine.path().join("sign_in.txt"), "Subject: x\n\n{{ code }}\n").unwrap();
    for arguments in ["serve --listen 127.0.0.1:0", "config check --unit /dev/null"] {
        let mut command = machine.command(arguments);
        let (code, told) = failure_of(command.env("AUTHTOKENS__MAIL__TEMPLATES", machine.path()));
        assert_eq!(
            (code, told.as_str()),
            (2, "the mail template sign_in.txt does not show the link: it needs {{ link }}")
        );
    }
    assert!(!machine.store().exists(), "nothing was touched");
}

#[test]
fn a_template_of_a_page_that_is_wrong_does_the_same() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    fs::create_dir(machine.path().join("pages")).unwrap();
    fs::write(machine.path().join("pages").join("reset.html"), "{{ servce }}\n").unwrap();
    for arguments in ["serve --listen 127.0.0.1:0", "config check --unit /dev/null"] {
        let mut command = machine.command(arguments);
        let (code, told) = failure_of(command.env("AUTHTOKENS__MAIL__TEMPLATES", machine.path()));
        assert_eq!((code, told.as_str()), (2, "the template reset.html is broken: line 1, undefined value"));
    }
    assert!(!machine.store().exists(), "nothing was touched");
}

#[test]
fn the_configuration_is_checked_together_with_the_unit_and_its_drop_ins() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let unit = machine.path().join("authtokens.service");
    let shipped = |name: &str| fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    fs::write(&unit, shipped("authtokens.service")).unwrap();
    let check = |host: &str| {
        let mut command = machine.command("config check --unit authtokens.service");
        command.env("AUTHTOKENS__MAIL__SMTP__HOST", host);
        // Its folder is below /tmp, which the unit's PrivateTmp would hide.
        let ca = fs::read(server.ca_file()).unwrap();
        fs::write(machine.path().join("ca.pem"), ca).unwrap();
        command.env("AUTHTOKENS__MAIL__SMTP__CA_FILE", "ca.pem");
        command.env("AUTHTOKENS__DATABASE__PATH", "/var/lib/authtokens/authtokens.db");
        command
    };
    let (code, told) = failure_of(&mut check("192.0.2.25"));
    assert_eq!(code, 2);
    assert_eq!(
        told,
        "the unit authtokens.service does not let the service do what the configuration asks for: the mail server \
         192.0.2.25 is at 192.0.2.25, which IPAddressDeny denies; allow it with IPAddressAllow, as the drop-in \
         deploy/mail.conf does"
    );
    let output = run(&mut check("127.0.0.1"));
    assert!(output.status.success(), "{output:?}");
    fs::create_dir(machine.path().join("authtokens.service.d")).unwrap();
    fs::write(machine.path().join("authtokens.service.d/mail.conf"), shipped("mail.conf")).unwrap();
    let output = run(&mut check("192.0.2.25"));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "The configuration (config.toml) is right.\nThe unit authtokens.service lets the service do what it asks for.\n"
    );
    let mut command = check("192.0.2.25");
    let (code, told) = failure_of(command.env("AUTHTOKENS__SERVER__PUBLIC_URL", "ftp://a"));
    assert!(code == 2 && told.contains("server.public_url must be "), "{told}");
    let (code, told) = machine.refused("config check --unit nowhere.service");
    assert!(code == 2 && told.starts_with("cannot read the unit nowhere.service: "), "{told}");
}

#[test]
fn what_is_no_file_in_the_place_of_certificates_or_of_a_unit_is_a_sentence() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let path = |name: &str| machine.path().join(name);
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    for arguments in ["serve --listen 127.0.0.1:0", "config check --unit /dev/null", "mail test bob@diamond.example"] {
        let mut command = machine.command(arguments);
        let (code, told) = failure_of(command.env("AUTHTOKENS__MAIL__SMTP__CA_FILE", "pipe"));
        assert_eq!((code, told.as_str()), (2, "mail.smtp.ca_file: pipe cannot be read: it is not a file"));
    }
    let (code, told) = machine.refused("config check --unit pipe");
    assert_eq!((code, told.as_str()), (2, "cannot read the unit pipe: it is not a file"));
    fs::write(path("a.service"), "").unwrap();
    fs::create_dir(path("a.service.d")).unwrap();
    symlink("/dev/null", path("a.service.d/masked.conf")).unwrap();
    machine.said("config check --unit a.service");
    symlink("/dev/zero", path("a.service.d/zero.conf")).unwrap();
    let (code, told) = machine.refused("config check --unit a.service");
    assert_eq!((code, told.as_str()), (2, "cannot read the unit a.service: it is not a file"));
}

#[test]
fn a_folder_for_mails_that_cannot_be_made_is_told_by_the_check() {
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let check = |folder: &str| {
        let mut command = machine.command("config check --unit /dev/null");
        command.env("AUTHTOKENS__MAIL__TRANSPORT", "folder").env("AUTHTOKENS__MAIL__FOLDER", folder);
        command
    };
    let (code, told) = failure_of(&mut check("/dev/null/x"));
    assert_eq!((code, told.as_str()), (2, "mail.folder: /dev/null/x cannot be used: /dev/null is not a folder"));
    assert!(run(&mut check("data/mail")).status.success());
    assert!(!machine.path().join("data").exists(), "and nothing is made");
}

#[test]
fn a_name_server_that_hangs_holds_up_no_program_beyond_the_timeout_of_mail() {
    const SILENT: &str = "127.53.53.53";
    let Ok(silent) = UdpSocket::bind((SILENT, 53)) else {
        return left_out("only root may be a name server");
    };
    let server = SmtpServer::start(Behaviour::default());
    let machine = machine_with(&server);
    let own = machine.path().join("resolv.conf");
    // Asked twice for each of two kinds of addresses, ten seconds apart.
    fs::write(&own, format!("nameserver {SILENT}\noptions timeout:10 attempts:2\n")).unwrap();
    let is_mounted = "mount --bind \"$OWN\" /etc/resolv.conf && exec \"$0\" mail test bob@diamond.example";
    let mut command = program("unshare");
    command.args(["--mount", "sh", "-c", is_mounted, env!("CARGO_BIN_EXE_authtokens")]);
    command.current_dir(machine.path()).env("OWN", &own);
    command.env("AUTHTOKENS__MAIL__SMTP__HOST", "mail.diamond.example").env("AUTHTOKENS__MAIL__SMTP__TIMEOUT", "1s");
    let output = run(&mut command);
    let told = String::from_utf8(output.stderr).unwrap();
    if told.contains("unshare") || told.contains("mount") {
        return left_out("only root may give a program a name server of its own");
    }
    assert!(told.contains("did not answer in 1 s when its address was looked up"), "{told}");
    silent.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| silent.recv(&mut [0; 512]).ok()).count();
    assert!((1..=2).contains(&asked), "the program has ended before it was asked again: {asked}");
}
