//! The schemes in which password hashes are stored: one is written, and all in the list are verified.
//!
//! To add one: a file that implements [`StoredHash`], and a line in [`SCHEMES`]. A password that matches a hash of
//! another scheme, or of another cost, is rehashed as the service writes hashes now.
//!
//! **The equal-work rule**: every refused verification takes the work of one hash at the configured cost. So response
//! times do not tell whether an account exists or is active, nor the scheme or the cost of its hash. Only a stored hash
//! of a higher cost takes longer.
//!
//! While hashes of other systems are left, every refusal takes the work of the hardest of them, where that is more, and
//! up to [`HARDEST`] times the work of the configured cost; and twice that where the password has outer white space,
//! without which such a hash is tried again.

mod argon2;
mod bcrypt;
mod bcrypt_sha256;
mod pbkdf2;
mod scheme;
mod scrypt;
mod speed;
#[cfg(test)]
mod vectors;
mod wrapped;

use std::iter;
use std::time::Duration;

use crate::domain::user::{COSTS, PasswordHash};
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::bcrypt_sha256::BcryptSha256;
use crate::passwords::schemes::scheme::Scheme;
pub(super) use crate::passwords::schemes::scheme::StoredHash;
pub(super) use crate::passwords::schemes::wrapped::WeakDigest;
use crate::system::clock::cpu_time_of_thread;

/// All schemes. A stored text is read by the first that knows its format.
const SCHEMES: &[Scheme] =
    &[bcrypt_sha256::SCHEME, pbkdf2::SCHEME, argon2::SCHEME, bcrypt::SCHEME, scrypt::SCHEME, wrapped::SCHEME];

/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 512;

/// How many times the work of the configured cost a refusal takes at most. An account whose imported hash is harder
/// takes longer to refuse, and is told by it: else one such account would make every refusal slow.
const HARDEST: u64 = 4;

/// The outcome of a verification.
pub struct Verification {
    /// Whether the password is the one that was hashed.
    pub matches: bool,
    /// A new hash of the password, where it matches and the stored hash is of another scheme or cost.
    pub rehashed: Option<PasswordHash>,
}

/// Reads a stored text; `None` where it is of no scheme.
pub(super) fn parse(stored: &str) -> Option<Box<dyn StoredHash>> {
    if stored.len() > MAX_TEXT {
        return None;
    }
    SCHEMES.iter().find_map(|scheme| (scheme.parse)(stored))
}

/// Whether a stored hash is of a known scheme, in its canonical form, or says that the account has no password.
#[must_use]
pub fn is_well_formed(hash: &PasswordHash) -> bool {
    // One hash can be encoded in several ways, of which the service uses one.
    hash.is_none() || parse(hash.as_stored()).is_some_and(|parsed| parsed.encode() == *hash)
}

/// A new hash, in the scheme that the service writes.
pub(super) fn hash(password: &PlainPassword, cost: u32) -> PasswordHash {
    BcryptSha256::new(password, cost).encode()
}

/// A weak digest in a hash of our own.
pub(super) fn wrap(digest: &WeakDigest, cost: u32) -> (PasswordHash, u64) {
    let wrapped = digest.wrap(cost);
    (wrapped.encode(), wrapped.work())
}

/// Verifies a password against a stored hash, or against none, and keeps the equal-work rule. `hardest` is the work of
/// the hardest imported hash that is left.
///
/// A password with outer white space is tried against an imported hash without it too: many forms take it off. It is not
/// hashed anew then, because the password without the space has to go on opening; nor where it ends in a NUL, which some
/// schemes do not tell from its end.
pub(super) fn verify(
    password: &PlainPassword,
    stored: Option<&dyn StoredHash>,
    cost: u32,
    hardest: Option<u64>,
) -> Verification {
    let trimmed = password.trimmed();
    let mut done = 0;
    if let Some(stored) = stored {
        let begun = cpu_time_of_thread();
        let is_imported = stored.is_imported();
        let again = trimmed.as_ref().filter(|_| is_imported);
        for (tried, is_trimmed) in iter::once((password, false)).chain(again.map(|trimmed| (trimmed, true))) {
            if stored.verify(tried) {
                let has_other_forms = is_imported && (is_trimmed || password.as_str().ends_with('\0'));
                let rehashed = (!stored.is_current(cost) && !has_other_forms).then(|| hash(password, cost));
                return Verification { matches: true, rehashed };
            }
            done += stored.work();
        }
        if is_imported {
            done = measured(cpu_time_of_thread().saturating_sub(begun), done);
        }
    }
    burn_equal_work(password, work_of_a_refusal(cost, hardest, trimmed.is_some()).saturating_sub(done));
    Verification { matches: false, rehashed: None }
}

/// How much work was done in this time of the processor, in rounds of bcrypt. How much it should be is known for one
/// processor: another may be faster at the one than at the other.
#[cfg(not(test))]
fn measured(took: Duration, _expected: u64) -> u64 {
    speed::rounds_in(took)
}

