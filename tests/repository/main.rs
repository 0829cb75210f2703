//! What every store must keep: one suite, run unchanged against each backend.
//!
//! A backend joins by one line at the end: `contract!(its_name, its_constructor)`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod suite;

use std::sync::Arc;
use std::time::Duration;

use authtokens::repository::Repository;
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};

/// An empty store, and whatever must live as long as it does.
pub struct Fixture {
    /// The store.
    pub repository: Arc<dyn Repository>,
    /// Makes an account unusable, as an operator would.
    pub deactivate: Box<dyn Fn(&str)>,
    _guard: Box<dyn std::any::Any>,
}

fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let settings =
        SqliteSettings { path: path.clone(), readers: 4, busy_timeout: Duration::from_secs(5), cache: 1 << 20 };
    Fixture {
        repository: Arc::new(SqliteRepository::open(&settings).unwrap()),
        deactivate: Box::new(move |username| {
            let connection = rusqlite::Connection::open(&path).unwrap();
            let changed = connection.execute("UPDATE users SET is_active = 0 WHERE username = ?1", [username]).unwrap();
            assert_eq!(changed, 1);
        }),
        _guard: Box::new(folder),
    }
}

/// Runs every sentence of the suite against one backend.
macro_rules! contract {
    ($backend:ident, $($sentence:ident)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $sentence() {
                    crate::suite::$sentence(&super::$backend()).await;
                }
            )*
        }
    };
    ($backend:ident) => {
        contract! {
            $backend,
            a_registered_user_is_found_by_any_case_of_its_name
            a_registration_answers_the_user_with_its_defaults_and_its_times
            a_taken_name_is_a_conflict_and_leaves_nothing_behind
            of_many_registrations_of_one_name_at_once_one_succeeds
            the_first_session_is_live_with_the_registration
            a_verified_login_opens_a_session_and_moves_last_login_alone
            a_login_against_a_hash_that_is_no_longer_stored_opens_nothing
            a_login_may_bring_a_new_hash
            an_account_that_may_not_be_used_has_no_live_session_and_opens_none
            a_revoked_session_is_gone_and_the_others_stay
            of_many_revocations_of_one_session_at_once_one_succeeds
            what_was_never_there_is_none_and_not_an_error
            a_session_ends_by_its_age_and_by_its_rest
            dead_sessions_are_forgotten_and_live_ones_are_not
            a_session_that_was_forgotten_is_known_to_nobody_whatever_the_clock_says_next
            what_is_stored_from_the_future_is_set_to_now_and_the_rest_is_not
            the_session_that_was_used_least_recently_makes_room
            sessions_are_listed_newest_first_and_ended_by_their_owner_only
            nothing_is_done_for_a_session_that_is_over
            what_queues_behind_the_end_of_its_session_is_not_done
            a_profile_changes_field_by_field_and_modified_moves_with_a_change
            a_new_password_ends_every_other_session
            a_deleted_account_is_gone_with_all_that_was_its_own
            a_list_holds_each_item_once_ascending_and_modified_moves_with_a_change
            of_many_edits_at_once_none_is_lost
            a_right_is_looked_up_in_the_transaction_that_uses_it
            the_last_active_superuser_stays_whoever_asks
            accounts_are_listed_in_the_order_of_their_folded_names
            a_change_is_told_in_events_once_and_an_event_outlives_its_account
            a_refused_attempt_is_kept_without_a_name_that_is_nobodys
            a_password_that_was_set_is_found_behind_the_event_that_one_knew
            a_list_goes_on_where_its_page_ended_until_nothing_is_left
            a_list_of_accounts_ends_where_their_lists_come_to_enough_items
            a_failure_that_a_new_password_has_followed_by_now_is_not_counted
            a_failure_counts_though_the_clock_was_ahead_at_the_login_and_the_new_password_before_it
            where_an_account_has_logged_in_from_is_known
            old_events_are_forgotten_and_no_number_is_given_twice
            a_store_that_can_work_says_so
            a_store_tells_how_much_it_did_and_holds
            a_closed_store_takes_no_more_writes
        }
    };
}

contract!(sqlite);
