//! What staff may do to accounts, and who may do it.
//!
//! Staff (`is_staff`) see every account and its events; they deactivate, reset and log out accounts that have no rights
//! themselves. Superusers (`is_superuser`) do that to every account, and also give and take rights and delete. Nobody
//! does any of it to themselves, so nobody raises their own rights; the last active superuser stays. The operator at
//! the server's own command line is bound only by the last of these.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::domain::session::Caller;
use crate::domain::user::{COMMAND_LINE, MAX_KEY_CHARS, PasswordHash, User, UserId, Username, fold_name};
use crate::system::visible::is_unseen;

/// On whose behalf a call is made. A session's rights are read in the same transaction that relies on them.
#[derive(Clone, Copy)]
pub enum Actor {
    /// The holder of a token.
    Session(Caller),
    /// The operator, by a command on the server itself.
    CommandLine,
}

impl Actor {
    /// Whether it is the operator, at the command line of the server itself.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        matches!(self, Self::CommandLine)
    }

    /// The address that the request comes from, where it is known.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Session(caller) => caller.ip,
            Self::CommandLine => None,
        }
    }
}

/// An actor whose rights have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Acting {
    /// Staff, or a superuser.
    Staff {
        user_id: UserId,
        username: String,
        is_superuser: bool,
    },
    Operator,
}

/// The rights of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// May see all accounts, and manage those without rights.
    pub is_staff: bool,
    /// May do everything.
    pub is_superuser: bool,
}

impl Rights {
    /// Whether the account has any right.
    #[must_use]
    pub fn any(self) -> bool {
        self.is_staff || self.is_superuser
    }
}

/// The account that an actor wants to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Target {
    pub user_id: UserId,
    pub rights: Rights,
    pub is_active: bool,
}

impl Acting {
    /// The name under which events have this actor.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Staff { username, .. } => username,
            Self::Operator => COMMAND_LINE,
        }
    }

    /// Whether there can be an account on which the actor has the permission.
    #[must_use]
    pub fn may_ever(&self, permission: Permission) -> bool {
        match self {
            Self::Operator => true,
            Self::Staff { is_superuser, .. } => permission == Permission::ManageAccount || *is_superuser,
        }
    }

    /// Whether the actor has the permission on this account.
    #[must_use]
    pub fn may(&self, permission: Permission, target: &Target) -> bool {
        match self {
            Self::Operator => true,
            Self::Staff { user_id, is_superuser, .. } => {
                *user_id != target.user_id
                    && (*is_superuser || (permission == Permission::ManageAccount && !target.rights.any()))
            }
        }
    }
}

/// What may be done to accounts, apart from reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// To end its sessions, and change its password and state.
    ManageAccount,
    /// To delete it, and change its rights.
    AdministerAccount,
}

/// The changes to make to an account.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AccountChange {
    /// `false` ends its sessions.
    pub is_active: Option<bool>,
    pub is_staff: Option<bool>,
    pub is_superuser: Option<bool>,
    /// The hash of a new password. Every session ends.
    pub password_hash: Option<PasswordHash>,
}

impl AccountChange {
    /// The permission that the change needs.
    #[must_use]
    pub fn permission(&self) -> Permission {
        if self.is_staff.is_some() || self.is_superuser.is_some() {
            Permission::AdministerAccount
        } else {
            Permission::ManageAccount
        }
    }
}

/// A cursor into a list of accounts. A store makes it, a client sees it as a folded name and gives it back for the next
/// page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountCursor(String);

impl AccountCursor {
    /// After the account of this name.
    pub(crate) fn behind(username: &Username) -> Self {
        Self(username.key())
    }

    /// The folded name of the account that it points after.
    pub(crate) fn key(&self) -> &str {
        &self.0
    }

    /// Reads a cursor that a client gave back, or a name. A folded name may be longer than any name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_short = text.chars().take(MAX_KEY_CHARS + 1).count() <= MAX_KEY_CHARS;
        let is_name = is_short && !text.is_empty() && text.trim() == text && !text.chars().any(is_unseen);
        is_name.then(|| Self(fold_name(text)))
    }
}

impl fmt::Display for AccountCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which accounts to list, in the order of their folded names. `None` filters nothing.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct UserQuery {
    /// Only accounts with this text in a name or the email address.
    pub search: Option<SearchText>,
    pub is_active: Option<bool>,
    pub is_staff: Option<bool>,
    pub is_superuser: Option<bool>,
    /// Only accounts after the last one of a page.
    pub after: Option<AccountCursor>,
    pub limit: u32,
    /// The page ends early once the lists of its accounts have this many items together.
    pub enough_items: Option<usize>,
}

/// A text that is searched for without regard to case, in whatever script.
#[derive(Clone, Debug)]
pub struct SearchText(String);

impl SearchText {
    /// Folds the text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(fold(text))
    }

    #[must_use]
    pub(crate) fn as_folded(&self) -> &str {
        &self.0
    }
}