/// Tests count the work, which no other load of the machine changes.
#[cfg(test)]
fn measured(_took: Duration, expected: u64) -> u64 {
    expected
}

/// How much work a refusal takes, in rounds of bcrypt, whichever account it is of, and where there is none.
fn work_of_a_refusal(cost: u32, hardest: Option<u64>, is_tried_twice: bool) -> u64 {
    let own = 1_u64 << cost;
    let imported = hardest.unwrap_or(0).min(own * HARDEST);
    own.max(if is_tried_twice { 2 * imported } else { imported })
}

/// Does so many rounds of bcrypt and discards the results.
fn burn_equal_work(password: &PlainPassword, rounds: u64) {
    let begun = cpu_time_of_thread();
    for cost in costs_of(rounds) {
        BcryptSha256::burn(password, cost);
    }
    speed::note_rounds(rounds, cpu_time_of_thread().saturating_sub(begun));
}

/// The costs of the hashes that together take so many rounds. One hash at cost c takes 2^c rounds, so there is one hash
/// for each bit that is set, and as many as it takes of the highest cost. Example: after a hash at cost 10, 2^10 + 2^11 of
/// the 2^12 rounds of cost 12 are left. Fewer rounds than those of the lowest cost are skipped.
fn costs_of(rounds: u64) -> impl Iterator<Item = u32> {
    let highest = *COSTS.end();
    let lower = (*COSTS.start()..highest).filter(move |cost| rounds & (1 << cost) != 0);
    (0..rounds >> highest).map(move |_| highest).chain(lower)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passwords::schemes::scheme::work;

    fn plain(text: &str) -> PlainPassword {
        PlainPassword::parse("password", text.to_owned()).unwrap()
    }

    /// How many rounds of bcrypt a verification takes, and whether the password matched.
    fn work_of(password: &str, stored: Option<&dyn StoredHash>, cost: u32) -> (u64, bool) {
        let before = work::done();
        let verification = verify(&plain(password), stored, cost, None);
        (work::done() - before, verification.matches)
    }

    fn bcrypt(password: &str, cost: u32) -> Box<dyn StoredHash> {
        parse(hash(&plain(password), cost).as_stored()).unwrap()
    }

    /// Hashes of a password in every scheme, at several costs.
    fn examples(password: &str) -> impl Iterator<Item = Box<dyn StoredHash>> {
        SCHEMES.iter().flat_map(move |scheme| {
            let examples = (scheme.examples)(&plain(password));
            assert!(examples.len() > 1, "a scheme without examples is not tested");
            examples
        })
    }

    #[test]
    fn a_hash_is_made_anew_after_a_match_where_its_scheme_or_its_cost_is_another_and_only_then() {
        for (stored, cost) in examples("hunter2").flat_map(|stored| [5, 6].map(|cost| (stored.encode(), cost))) {
            let parsed = parse(stored.as_stored()).unwrap();
            let refused = verify(&plain("hunter3"), Some(&*parsed), cost, None);
            assert!(!refused.matches && refused.rehashed.is_none(), "{}", stored.as_stored());
            let matched = verify(&plain("hunter2"), Some(&*parsed), cost, None);
            assert!(matched.matches, "{}", stored.as_stored());
            let prefix = format!("$bcrypt-sha256$v=2,t=2b,r={cost}$");
            assert_eq!(matched.rehashed.is_none(), stored.as_stored().starts_with(&prefix), "{}", stored.as_stored());
            if let Some(rehashed) = matched.rehashed {
                assert!(rehashed.as_stored().starts_with(&prefix), "{}", rehashed.as_stored());
                assert!(parse(rehashed.as_stored()).unwrap().verify(&plain("hunter2")));
            }
        }
    }

    #[test]
    fn a_refusal_takes_the_work_of_an_unknown_user_whatever_scheme_and_lower_cost_the_stored_hash_has() {
        let cost = 10;
        assert_eq!(work_of("wrong", None, cost), (1 << cost, false), "an unknown user");
        for stored in examples("hunter2") {
            let name = stored.encode();
            assert!(stored.work() <= 1 << cost, "an example is too much work for a test: {}", name.as_stored());
            let (done, matches) = work_of("wrong", Some(&*stored), cost);
            assert!(!matches, "{}", name.as_stored());
            // Less than the lowest cost's work makes no difference that anyone could measure.
            let missing = (1_u64 << cost).abs_diff(done);
            assert!(missing < 1 << COSTS.start(), "{} takes {done} rounds", name.as_stored());
        }
    }

    #[test]
    fn a_scheme_says_how_much_work_its_hashes_are() {
        for stored in examples("hunter2") {
            let before = work::done();
            assert!(stored.verify(&plain("hunter2")));
            assert_eq!(work::done() - before, stored.work(), "{}", stored.encode().as_stored());
        }
    }

    #[test]
    fn only_a_hash_of_a_higher_cost_takes_longer_to_refuse_and_only_a_match_is_hashed_twice() {
        let hash = bcrypt("hunter2", 6);
        assert_eq!(work_of("wrong", Some(&*hash), 5), (1 << 6, false));
        assert_eq!(work_of("hunter2", Some(&*hash), 6), (1 << 6, true));
        assert_eq!(work_of("hunter2", Some(&*hash), 7), ((1 << 6) + (1 << 7), true));
    }

    /// How many rounds a refusal takes while imported hashes are left, of which the hardest takes `hardest`.
    fn refusal(password: &str, stored: Option<&dyn StoredHash>, cost: u32, hardest: u64) -> u64 {
        let before = work::done();
        assert!(!verify(&plain(password), stored, cost, Some(hardest)).matches);
        work::done() - before
    }

    #[test]
    fn while_imported_hashes_are_left_a_refusal_takes_the_work_of_the_hardest_whatever_account_it_is_of() {
        let (cost, hardest) = (5, 70);
        for (password, expected) in [("wrong", hardest), (" wrong", 2 * hardest), ("wrong\n", 2 * hardest)] {
            assert_eq!(
                refusal(password, None, cost, hardest).abs_diff(expected) >> COSTS.start(),
                0,
                "an unknown user"
            );
            for stored in examples("hunter2") {
                let tries = if stored.is_imported() && expected > hardest { 2 } else { 1 };
                if stored.work() * tries <= expected {
                    let missing = refusal(password, Some(&*stored), cost, hardest).abs_diff(expected);
                    assert_eq!(missing >> COSTS.start(), 0, "{}", stored.encode().as_stored());
                }
            }
        }
    }

    #[test]
    fn the_hardest_imported_hash_makes_a_refusal_four_times_as_much_work_at_most_and_an_easy_one_none() {
        let cost = 6;
        for (hardest, expected) in [(1, 1), (64, 1), (128, 2), (256, 4), (257, 4), (u64::MAX, 4)] {
            assert_eq!(refusal("wrong", None, cost, hardest), expected << cost, "{hardest}");
        }
        assert_eq!(refusal(" wrong ", None, cost, 48), 96);
        assert_eq!(refusal(" wrong ", None, cost, u64::MAX), 8 << cost);
        assert_eq!(work_of(" wrong ", None, cost), (1 << cost, false), "without imports");
    }

    #[test]
    fn all_of_the_work_is_burnt_also_where_it_is_more_than_a_hash_of_the_highest_cost() {
        for rounds in [0, 15, 16, 4_096, 3_072, 65_536, 65_552, 131_071, 131_072, 400_000, (8 << 16) + 33] {
            let burnt: u64 = costs_of(rounds).map(|cost| 1_u64 << cost).sum();
            assert_eq!(burnt, rounds - rounds % (1 << COSTS.start()), "{rounds}");
            assert!(costs_of(rounds).all(|cost| COSTS.contains(&cost)));
        }
    }

    #[test]
    fn an_imported_hash_is_tried_once_more_without_outer_white_space_and_then_left_as_it_is() {
        for stored in examples("hunter2").filter(|stored| stored.work() < 64) {
            let is_imported = stored.is_imported();
            for typed in ["  hunter2", "hunter2\n", "\u{3000}hunter2\u{1c}"] {
                let verification = verify(&plain(typed), Some(&*stored), 4, None);
                assert_eq!(verification.matches, is_imported, "{}", stored.encode().as_stored());
                assert!(verification.rehashed.is_none(), "the password without it has to go on opening");
            }
            for other in ["hunter 2", " hunter", "\u{200b}hunter2", "  "] {
                assert!(!verify(&plain(other), Some(&*stored), 4, None).matches, "{}", stored.encode().as_stored());
            }
        }
        for stored in examples(" hunter2").filter(|stored| stored.work() < 64) {
            assert!(verify(&plain(" hunter2"), Some(&*stored), 4, None).matches, "as it was typed");
            assert!(!verify(&plain("hunter2"), Some(&*stored), 4, None).matches);
        }
    }

    #[test]
    fn a_password_that_ends_in_a_nul_never_takes_the_place_of_the_one_without() {
        for stored in examples("hunter2").filter(|stored| stored.work() < 64 && stored.is_imported()) {
            let verification = verify(&plain("hunter2\0"), Some(&*stored), 4, None);
            assert!(verification.rehashed.is_none(), "{}", stored.encode().as_stored());
        }
    }

    #[test]
    fn a_hash_of_no_known_scheme_is_refused() {
        for stored in ["", "hunter2", "$2x$12$EVDQ2hbGph0i.0Gx58OM.e4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe", "!", "md5$a$b"] {
            assert!(parse(stored).is_none(), "{stored}");
        }
    }
}
