//! Accounts and tokens of other systems: written whole and once, and tokens known by their SHA-512 until their first use.

use authtokens::domain::item::ItemId;
use authtokens::domain::profile::{Profile, ProfileField};
use authtokens::domain::rights::{Actor, Rights};
use authtokens::domain::session::{Caller, NewSession, SessionCutoffs, SessionId, UserAgent};
use authtokens::domain::token::PresentedToken;
use authtokens::domain::user::Username;
use authtokens::repository::{ImportOutcome, ImportedAccount, ImportedToken, Repository, RepositoryError};
use bytes::Bytes;

use crate::fixture::Fixture;
use crate::words::{
    EVER, HASH, OpensSessions as _, at, caller, email, events, hash, is_live, login, name, new_session, open, register,
    register_verified, register_with, text,
};

/// When everything here is imported.
pub const NOW: i64 = 50_000;

/// An account of another system, with nothing but its name.
pub fn account(id: &str, username: &str) -> ImportedAccount {
    ImportedAccount {
        source_id: id.to_owned(),
        fingerprint: [7; 32],
        username: Username::parse_existing(username).unwrap(),
        password_hash: hash("pbkdf2_sha256$1000$salt$digest"),
        hash_work: Some(30),
        profile: Profile::default(),
        is_email_verified: false,
        is_active: true,
        rights: Rights::default(),
        date_joined: at(-877),
        created: at(-783),
        modified: at(4_000),
        last_login: at(5_000),
        cellar: Vec::new(),
        wants: Vec::new(),
        tokens: Vec::new(),
    }
}

pub fn with_address(id: &str, username: &str, address: &str) -> ImportedAccount {
    let mut account = account(id, username);
    account.profile.set(text(ProfileField::Email, address));
    account.is_email_verified = true;
    account
}

/// A token that is known by its SHA-256.
pub fn known(token: &PresentedToken) -> ImportedToken {
    ImportedToken { digest: token.digest(), is_sha512: false, expires: None }
}

/// A token that is known by the SHA-512 of its characters, which is its first foreign digest, or of its bytes.
pub fn foreign(token: &PresentedToken, number: usize) -> ImportedToken {
    ImportedToken { digest: token.foreign_digests()[number], is_sha512: true, expires: None }
}

/// A token of 64 hex digits, another one for each number.
pub fn presented(number: usize) -> PresentedToken {
    PresentedToken::parse(&format!("{number:064x}")).unwrap()
}

pub async fn import(repository: &dyn Repository, accounts: Vec<ImportedAccount>) -> Vec<ImportOutcome> {
    repository.import_accounts("django", accounts, at(NOW)).await.unwrap()
}

pub async fn adopt(repository: &dyn Repository, token: &PresentedToken) -> bool {
    repository.adopt_token(token.foreign_digests(), token.digest()).await.unwrap()
}

const DONE: ImportOutcome = ImportOutcome::Imported { tokens: 0 };

fn items(numbers: &[i64]) -> Vec<ItemId> {
    numbers.iter().map(|number| ItemId::new(*number).unwrap()).collect()
}

pub async fn an_imported_account_is_there_whole(fixture: &Fixture) {
    let token = PresentedToken::parse(&"a".repeat(40)).unwrap();
    let mut whole = with_address("1", "Ana", "ana@example.org");
    whole.profile.set(text(ProfileField::City, "Porto"));
    whole.rights = Rights { is_staff: true, is_superuser: false };
    (whole.cellar, whole.wants) = (items(&[1, 5]), items(&[9]));
    whole.tokens = vec![known(&token)];
    let profile = whole.profile.clone();
    let mut inactive = account("2", "ben");
    inactive.is_active = false;
    inactive.hash_work = None;
    let outcomes = import(&*fixture.repository, vec![whole, inactive]).await;
    assert_eq!(outcomes, [ImportOutcome::Imported { tokens: 1 }, DONE]);

    let (session, user) = fixture.second.find_user(&caller(token.digest())).await.unwrap();
    assert_eq!((user.username.as_str(), &user.profile), ("Ana", &profile));
    assert_eq!((user.is_active, user.is_staff, user.is_superuser), (true, true, false));
    assert!(user.is_email_verified);
    assert_eq!((user.date_joined, user.created, user.modified), (at(-877), at(-783), at(4_000)));
    assert_eq!((user.last_login, session.last_used), (at(5_000), at(NOW)), "the session begins with the import");
    assert_eq!((user.cellar, user.wants), (items(&[1, 5]), items(&[9])));
    let export = fixture.repository.export_user(&caller(token.digest())).await.unwrap();
    assert!(export.cellar.iter().chain(&export.wants).all(|(_, added)| *added == at(4_000)));
    let [session] = &export.sessions[..] else { panic!("one session") };
    assert_eq!((session.created, session.expires, session.ip), (at(NOW), None, None));
    assert_eq!(session.user_agent.as_str(), "imported from django");
    let credentials = fixture.repository.find_credentials(&name("ANA")).await.unwrap().unwrap();
    assert!(credentials.password_hash == hash("pbkdf2_sha256$1000$salt$digest"));
    assert!(!fixture.repository.find_credentials(&name("ben")).await.unwrap().unwrap().is_active);
    assert_eq!(events(fixture).await, ["imported Ana command line ", "imported ben command line "]);
    let due = fixture.repository.claim_mails(10, at(NOW), at(NOW + 1)).await.unwrap();
    assert!(due.is_empty(), "nobody is told by a mail");
}

