//! The plan: what becomes of every account of a source, decided before anything is written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use crate::domain::email::key_of;
use crate::domain::item::{ItemId, MAX_ITEMS};
use crate::domain::profile::{Profile, ProfileField, ProfileText};
use crate::domain::rights::Rights;
use crate::domain::session::SessionPolicy;
use crate::domain::user::{COMMAND_LINE, PasswordHash, Username};
use crate::import::ImportError;
use crate::import::account::{Source, SourceAccount, SourceDigest, SourceToken, Warning};
use crate::import::report::{AccountCounts, ConflictLine, Next, Report, TokenCounts, WarningLine};
use crate::passwords::{ImportedHash, read_imported};
use crate::repository::{ImportedAccount, ImportedToken, Repository};
use crate::system::clock::Timestamp;

/// How many ids or names the store is asked about at once.
const AT_ONCE: usize = 1_000;

/// How many other accounts a conflict lists. With all of them, one name that a whole site has would fill the memory.
const MAX_WITH: usize = 20;

/// How many characters the id of an account may have.
const MAX_ID_CHARS: usize = 254;

/// Which names are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those that a client could register.
    Api,
    /// Those of the source, as they are there.
    Source,
}

/// How to decide.
pub struct Rules {
    /// What the source is remembered as.
    pub source: String,
    /// Which names are taken.
    pub names: Names,
    /// New names by the source's ids.
    pub renames: HashMap<String, String>,
    /// Whether fast digests are wrapped in hashes of our own.
    pub wraps_weak: bool,
    /// Whether nothing will be written.
    pub dry_run: bool,
    /// How long sessions live, and how many an account may have.
    pub sessions: SessionPolicy,
    /// The moment of the import.
    pub now: Timestamp,
}

/// An account that will be written.
pub struct Planned {
    /// The account. Where its hash is to be wrapped, that of no password stands in its place.
    pub account: ImportedAccount,
    /// A fast digest to wrap in a hash of our own.
    pub weak: Option<String>,
}

/// What will be written, and what the operator is told.
pub struct Plan {
    /// In the order in which they joined.
    pub accounts: Vec<Planned>,
    /// The report, as if all of it were written.
    pub report: Report,
}

/// Decides. The store is asked which accounts it has; without one, it has none.
///
/// # Errors
/// See [`ImportError`].
pub async fn decide(source: Source, rules: &Rules, store: Option<&dyn Repository>) -> Result<Plan, ImportError> {
    let Source { mut accounts, left_out, not_carried, notes } = source;
    accounts.sort_by(|a, b| (a.date_joined, &a.id).cmp(&(b.date_joined, &b.id)));
    require_one_each(&accounts)?;
    if accounts.is_empty() {
        return Err(ImportError::new("nothing is to be imported: the file has no account that is for here"));
    }
    let ids: HashSet<&str> = accounts.iter().map(|account| account.id.as_str()).collect();
    if let Some(unknown) = rules.renames.keys().find(|id| !ids.contains(id.as_str())) {
        return Err(ImportError::new(format!("the file of new names has the id {unknown:?}, and no account has it")));
    }
    let Known { already, changed } = find_known(&accounts, rules, store).await?;
    let mut report = Report {
        dry_run: rules.dry_run,
        written: false,
        source: rules.source.clone(),
        accounts: AccountCounts { already: already.len() as u64, left_out, ..AccountCounts::default() },
        tokens: TokenCounts { carried: 0, not_carried },
        passwords: BTreeMap::new(),
        warnings: Vec::new(),
        conflicts: Vec::new(),
        notes,
        next: Next { tokens_end_unused: None },
    };
    let changed_lines: Vec<_> = accounts
        .iter()
        .filter(|account| changed.contains(&account.id))
        .map(|account| ConflictLine {
            source_id: account.id.clone(),
            name: account.name.clone(),
            reason: "changed_at_source",
            with: Vec::new(),
        })
        .collect();
    accounts.retain(|account| !already.contains(&account.id) && !changed.contains(&account.id));
    report.conflicts.extend(changed_lines);
    let names = settle_names(&accounts, rules, store, &mut report.conflicts).await?;
    report.accounts.conflicts = report.conflicts.len() as u64;
    let owners = find_owners_of_addresses(&accounts, &names);
    let mut planned = Vec::with_capacity(accounts.len());
    for (mut account, name) in accounts.into_iter().zip(names) {
        let Some(username) = name else {
            report.tokens.leave("conflict", account.tokens.len() as u64);
            continue;
        };
        // Whoever logs in by the address is taken for the one who has it as a name.
        let owner = key_of(username.as_str()).and_then(|key| owners.get(&key));
        if owner.is_some_and(|owner| *owner != account.id) {
            account.warnings.push(Warning::new("name_is_anothers_address"));
        }
        planned.push(plan(account, username, rules, &mut report));
    }
    report.accounts.imported = planned.len() as u64;
    if report.tokens.carried > 0 {
        report.next.tokens_end_unused = rules.sessions.expires(rules.now, rules.now, None);
    }
    Ok(Plan { accounts: planned, report })
}