/// Whether a folded text is in a text that is not folded.
#[must_use]
pub(crate) fn is_folded_in(folded: &str, text: &str) -> bool {
    let Some(first) = folded.bytes().next() else { return true };
    if !text.is_ascii() {
        return fold(text).contains(folded);
    }
    // Nearly every text is ASCII, and needs no copy.
    let is_here = |part: &[u8]| part[0].to_ascii_lowercase() == first && part.eq_ignore_ascii_case(folded.as_bytes());
    text.as_bytes().windows(folded.len()).any(is_here)
}

/// Case folding, close to Unicode's full case folding: texts that differ only in case become the same, and `ß` becomes
/// what `SS` does. All of the Turkish letters I, dotted or not, are one. An accent may be part of its letter or follow
/// it (NFC).
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            folded.push(c.to_ascii_lowercase());
            continue;
        }
        // To upper case and back, for letters with several forms of a case: ς and σ, ẞ and ß. Letter by letter, because
        // the form that str::to_lowercase gives a sigma depends on where a word ends.
        for c in c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase) {
            let is_dot_of_i = c == '\u{307}' && folded.ends_with('i');
            if !is_dot_of_i {
                folded.push(c);
            }
        }
    }
    match ComposingNormalizerBorrowed::new_nfc().normalize(&folded) {
        Cow::Borrowed(_) => folded,
        Cow::Owned(composed) => composed,
    }
}

impl UserQuery {
    /// Whether these accounts fill a page; more may follow.
    #[must_use]
    pub fn is_full(&self, users: &[User]) -> bool {
        let items = || users.iter().map(|user| user.cellar.len() + user.wants.len()).sum::<usize>();
        users.len() >= self.limit as usize || self.enough_items.is_some_and(|enough| items() >= enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(id: i64, is_staff: bool, is_superuser: bool) -> Target {
        Target { user_id: UserId(id), rights: Rights { is_staff, is_superuser }, is_active: true }
    }

    #[test]
    fn a_text_is_found_without_regard_to_case_in_whatever_script() {
        for (search, text) in [
            ("özil", "Özil"),
            ("ÖZIL", "Mesut Özil"),
            ("straße", "STRASSE"),
            ("strasse", "Große Straße"),
            ("STRA\u{1e9e}E", "straße"),
            ("ΓΙΏΡΓΟΣ", "Γιώργος"),
            ("γιώργος", "ΓΙΏΡΓΟΣ"),
            ("σας", "ΣΑΣΑ"),
            ("istanbul", "İstanbul"),
            ("İSTANBUL", "istanbul"),
            ("ısparta", "Isparta"),
            ("diyarbakir", "DİYARBAKIR"),
            ("i\u{307}zmir", "İzmir"),
            ("ЁЛКИН", "Ёлкин"),
            ("o\u{308}zil", "Özil"),
            ("özil", "O\u{308}ZIL"),
            ("ΐ", "\u{3aa}\u{301}"),
            ("ﬁ", "FI"),
            ("ÅNGSTRÖM", "\u{212b}ngström"),
            ("k", "\u{212a}elvin"),
            ("山田", "山田太郎"),
            ("a", "AÖ"),
        ] {
            assert!(is_folded_in(SearchText::new(search).as_folded(), text), "{search} in {text}");
        }
        for (search, text) in
            [("ozil", "Özil"), ("özil", "Ozil"), ("%", "ö"), ("_", "ö"), ("özil", "Öz"), ("abc", "ab"), ("ß", "s")]
        {
            assert!(!is_folded_in(SearchText::new(search).as_folded(), text), "{search} in {text}");
        }
    }

    #[test]
    fn staff_manage_those_without_rights_superusers_all_and_nobody_themselves() {
        let acting = |is_superuser| Acting::Staff { user_id: UserId(1), username: "s".to_owned(), is_superuser };
        for (is_superuser, account, manage, govern) in [
            (false, target(2, false, false), true, false),
            (false, target(2, true, false), false, false),
            (false, target(2, false, true), false, false),
            (false, target(1, true, false), false, false),
            (true, target(2, false, false), true, true),
            (true, target(2, true, true), true, true),
            (true, target(1, true, true), false, false),
        ] {
            assert_eq!(
                acting(is_superuser).may(Permission::ManageAccount, &account),
                manage,
                "{is_superuser} {account:?}"
            );
            assert_eq!(
                acting(is_superuser).may(Permission::AdministerAccount, &account),
                govern,
                "{is_superuser} {account:?}"
            );
        }
        assert!(Acting::Operator.may(Permission::AdministerAccount, &target(1, true, true)));
        assert!(
            acting(false).may_ever(Permission::ManageAccount) && !acting(false).may_ever(Permission::AdministerAccount)
        );
        assert!(
            acting(true).may_ever(Permission::AdministerAccount)
                && Acting::Operator.may_ever(Permission::AdministerAccount)
        );
    }
}