pub async fn what_was_imported_before_is_left_as_it_is_whatever_has_become_of_it(fixture: &Fixture) {
    let token = PresentedToken::parse(&"b".repeat(40)).unwrap();
    let batch = || {
        let mut first = account("1", "ana");
        first.tokens = vec![known(&token)];
        vec![first, account("2", "ben")]
    };
    import(&*fixture.repository, batch()).await;
    fixture.repository.revoke_own_session(&caller(token.digest()), at(NOW)).await.unwrap();
    assert!(fixture.repository.delete_account(&Actor::CommandLine, &name("ben"), at(NOW)).await.unwrap());
    let before = events(fixture).await;
    assert_eq!(import(&*fixture.second, batch()).await, [ImportOutcome::Already; 2]);
    assert!(!is_live(fixture, token.digest()).await, "what was ended here stays so");
    assert!(fixture.repository.find_credentials(&name("ben")).await.unwrap().is_none());
    assert_eq!(events(fixture).await, before);

    let mut other = account("1", "somebody");
    other.fingerprint = [8; 32];
    assert_eq!(import(&*fixture.repository, vec![other]).await, [ImportOutcome::Another]);
    let elsewhere = fixture.repository.import_accounts("pocketbase", vec![account("1", "carl")], at(NOW)).await;
    assert_eq!(elsewhere.unwrap(), [DONE], "each system has its own ids");
    let ids = ["2", "x", "1", "2"].map(str::to_owned).to_vec();
    let known = fixture.repository.find_imported("django", ids).await.unwrap();
    assert_eq!(known, [Some([7; 32]), None, Some([7; 32]), Some([7; 32])], "in the order of the ids");
}

pub async fn an_account_whose_name_is_taken_is_not_imported_and_its_id_is_not_remembered(fixture: &Fixture) {
    register(fixture, "Ana").await;
    let mut taken = account("1", "ANA");
    taken.cellar = items(&[1]);
    let outcomes = import(&*fixture.repository, vec![taken.clone(), account("2", "ben"), account("3", "BEN")]).await;
    assert_eq!(outcomes, [ImportOutcome::NameTaken, DONE, ImportOutcome::NameTaken]);
    let known = fixture.repository.find_imported("django", vec!["1".to_owned(), "3".to_owned()]).await.unwrap();
    assert_eq!(known, [None, None]);
    let names = ["aNA", "nobody", "Ben"].map(name).to_vec();
    assert_eq!(fixture.repository.find_taken(names).await.unwrap(), [true, false, true]);
    taken.username = name("ana2");
    assert_eq!(import(&*fixture.repository, vec![taken]).await, [DONE]);
}

pub async fn an_id_that_comes_twice_in_a_batch_is_one_account(fixture: &Fixture) {
    let mut other = account("1", "carl");
    other.fingerprint = [8; 32];
    let outcomes = import(&*fixture.repository, vec![account("1", "ana"), account("1", "ben"), other]).await;
    assert_eq!(outcomes, [DONE, ImportOutcome::Already, ImportOutcome::Another]);
    assert!(fixture.repository.find_credentials(&name("ben")).await.unwrap().is_none());
}