/// Which of the accounts that will be written has verified an address, by the address's key.
fn find_owners_of_addresses(accounts: &[SourceAccount], names: &[Option<Username>]) -> HashMap<String, String> {
    let verified = accounts.iter().zip(names).filter(|(account, name)| account.is_email_verified && name.is_some());
    let keys = verified.filter_map(|(account, _)| {
        let (_, email) = account.profile.iter().find(|(field, _)| *field == ProfileField::Email)?;
        Some((key_of(email)?, account.id.clone()))
    });
    keys.collect()
}

/// Refuses a source that has an id twice, or one that no system gives: what is remembered of an account is its id.
fn require_one_each(accounts: &[SourceAccount]) -> Result<(), ImportError> {
    let is_id = |id: &str| id.chars().count() <= MAX_ID_CHARS && !id.chars().any(char::is_control);
    if accounts.iter().any(|account| !is_id(&account.id)) {
        let why = format!(
            "the file has an account whose id is longer than {MAX_ID_CHARS} characters, or has control characters"
        );
        return Err(ImportError::new(why));
    }
    let mut seen = HashSet::with_capacity(accounts.len());
    match accounts.iter().find(|account| !seen.insert(account.id.as_str())) {
        Some(twice) => Err(ImportError::new(format!("the file has two accounts with the id {:?}", twice.id))),
        None => Ok(()),
    }
}

/// Tells an account of the source from one of another database that has the same id.
fn fingerprint(account: &SourceAccount) -> [u8; 32] {
    let joined = account.date_joined.map_or(String::new(), |joined| joined.as_millis().to_string());
    Sha256::new().chain_update(&account.name).chain_update([0]).chain_update(joined).finalize().into()
}

/// The ids that an earlier run has imported.
#[derive(Default)]
struct Known {
    /// Those of the same accounts.
    already: HashSet<String>,
    /// Those whose accounts have another name, or another date of joining.
    changed: HashSet<String>,
}

/// Finds what an earlier run has imported. Where most of it has changed, it is another database.
async fn find_known(
    accounts: &[SourceAccount],
    rules: &Rules,
    store: Option<&dyn Repository>,
) -> Result<Known, ImportError> {
    let mut known = Known::default();
    let Some(store) = store else { return Ok(known) };
    for some in accounts.chunks(AT_ONCE) {
        let ids = some.iter().map(|account| account.id.clone()).collect();
        for (account, found) in some.iter().zip(store.find_imported(&rules.source, ids).await?) {
            let Some(found) = found else { continue };
            let is_same = found == fingerprint(account);
            (if is_same { &mut known.already } else { &mut known.changed }).insert(account.id.clone());
        }
    }
    if known.changed.len() > known.already.len() {
        let first = accounts.iter().find(|account| known.changed.contains(&account.id));
        return Err(is_another(first.map_or("", |account| &account.id), &rules.source));
    }
    Ok(known)
}