pub async fn a_verified_address_counts_unless_another_account_has_verified_it(fixture: &Fixture) {
    register_verified(fixture, "holder", "held@example.org").await;
    register_with(fixture, "squatter", "free@example.org").await;
    register(fixture, "taken").await;
    let batch = vec![
        with_address("1", "ana", "HELD@example.org"),
        with_address("2", "ben", "free@example.org"),
        with_address("3", "carl", "Free@Example.org"),
        with_address("4", "TAKEN", "late@example.org"),
        with_address("5", "dora", "late@example.org"),
        with_address("6", "no-address", ""),
    ];
    let outcomes = import(&*fixture.repository, batch).await;
    assert_eq!(outcomes, [DONE, DONE, DONE, ImportOutcome::NameTaken, DONE, DONE]);
    let verified = async |username| {
        let credentials = fixture.repository.find_credentials(&name(username)).await.unwrap().unwrap();
        credentials.is_email_verified
    };
    assert!(!verified("ana").await, "another account had verified it");
    assert!(verified("ben").await && !verified("carl").await, "the first of two");
    assert!(verified("dora").await, "who has no account holds no address");
    assert!(!verified("no-address").await);
    let found = fixture.repository.find_credentials_by_email(&email("free@example.org")).await.unwrap().unwrap();
    assert_eq!(found.username.as_str(), "ben");
}

pub async fn a_token_that_a_session_has_already_stays_that_sessions(fixture: &Fixture) {
    let (user_id, digest) = register(fixture, "AzureDiamond").await;
    let token = PresentedToken::parse(&"c".repeat(40)).unwrap();
    let mut thief = account("1", "ana");
    thief.tokens = vec![ImportedToken { digest, is_sha512: false, expires: None }, known(&token)];
    assert_eq!(import(&*fixture.repository, vec![thief]).await, [ImportOutcome::Imported { tokens: 1 }]);
    assert_eq!(fixture.repository.find_session(&caller(digest)).await.unwrap().unwrap().user_id, user_id);
    assert!(is_live(fixture, token.digest()).await);
}

pub async fn names_beyond_the_api_are_known_to_be_there_also_when_their_account_is_gone(fixture: &Fixture) {
    import(&*fixture.repository, vec![account("1", "ana")]).await;
    assert!(!fixture.repository.has_imported_names().await.unwrap());
    let other = account("2", "Zoë Ångström");
    let username = other.username.clone();
    assert_eq!(import(&*fixture.repository, vec![other]).await, [DONE]);
    assert!(fixture.second.has_imported_names().await.unwrap());
    let folded = Username::parse_existing("zoe\u{308} A\u{30a}NGSTRÖM").unwrap();
    let credentials = fixture.repository.find_credentials(&folded).await.unwrap().unwrap();
    assert_eq!(credentials.username, username);
    assert_eq!(events(fixture).await.last().unwrap(), "imported Zoë Ångström command line ");
    assert!(fixture.repository.delete_account(&Actor::CommandLine, &username, at(NOW)).await.unwrap());
    assert!(fixture.repository.has_imported_names().await.unwrap());
}

pub async fn the_hardest_imported_hash_is_known_until_its_owner_has_one_of_ours(fixture: &Fixture) {
    assert_eq!(fixture.repository.hardest_imported_hash().await.unwrap(), None);
    let mut hard = account("1", "ana");
    hard.hash_work = Some(4_000);
    import(&*fixture.repository, vec![hard, account("2", "ben")]).await;
    assert_eq!(fixture.second.hardest_imported_hash().await.unwrap(), Some(4_000));
    let credentials = fixture.repository.find_credentials(&name("ana")).await.unwrap().unwrap();
    let mut login = login(credentials.user_id, credentials.password_hash.as_stored());
    login.rehashed = Some(hash(HASH));
    fixture.repository.log_in(login, new_session(), 100, at(NOW)).await.unwrap().unwrap();
    assert_eq!(fixture.repository.hardest_imported_hash().await.unwrap(), Some(30));
}