/// An id was imported before, for an account with another name or another date of joining.
pub(super) fn is_another(id: &str, source: &str) -> ImportError {
    ImportError::new(format!(
        "the account with the id {id:?} was imported from {source:?} before, with another name or another date of joining: \
         where this is another database, --source NAME keeps the two apart; otherwise --name must be what it was then"
    ))
}

/// Decides every account's name, in their order. `None` is a conflict, which is listed.
async fn settle_names(
    accounts: &[SourceAccount],
    rules: &Rules,
    store: Option<&dyn Repository>,
    conflicts: &mut Vec<ConflictLine>,
) -> Result<Vec<Option<Username>>, ImportError> {
    let wanted: Vec<&str> =
        accounts.iter().map(|account| rules.renames.get(&account.id).unwrap_or(&account.name).as_str()).collect();
    let mut names: Vec<Result<Username, &'static str>> =
        wanted.iter().map(|name| read_name(name, rules.names)).collect();
    let mut groups: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        if let Ok(name) = name {
            groups.entry(name.key()).or_default().push(index);
        }
    }
    if let Some(store) = store {
        let ours: Vec<(usize, Username)> =
            names.iter().enumerate().filter_map(|(index, name)| Some((index, name.clone().ok()?))).collect();
        for some in ours.chunks(AT_ONCE) {
            let asked = some.iter().map(|(_, name)| name.clone()).collect();
            for ((index, _), is_taken) in some.iter().zip(store.find_taken(asked).await?) {
                if is_taken {
                    names[*index] = Err("name_taken");
                }
            }
        }
    }
    let mut settled = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let clash = name.as_ref().ok().and_then(|name| groups.get(&name.key())).filter(|group| group.len() > 1);
        let others: Vec<usize> = clash.into_iter().flatten().copied().filter(|other| *other != index).collect();
        let reason = match name {
            Ok(name) if others.is_empty() => {
                settled.push(Some(name));
                continue;
            }
            Ok(_) if others.iter().any(|other| wanted[*other] == wanted[index]) => "name_twice",
            Ok(_) => "name_differs_only_in_case",
            Err(reason) => reason,
        };
        conflicts.push(ConflictLine {
            source_id: accounts[index].id.clone(),
            name: wanted[index].to_owned(),
            reason,
            with: others.iter().take(MAX_WITH).map(|other| accounts[*other].id.clone()).collect(),
        });
        settled.push(None);
    }
    Ok(settled)
}

/// Reads a name by the rule, or says why it breaks it.
fn read_name(name: &str, names: Names) -> Result<Username, &'static str> {
    let (parsed, most) = match names {
        Names::Api => (Username::parse(name), Username::MAX_CHARS),
        Names::Source => (Username::parse_existing(name), Username::MAX_IMPORTED_CHARS),
    };
    parsed.map_err(|_| {
        let is_reserved = names == Names::Source && name.eq_ignore_ascii_case(COMMAND_LINE);
        if name.is_empty() {
            "name_empty"
        } else if is_reserved {
            "name_reserved"
        } else if name.chars().count() > most {
            "name_too_long"
        } else {
            "name_characters"
        }
    })
}

/// Plans an account whose name is settled.
fn plan(account: SourceAccount, username: Username, rules: &Rules, report: &mut Report) -> Planned {
    let fingerprint = fingerprint(&account);
    let mut warnings = account.warnings;
    let mut warn = |what: String| warnings.push(Warning(what));
    let mut profile = Profile::default();
    for (field, text) in account.profile {
        match ProfileText::parse(field, text) {
            Ok(text) => profile.set(text),
            Err(_) => warn(format!("{}_dropped", field.name())),
        }
    }
    let [cellar, wants] = [("cellar", account.cellar), ("wants", account.wants)].map(|(list, items)| {
        let (items, is_whole) = read_items(items);
        if !is_whole {
            warn(format!("{list}_items_dropped"));
        }
        items
    });
    let password = read_password(account.password.as_deref(), rules);
    *report.passwords.entry(password.kind).or_default() += 1;
    // Whoever came by another way alone has no password there either.
    let says_why = warnings.iter().any(|Warning(what)| what == "external_only");
    if let Some(what) = password.warning.filter(|what| *what != NO_PASSWORD || !says_why) {
        warnings.push(Warning::new(what));
    }
    let tokens = if account.is_active {
        read_tokens(account.tokens, rules, &mut report.tokens)
    } else {
        report.tokens.leave("inactive", account.tokens.len() as u64);
        Vec::new()
    };
    report.tokens.carried += tokens.len() as u64;
    let mut told = HashSet::new();
    warnings.retain(|Warning(what)| told.insert(what.clone()));
    report.warnings.extend(warnings.into_iter().map(|Warning(what)| WarningLine {
        source_id: account.id.clone(),
        name: account.name.clone(),
        what,
    }));
    let date_joined = account.date_joined.unwrap_or(rules.now);
    let created = account.created.unwrap_or(date_joined);
    Planned {
        account: ImportedAccount {
            source_id: account.id,
            fingerprint,
            username,
            password_hash: password.hash,
            hash_work: password.work,
            profile,
            is_email_verified: account.is_email_verified,
            is_active: account.is_active,
            rights: Rights { is_staff: account.is_staff, is_superuser: account.is_superuser },
            date_joined,
            created,
            modified: account.modified.unwrap_or(created),
            last_login: account.last_login.unwrap_or(date_joined),
            cellar,
            wants,
            tokens,
        },
        weak: password.weak,
    }
}

/// Items in their order and without doubles, and whether none was dropped.
fn read_items(items: Vec<Option<i64>>) -> (Vec<ItemId>, bool) {
    let all = items.len();
    let mut read: Vec<ItemId> = items.into_iter().filter_map(|item| ItemId::new(item?).ok()).collect();
    let mut is_whole = read.len() == all;
    read.sort_unstable();
    read.dedup();
    is_whole &= read.len() <= MAX_ITEMS;
    read.truncate(MAX_ITEMS);
    (read, is_whole)
}

const NO_PASSWORD: &str = "no_password";

/// What becomes of a stored password.
struct ReadPassword {
    kind: &'static str,
    hash: PasswordHash,
    work: Option<u64>,
    weak: Option<String>,
    warning: Option<&'static str>,
}

fn read_password(stored: Option<&str>, rules: &Rules) -> ReadPassword {
    let stored = stored.unwrap_or_default();
    let (kind, read) = read_imported(stored);
    let none = |warning| ReadPassword { kind, hash: PasswordHash::none(), work: None, weak: None, warning };
    match read {
        ImportedHash::Verifiable { hash, work } => {
            ReadPassword { kind, hash, work: Some(work), weak: None, warning: None }
        }
        ImportedHash::Weak if rules.wraps_weak => ReadPassword { weak: Some(stored.to_owned()), ..none(None) },
        ImportedHash::Weak => none(Some("hash_weak")),
        ImportedHash::Refused => none(Some("hash_refused")),
        ImportedHash::Encrypted => none(Some("hash_encrypted")),
        ImportedHash::Unknown => none(Some("hash_unknown")),
        ImportedHash::Absent => none(Some(NO_PASSWORD)),
    }
}