pub async fn a_session_ends_by_its_own_end_however_it_is_used(fixture: &Fixture) {
    let token = PresentedToken::parse(&"d".repeat(40)).unwrap();
    let mut ana = account("1", "ana");
    ana.tokens = vec![ImportedToken { expires: Some(at(NOW + 1_000)), ..known(&token) }];
    import(&*fixture.repository, vec![ana]).await;
    fixture.repository.record_use(vec![(token.digest(), at(NOW + 900))]).await.unwrap();
    let asked_at =
        |millis| Caller { cutoffs: SessionCutoffs { expires_after: at(millis), ..EVER }, ..caller(token.digest()) };
    let render = |_| Ok(Bytes::from_static(b"{}"));
    for (millis, expected) in [(NOW + 999, true), (NOW + 1_000, false), (NOW + 999, true)] {
        let who = asked_at(millis);
        assert_eq!(fixture.repository.find_session(&who).await.unwrap().is_some(), expected, "{millis}");
        assert_eq!(fixture.repository.find_rendered_user(&who, render).await.is_ok(), expected, "{millis}");
        let listed = fixture.second.list_sessions(&who).await;
        assert_eq!(listed.is_ok_and(|sessions| sessions[0].expires == Some(at(NOW + 1_000))), expected, "{millis}");
        let of_ana = fixture.repository.list_account_sessions(&Actor::CommandLine, &name("ana"), who.cutoffs).await;
        assert_eq!(of_ana.unwrap().unwrap().len(), usize::from(expected), "{millis}");
    }
    let over = asked_at(NOW + 1_000);
    let refused = fixture.repository.revoke_own_session(&over, at(NOW + 1_000)).await;
    assert!(matches!(refused, Err(RepositoryError::NoSession)));
    assert_eq!(fixture.repository.prune_sessions(asked_at(NOW + 999).cutoffs).await.unwrap(), 0);
    assert_eq!(fixture.repository.prune_sessions(over.cutoffs).await.unwrap(), 1);
    assert!(!is_live(fixture, token.digest()).await);
}

pub async fn a_login_evicts_a_session_that_has_come_to_its_own_end_before_any_other(fixture: &Fixture) {
    let [over, going_on] = ["e", "f"].map(|digit| PresentedToken::parse(&digit.repeat(40)).unwrap());
    let mut ana = account("1", "ana");
    ana.tokens = vec![
        ImportedToken { expires: Some(at(NOW + 1_000)), ..known(&over) },
        ImportedToken { expires: Some(at(NOW + 9_000)), ..known(&going_on) },
    ];
    import(&*fixture.repository, vec![ana]).await;
    fixture.repository.record_use(vec![(over.digest(), at(NOW + 999))]).await.unwrap();
    let credentials = fixture.repository.find_credentials(&name("ana")).await.unwrap().unwrap();
    let login = login(credentials.user_id, credentials.password_hash.as_stored());
    fixture.repository.log_in(login, new_session(), 2, at(NOW + 1_000)).await.unwrap().unwrap();
    assert!(is_live(fixture, going_on.digest()).await && !is_live(fixture, over.digest()).await);
}

pub async fn a_token_that_is_known_by_its_sha_512_is_adopted_and_is_one_as_any_other_then(fixture: &Fixture) {
    let (_, elsewhere) = register(fixture, "other").await;
    let tokens = [presented(0), presented(1), PresentedToken::parse(&"0a".repeat(20)).unwrap()];
    assert!(!adopt(&*fixture.repository, &tokens[0]).await, "nothing was imported");
    assert!(!fixture.repository.has_imported_tokens().await.unwrap());
    let mut ana = account("1", "ana");
    let end = at(NOW + 9_000);
    ana.tokens = vec![
        ImportedToken { expires: Some(end), ..foreign(&tokens[0], 0) },
        foreign(&tokens[1], 1),
        foreign(&tokens[2], 0),
    ];
    assert_eq!(import(&*fixture.second, vec![ana]).await, [ImportOutcome::Imported { tokens: 3 }]);
    for repository in [&fixture.repository, &fixture.second] {
        assert!(repository.has_imported_tokens().await.unwrap(), "once the import is acknowledged");
    }
    for token in &tokens {
        assert!(!is_live(fixture, token.digest()).await);
        assert!(adopt(&*fixture.repository, token).await);
        for repository in [&fixture.repository, &fixture.second] {
            assert!(repository.find_session(&caller(token.digest())).await.unwrap().is_some());
            assert!(adopt(&**repository, token).await, "it is there by now");
        }
    }
    let digest = tokens[0].digest();
    let sessions = fixture.repository.list_sessions(&caller(digest)).await.unwrap();
    assert_eq!(sessions.len(), 3);
    let first = sessions.iter().find(|session| session.id == SessionId::of(&digest)).unwrap();
    assert_eq!((first.created, first.expires), (at(NOW), Some(end)));
    fixture.repository.revoke_own_session(&caller(digest), at(NOW)).await.unwrap();
    assert!(!adopt(&*fixture.repository, &tokens[0]).await, "what was ended stays so");
    assert!(!adopt(&*fixture.repository, &presented(9)).await);
    assert!(fixture.repository.has_imported_tokens().await.unwrap(), "those that were adopted may look otherwise, too");
    assert!(is_live(fixture, elsewhere).await);
}