/// The tokens that are carried: the newest ones that have not ended.
fn read_tokens(mut tokens: Vec<SourceToken>, rules: &Rules, counts: &mut TokenCounts) -> Vec<ImportedToken> {
    tokens.sort_by_key(|token| Reverse(token.created));
    let mut carried = Vec::new();
    for SourceToken { digest, expires, .. } in tokens {
        let (digest, is_sha512) = match digest {
            Ok(SourceDigest::Sha256(digest)) => (digest, false),
            Ok(SourceDigest::Sha512(digest)) => (digest, true),
            Err(reason) => {
                counts.leave(reason, 1);
                continue;
            }
        };
        if expires.is_some_and(|expires| expires <= rules.now) {
            counts.leave("expired", 1);
        } else if carried.len() >= rules.sessions.max_per_user as usize {
            counts.leave("max_per_user", 1);
        } else {
            carried.push(ImportedToken { digest, is_sha512, expires });
        }
    }
    carried
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::token::PlainToken;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn rules(names: Names) -> Rules {
        Rules {
            source: "django".to_owned(),
            names,
            renames: HashMap::new(),
            wraps_weak: false,
            dry_run: false,
            sessions: SessionPolicy { lifetime: None, idle_timeout: Some(Duration::from_secs(60)), max_per_user: 2 },
            now: at(1_000_000),
        }
    }

    fn account(id: &str, name: &str) -> SourceAccount {
        SourceAccount { id: id.to_owned(), name: name.to_owned(), is_active: true, ..SourceAccount::default() }
    }

    async fn decide_on(accounts: Vec<SourceAccount>, rules: &Rules) -> Plan {
        decide(Source { accounts, ..Source::default() }, rules, None).await.unwrap()
    }

    /// The reasons of the conflicts between accounts of these names.
    async fn reasons(given: &[&str], names: Names) -> Vec<(String, &'static str)> {
        let accounts = given.iter().enumerate().map(|(id, name)| account(&id.to_string(), name)).collect();
        let plan = decide_on(accounts, &rules(names)).await;
        plan.report.conflicts.into_iter().map(|conflict| (conflict.name, conflict.reason)).collect()
    }

    #[tokio::test]
    async fn a_name_beyond_the_rule_is_a_conflict_and_says_which_part_of_the_rule_it_breaks() {
        let long = "n".repeat(31);
        let given = ["", &long, "Mary Ann", "a/b", "command line", "good"];
        let expected =
            ["name_empty", "name_too_long", "name_characters", "name_characters", "name_characters"].map(Some);
        let found = reasons(&given, Names::Api).await;
        assert_eq!(found.iter().map(|(_, reason)| Some(*reason)).collect::<Vec<_>>(), expected);

        let longest = "n".repeat(254);
        let given = ["", &"n".repeat(255), &longest, "Mary Ann", " outer", "un\u{200b}seen", "Command Line", "Ωμέγα"];
        let found = reasons(&given, Names::Source).await;
        let expected = ["name_empty", "name_too_long", "name_characters", "name_characters", "name_reserved"];
        assert_eq!(found.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn of_names_that_are_one_but_for_case_or_composition_none_wins() {
        let found = reasons(&["ana", "Ana", "twice", "twice", "Zo\u{eb}", "ZOE\u{308}"], Names::Source).await;
        let reasons: Vec<_> = found.iter().map(|(_, reason)| *reason).collect();
        let case = "name_differs_only_in_case";
        assert_eq!(reasons, [case, case, "name_twice", "name_twice", case, case]);
    }

    #[tokio::test]
    async fn a_name_that_is_the_verified_address_of_another_account_is_told() {
        let mut owner = account("1", "ana");
        (owner.profile, owner.is_email_verified) = (vec![(ProfileField::Email, "Ana@a.example".to_owned())], true);
        let mut own = account("3", "ben@a.example");
        (own.profile, own.is_email_verified) = (vec![(ProfileField::Email, "ben@a.example".to_owned())], true);
        let plan = decide_on(vec![owner, account("2", "ana@a.example"), own], &rules(Names::Api)).await;
        let told = |what: &str| plan.report.warnings.iter().filter(|warning| warning.what == what).count();
        assert_eq!(told("name_is_anothers_address"), 1);
    }

    #[tokio::test]
    async fn a_conflict_of_very_many_lists_some_of_them() {
        let accounts = (0..1_000).map(|id| account(&id.to_string(), "F")).collect();
        let plan = decide_on(accounts, &rules(Names::Api)).await;
        assert_eq!(plan.report.conflicts.len(), 1_000);
        assert!(plan.report.conflicts.iter().all(|conflict| conflict.with.len() == MAX_WITH));
    }

    #[tokio::test]
    async fn a_new_name_settles_a_conflict_and_an_unknown_id_is_refused() {
        let mut rules = rules(Names::Api);
        rules.renames.insert("2".to_owned(), "ana2".to_owned());
        let plan = decide_on(vec![account("1", "ana"), account("2", "Ana")], &rules).await;
        assert!(plan.report.conflicts.is_empty());
        let names: Vec<_> = plan.accounts.iter().map(|planned| planned.account.username.as_str()).collect();
        assert_eq!(names, ["ana", "ana2"]);
        rules.renames.insert("3".to_owned(), "nobody".to_owned());
        let refused = decide(Source { accounts: vec![account("2", "Ana")], ..Source::default() }, &rules, None).await;
        assert!(refused.is_err());
    }

    #[tokio::test]
    async fn a_source_that_has_an_id_twice_is_refused() {
        let accounts = vec![account("1", "ana"), account("1", "bruno")];
        assert!(decide(Source { accounts, ..Source::default() }, &rules(Names::Api), None).await.is_err());
    }

    #[tokio::test]
    async fn what_breaks_a_rule_is_dropped_and_named_and_nothing_is_shortened() {
        let mut one = account("1", "ana");
        one.profile = vec![(ProfileField::City, "c".repeat(101)), (ProfileField::State, "NÖ".to_owned())];
        one.cellar = vec![Some(3), None, Some(1), Some(3), Some(0), Some(-1)];
        let plan = decide_on(vec![one], &rules(Names::Api)).await;
        let account = &plan.accounts[0].account;
        assert_eq!((account.profile.city.as_str(), account.profile.state.as_str()), ("", "NÖ"));
        assert_eq!(account.cellar.iter().map(|item| item.get()).collect::<Vec<_>>(), [1, 3]);
        let told: Vec<_> = plan.report.warnings.iter().map(|warning| warning.what.as_str()).collect();
        assert_eq!(told, ["city_dropped", "cellar_items_dropped", NO_PASSWORD]);
    }

    #[tokio::test]
    async fn the_newest_tokens_that_have_not_ended_are_carried_and_the_others_counted_by_reason() {
        let token = |created, expires: Option<i64>| SourceToken {
            digest: Ok(SourceDigest::Sha256(PlainToken::generate().digest())),
            created: Some(at(created)),
            expires: expires.map(at),
        };
        let mut one = account("1", "ana");
        one.tokens = vec![token(1, None), token(3, Some(1_000_000)), token(4, Some(1_000_001)), token(2, None)];
        one.tokens.push(SourceToken { digest: Err("token_form"), created: None, expires: None });
        let mut inactive = account("2", "bruno");
        (inactive.is_active, inactive.tokens) = (false, vec![token(1, None)]);
        let mut unsettled = account("3", "");
        unsettled.tokens = vec![token(1, None)];
        let mut fourth = account("4", "carla");
        fourth.tokens = vec![token(1, None), token(2, None), token(3, None)];
        let plan = decide_on(vec![one, inactive, unsettled, fourth], &rules(Names::Api)).await;
        let carried: Vec<_> = plan.accounts.iter().map(|planned| planned.account.tokens.len()).collect();
        assert_eq!(carried, [2, 0, 2]);
        assert_eq!(plan.report.tokens.carried, 4);
        let not_carried: Vec<_> = plan.report.tokens.not_carried.iter().map(|(why, count)| (&**why, *count)).collect();
        let expected = [("conflict", 1), ("expired", 1), ("inactive", 1), ("max_per_user", 2), ("token_form", 1)];
        assert_eq!(not_carried, expected);
        assert_eq!(plan.report.next.tokens_end_unused, Some(at(1_060_000)));
    }

    #[tokio::test]
    async fn times_that_are_not_known_are_those_before_them_or_the_moment_of_the_import() {
        let mut one = account("1", "ana");
        one.date_joined = Some(at(5));
        one.created = Some(at(7));
        let plan = decide_on(vec![one, account("2", "bruno")], &rules(Names::Api)).await;
        let times = |planned: &Planned| {
            let ImportedAccount { date_joined, created, modified, last_login, .. } = planned.account;
            [date_joined, created, modified, last_login].map(Timestamp::as_millis)
        };
        // Who joined at a time that is not known comes first.
        assert_eq!(times(&plan.accounts[1]), [5, 7, 7, 5]);
        assert_eq!(times(&plan.accounts[0]), [1_000_000; 4]);
    }
}