pub async fn nobody_is_let_in_by_what_is_stored(fixture: &Fixture) {
    let token = presented(0);
    let mut ana = account("1", "ana");
    ana.tokens = vec![foreign(&token, 0)];
    import(&*fixture.repository, vec![ana]).await;
    let stored = token.foreign_digests()[0];
    let hex = stored.as_bytes().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let digest = PresentedToken::parse(&hex).unwrap();
    assert!(!adopt(&*fixture.repository, &digest).await && !is_live(fixture, digest.digest()).await);
    assert!(adopt(&*fixture.repository, &token).await);
    assert!(!is_live(fixture, stored).await, "its old digest is gone");
}

/// The live sessions of an account.
pub async fn count_sessions(fixture: &Fixture, username: &str) -> usize {
    let sessions = fixture.repository.list_account_sessions(&Actor::CommandLine, &name(username), EVER).await;
    sessions.unwrap().map_or(0, |sessions| sessions.len())
}

pub async fn an_imported_account_logs_in_and_is_deleted_as_any_other(fixture: &Fixture) {
    let mut ana = account("1", "ana");
    ana.tokens = vec![foreign(&presented(0), 0), foreign(&presented(1), 0)];
    ana.wants = items(&[3]);
    import(&*fixture.repository, vec![ana]).await;
    let credentials = fixture.repository.find_credentials(&name("ana")).await.unwrap().unwrap();
    let (user, digest) = open(fixture, credentials.user_id, credentials.password_hash.as_stored()).await;
    assert_eq!(user.unwrap().wants, items(&[3]));
    assert_eq!(count_sessions(fixture, "ana").await, 3);
    fixture.repository.revoke_all_sessions(&caller(digest), at(NOW)).await.unwrap();
    assert!(!adopt(&*fixture.repository, &presented(0)).await, "it ended with the others");
    assert!(fixture.repository.delete_account(&Actor::CommandLine, &name("ana"), at(NOW)).await.unwrap());
    assert_eq!((fixture.count_rows_of)(credentials.user_id), 0);
}

pub async fn a_full_batch_is_imported_at_once(fixture: &Fixture) {
    let batch = || {
        let one = |number: usize| {
            let mut account =
                with_address(&number.to_string(), &format!("user{number}"), &format!("u{number}@example.org"));
            account.cellar = items(&[1, 2, 3, 4, 5]);
            account.tokens = vec![foreign(&presented(number), 0)];
            account
        };
        (0..1_000).map(one).collect::<Vec<_>>()
    };
    assert_eq!(import(&*fixture.repository, batch()).await, [ImportOutcome::Imported { tokens: 1 }; 1_000]);
    assert_eq!(import(&*fixture.repository, batch()).await, [ImportOutcome::Already; 1_000]);
    assert_eq!(import(&*fixture.repository, Vec::new()).await, []);
    assert!(adopt(&*fixture.second, &presented(999)).await);
    let (_, user) = fixture.second.find_user(&caller(presented(999).digest())).await.unwrap();
    assert_eq!((user.username.as_str(), user.cellar.len()), ("user999", 5));
}

pub async fn the_first_login_after_an_import_is_told_to_nobody_and_the_next_one_is(fixture: &Fixture) {
    import(&*fixture.repository, vec![with_address("1", "ana", "ana@a.example")]).await;
    let user_id = fixture.repository.find_credentials(&name("ana")).await.unwrap().unwrap().user_id;
    let log_in = async |ip: &str, program, millis| {
        let session =
            NewSession { ip: Some(ip.parse().unwrap()), user_agent: UserAgent::from_header(program), ..new_session() };
        let login = login(user_id, "pbkdf2_sha256$1000$salt$digest");
        fixture.repository.log_in(login, session, 100, at(millis)).await.unwrap().unwrap();
    };
    let told = async || events(fixture).await.iter().filter(|event| event.starts_with("unfamiliar_login")).count();
    log_in("192.0.2.1", "Cellar/1.0", NOW + 1).await;
    assert_eq!(told().await, 0);
    log_in("198.51.100.1", "Thief/1.0", NOW + 2).await;
    assert_eq!(told().await, 1);
}
