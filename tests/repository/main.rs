//! What every store must keep: one suite, run unchanged against each backend.
//!
//! A backend joins by a function in `fixture.rs`, and by one line at the end: `contract!(its_name)`. A case joins by
//! its name in the list below; one that is not there is a warning, for nothing calls it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod account_races;
mod accounts;
mod administration;
mod administration_races;
mod at_once;
mod challenge_races;
mod challenges;
#[path = "../support/cluster.rs"]
mod cluster;
mod disowning;
mod event_races;
mod events;
mod factor_races;
mod factors;
mod fixture;
mod identities;
mod identity_races;
mod import_races;
mod imports;
mod list_races;
mod lists;
mod maintenance;
mod one_time_code_races;
mod one_time_codes;
mod outbox;
mod outbox_races;
mod passkey_races;
mod passkeys;
mod reaching;
mod service_races;
mod services;
mod session_races;
mod sessions;
mod ways;
mod webhook_races;
mod webhooks;
mod words;

/// Runs every case of the suite against one backend.
macro_rules! contract {
    ($backend:ident, $($concern:ident { $($case:ident)* })*) => {
        mod $backend {
            $(
                mod $concern {
                    $(
                        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                        async fn $case() {
                            if let Some(fixture) = crate::fixture::$backend() {
                                crate::$concern::$case(&fixture).await;
                            }
                        }
                    )*
                }
            )*
        }
    };
    ($backend:ident) => {
        contract! {
            $backend,
            accounts {
                a_registered_user_is_found_by_any_case_of_its_name
                a_registration_answers_the_user_with_its_defaults_and_its_times
                a_taken_name_is_a_conflict_and_leaves_nothing_behind
                a_login_may_bring_a_new_hash
                what_was_never_there_is_none_and_not_an_error
                a_profile_changes_field_by_field_and_modified_moves_with_a_change
                a_new_password_ends_every_other_session
                a_deleted_account_is_gone_with_all_that_was_its_own
                a_fresh_session_stands_for_the_password_until_the_password_changes
                an_account_is_deleted_by_a_fresh_session_and_by_no_other
            }
            account_races {
                of_many_who_take_one_name_at_once_in_whatever_case_one_gets_it
                of_two_changes_of_a_password_at_once_one_is_made
                no_session_that_an_old_password_opened_outlives_the_new_one
                a_login_that_brings_a_new_hash_of_the_old_password_never_undoes_the_new_one
                a_password_that_staff_set_stands_beside_a_change_by_its_owner
                nothing_is_left_of_a_deleted_account_that_was_in_use
                a_deletion_by_a_fresh_session_comes_before_a_change_of_the_password_or_is_not_made
                of_two_deletions_by_fresh_sessions_at_once_one_is_made
                of_two_changes_of_a_password_by_one_fresh_session_at_once_one_is_made
                no_session_is_fresh_by_a_password_that_is_changed_beside_it
                of_two_changes_of_an_account_at_once_neither_is_lost
            }
            sessions {
                the_first_session_is_live_with_the_registration
                a_verified_login_opens_a_session_and_moves_last_login_alone
                a_login_against_a_hash_that_is_no_longer_stored_opens_nothing
                an_account_that_may_not_be_used_has_no_live_session_and_opens_none
                a_revoked_session_is_gone_and_the_others_stay
                a_session_is_fresh_for_ten_minutes_by_the_password_of_its_account_and_by_nothing_else
                a_session_that_is_over_is_neither_fresh_nor_made_so
                a_session_ends_by_its_age_and_by_its_idle_timeout
                dead_sessions_are_pruned_and_live_ones_are_not
                a_session_that_was_pruned_is_not_found_whatever_the_clock_says_next
                the_least_recently_used_session_is_evicted
                sessions_are_listed_newest_first_and_ended_by_their_owner_only
                nothing_is_done_for_a_session_that_is_over
                what_queues_behind_the_end_of_its_session_is_not_done
            }
            services {
                a_service_is_known_by_its_name_and_its_key_until_it_is_revoked
                services_are_for_the_operator_and_superusers_and_leave_events
                there_are_no_more_services_than_there_may_be
                a_use_is_stored_where_it_is_later_or_the_stored_one_is_of_the_future
                a_live_token_tells_whose_it_is_as_it_is_now
                a_token_that_is_over_tells_nothing
            }
            service_races {
                of_many_who_add_one_name_at_once_one_gets_it
                once_its_revocation_is_acknowledged_a_service_that_is_in_use_is_known_nowhere
            }
            session_races {
                of_many_logins_at_once_as_many_sessions_are_left_as_there_may_be_and_the_newest
                of_many_revocations_of_one_session_at_once_one_succeeds
                once_its_end_is_acknowledged_a_session_that_is_in_use_is_found_no_more
                an_end_of_a_session_is_not_acknowledged_before_the_other_process_knows_of_it
                a_use_that_is_noted_beside_the_end_of_its_session_brings_nothing_back
                a_session_that_is_used_before_it_is_pruned_stays_and_one_that_is_pruned_is_not_served
            }
            lists {
                a_list_holds_each_item_once_ascending_and_modified_moves_with_a_change
                of_many_edits_at_once_none_is_lost
            }
            list_races {
                of_many_additions_at_once_to_a_list_with_room_for_one_item_one_is_added
                of_two_replacements_at_once_one_is_left_whole
                an_addition_beside_a_replacement_comes_before_it_or_behind_it
            }
            administration {
                a_right_is_looked_up_in_the_transaction_that_uses_it
                the_last_active_superuser_stays_whoever_asks
                accounts_are_listed_in_the_order_of_their_folded_names
                accounts_are_in_the_order_of_their_bytes_whatever_a_collation_makes_of_punctuation
                accounts_are_searched_in_names_and_addresses_without_regard_to_case_and_filtered_by_their_state
                a_list_goes_on_where_its_page_ended_until_nothing_is_left
                a_list_of_accounts_ends_where_their_lists_come_to_enough_items
                a_permission_is_checked_for_each_actor_and_each_account
            }
            administration_races {
                of_two_superusers_who_end_each_other_at_once_one_is_refused_and_stays
                of_two_last_superusers_who_go_at_once_one_is_refused_and_stays
                what_an_actor_does_who_loses_its_rights_at_once_comes_before_that_or_is_not_done
            }
            events {
                a_change_is_told_in_events_once_and_an_event_outlives_its_account
                a_refused_attempt_is_kept_without_a_name_that_is_nobodys
                the_failures_that_were_counted_come_with_the_credentials
                a_reauthentication_resets_the_failures_of_its_account
                a_password_that_was_set_is_found_behind_the_event_that_one_knew
                a_failure_that_a_new_password_has_followed_by_now_is_not_counted
                a_wrong_code_counts_though_its_owner_has_a_new_password_by_now_where_the_app_stays
                a_failure_counts_though_the_clock_was_ahead_at_the_login_and_the_new_password_before_it
                where_an_account_has_logged_in_from_is_known
                old_events_are_pruned_and_no_number_is_given_twice
                an_account_sees_its_own_events_and_of_what_others_did_not_who_and_where_from
            }
            webhooks {
                a_webhook_is_sent_what_happens_from_then_on_in_the_order_of_the_numbers
                a_claim_is_nobody_elses_until_it_ends_and_then_it_is_worth_nothing
                what_has_failed_is_due_again_at_its_time_and_gone_once_it_is_delivered
                a_webhook_that_fails_is_tried_one_at_a_time_and_its_first_failure_is_known
                only_the_kinds_that_are_wanted_are_sent_and_none_of_webhooks
                no_more_deliveries_wait_than_may_and_given_up_ones_are_remembered
                a_disabled_webhook_is_claimed_by_nobody_and_goes_on_where_it_stopped
                a_former_secret_is_given_until_its_end
                events_that_are_pruned_before_they_are_sent_are_counted_as_lost
                secrets_of_webhooks_are_counted_and_forgotten_with_their_key
                webhooks_are_for_superusers_and_the_operator_and_no_more_than_there_may_be
                what_was_written_while_the_clock_was_ahead_waits_for_nobody
            }
            webhook_races {
                of_two_who_claim_at_once_one_has_the_webhook
                no_event_that_is_committed_beside_others_is_missed
                a_webhook_that_is_removed_beside_its_settlement_is_gone
                of_many_who_add_webhooks_at_once_as_many_as_may_be_are_added
            }
            event_races {
                no_password_that_is_set_beside_others_is_missed_by_who_asks_again_and_again
            }
            one_time_codes {
                an_address_is_known_by_its_key_wherever_it_was_written_and_verified_until_it_is_another
                what_is_shown_of_an_address_is_what_is_stored_of_it_at_every_moment
                an_address_is_counted_as_verified_by_who_may_manage_the_account
                a_registration_with_a_confirmation_waits_for_it_and_one_without_does_not
                a_registration_by_an_identity_with_a_confirmation_waits_for_it
                a_change_of_the_address_is_made_when_its_code_is_given_and_ends_every_other_code
                a_change_of_the_address_is_made_by_its_link_without_a_session_once
                a_change_ends_by_a_newer_one_by_its_withdrawal_and_by_a_day_with_its_mail
                a_change_of_the_address_needs_its_proof
                the_fifth_wrong_code_of_a_change_ends_it_and_each_is_the_accounts
                an_address_is_verified_by_one_account_whoever_else_has_it
                a_mail_is_for_who_has_verified_the_address_or_else_for_the_oldest_active_account
                what_is_mailed_ends_what_was_mailed_before_for_the_same_and_nothing_else
                what_is_mailed_is_for_the_address_alone_that_the_account_has
                a_code_may_be_tried_and_the_fifth_wrong_one_ends_it
                a_wrong_code_of_a_reset_or_a_login_is_counted_too
                whoever_has_an_address_that_is_not_verified_hears_nothing_of_what_is_asked_for_there
                a_code_and_a_link_end_by_their_lifetimes_and_are_worth_nothing_before_they_were_made
                a_reset_sets_the_password_and_ends_all_that_was_before
                a_reset_leaves_an_account_inactive_and_a_mail_opens_no_session_of_one
                a_mail_opens_a_session_once_as_a_login_does
                the_first_proof_by_a_login_trusts_nothing_that_was_set_up_before
                a_code_makes_the_session_fresh_of_the_account_alone_that_it_was_mailed_for
                a_new_password_and_a_deactivation_end_what_opens_the_account
                who_disowns_a_login_ends_its_session_alone
                who_disowns_a_new_password_or_a_change_of_the_address_ends_every_session_and_the_change
                who_disowns_a_change_that_was_made_has_the_former_address_again
                a_thief_who_has_changed_the_address_cannot_end_what_its_owner_was_mailed
                once_an_address_is_restored_no_later_change_restores_another_however_late_its_mail_is
                a_pending_change_ends_with_what_its_owner_does_against_a_thief
                a_former_address_hears_of_its_change_and_of_nothing_else
                every_notice_can_be_disowned_and_of_very_many_the_newest
                what_has_expired_is_pruned_and_nothing_else
                a_deleted_account_has_no_codes_and_its_owner_is_told
            }
            one_time_code_races {
                of_two_resets_by_one_mail_at_once_one_is_made
                of_two_resets_by_two_mails_at_once_one_is_made
                of_two_logins_by_one_mail_at_once_one_opens_a_session
                of_two_sessions_that_one_code_makes_fresh_at_once_one_is
                of_many_wrong_codes_at_once_five_are_counted_and_then_the_right_one_is_worth_nothing
                no_session_that_an_old_password_opened_outlives_a_reset
                a_reset_beside_a_new_password_comes_before_it_or_is_not_made
                of_two_accounts_that_confirm_one_address_at_once_one_gets_it
                an_address_that_staff_and_its_holder_verify_at_once_is_one_accounts
                nothing_is_left_of_an_account_that_is_deleted_beside_a_reset_or_a_mail
            }
            outbox {
                a_claimed_mail_is_nobody_elses_until_its_claim_ends_and_then_the_claim_is_worth_nothing
                mails_are_claimed_longest_due_first_and_no_more_than_were_asked_for
                an_undelivered_mail_is_tried_again_at_its_time_or_given_up_which_is_an_event
                a_mail_that_is_worth_nothing_any_more_is_dropped_which_is_an_event
                the_owner_of_a_verified_address_is_told_of_each_change_and_nobody_else_is
                an_owner_is_told_where_its_own_changes_come_from_and_not_where_staff_work
                an_owner_is_told_of_a_login_from_a_new_network_by_a_new_program_once_a_day
                a_confirmation_that_is_mailed_again_takes_the_place_of_the_one_before
                nothing_is_stored_for_a_mail_that_is_not_to_be_sent_any_more
                nothing_is_put_in_the_outbox_while_no_mail_is_sent
            }
            outbox_races {
                of_many_who_claim_at_once_no_two_hold_one_mail_and_all_together_hold_each
                a_mail_whose_claim_ends_while_it_is_settled_is_settled_by_one
                a_mail_is_not_sent_for_a_change_that_is_withdrawn_beside_it_or_its_link_is_worth_nothing
            }
            factors {
                a_session_is_opened_by_each_first_factor_and_with_an_app_by_the_second_alone
                nobody_who_is_inactive_or_gone_gets_a_session_or_a_challenge
                a_login_by_a_password_that_is_no_longer_the_accounts_is_no_first_factor
                a_new_hash_is_stored_with_the_first_factor_though_the_second_is_due
                an_app_waits_for_its_first_code_and_then_it_is_the_accounts
                a_first_factor_that_was_right_is_told_where_the_second_lacks_and_no_other_attempt_is
                an_app_that_was_not_confirmed_in_time_is_pruned_and_no_other
                a_step_of_the_app_counts_once_and_none_before_it_counts_then
                a_recovery_code_counts_once_for_its_account_and_another_takes_its_place
                the_app_is_removed_in_a_fresh_session_with_the_second_factor_alone
                recovery_codes_are_replaced_in_a_fresh_session_with_the_second_factor_alone
                a_passkey_is_begun_in_a_fresh_session_and_with_the_second_factor_where_there_is_an_app
                staff_resets_the_factors_of_an_account_and_never_those_of_a_superuser
                secrets_are_counted_by_the_key_that_sealed_them_and_forgotten_with_it
                a_reset_leaves_factors_and_the_first_proof_of_a_mailbox_trusts_nothing_that_was_set_up_before
                a_session_becomes_fresh_by_its_own_accounts_factors_once_each
                what_opens_an_account_is_told_to_its_owner_as_facts
            }
            factor_races {
                of_two_logins_with_one_step_at_once_one_opens_a_session
                of_thirty_uses_of_one_recovery_code_at_once_one_opens_a_session
                of_two_confirmations_of_one_app_at_once_one_is_made_with_its_codes
                no_session_that_a_password_alone_opened_outlives_the_confirmation_of_an_app
                an_app_is_removed_by_a_code_that_opens_a_session_beside_it_or_the_session_is_not_opened
                no_login_that_an_old_password_began_is_finished_behind_the_new_one
            }
            passkeys {
                a_passkey_is_added_in_a_fresh_session_and_found_by_its_credential
                a_credential_is_one_accounts_and_an_account_has_so_many_passkeys_at_most
                passkeys_are_counted_by_their_domains
                a_signature_counts_where_the_passkey_is_as_it_was_read
                a_passkey_is_renamed_by_its_owner
                a_passkey_is_removed_in_a_fresh_session_by_its_owner
                the_last_way_into_an_account_stays
            }
            passkey_races {
                of_two_accounts_that_add_one_credential_at_once_one_has_it
                however_many_are_added_at_once_an_account_has_no_more_than_it_may
                of_two_signatures_that_move_one_counter_at_once_one_counts
                of_two_last_ways_into_an_account_that_go_at_once_one_stays
                nothing_is_left_of_an_account_that_is_deleted_beside_a_login_or_a_new_passkey
            }
            identities {
                an_account_is_registered_by_an_identity_that_is_nobodys_with_a_token_that_was_never_used
                the_address_of_who_registers_by_an_identity_is_verified_where_the_provider_speaks_for_it_and_it_is_free
                an_identity_is_linked_once_to_one_account
                an_identity_opens_the_account_that_it_is_linked_to_and_no_other
                an_identity_is_found_by_its_address_where_the_account_has_verified_that_and_has_room
                an_identity_that_was_found_by_its_address_is_linked_with_the_second_factor_where_it_still_may_be
                an_id_token_that_was_used_makes_no_second_factor_count
                an_identity_is_unlinked_in_a_fresh_session_by_its_owner
                an_identity_that_its_provider_withdraws_ends_the_sessions_and_is_unlinked_where_another_way_is_left
                a_withdrawal_from_before_an_identity_was_last_used_ends_nothing
                a_refresh_token_is_revoked_whenever_its_identity_goes
                a_refresh_token_that_a_login_brings_takes_the_place_of_the_one_before
                a_claimed_revocation_is_nobody_elses_until_its_claim_ends_and_then_the_claim_is_worth_nothing
                revocations_are_claimed_longest_due_first_and_given_up_after_two_days
                an_id_token_counts_once_whatever_it_is_for
            }
            identity_races {
                of_two_accounts_that_link_one_identity_at_once_one_has_it
                of_a_link_and_a_registration_by_one_identity_at_once_one_is_made
                of_two_registrations_by_one_identity_at_once_one_is_made
                of_two_logins_by_one_id_token_at_once_one_opens_a_session
                of_two_logins_that_find_an_identity_by_its_address_at_once_both_open_and_it_is_linked_once
                however_many_are_linked_at_once_an_account_has_no_more_than_it_may
                nothing_is_left_of_an_account_that_is_deleted_beside_a_login_by_its_identity
                of_many_who_claim_at_once_no_two_hold_one_revocation_and_all_together_hold_each
                a_revocation_whose_claim_ends_while_it_is_settled_is_settled_by_one
            }
            challenges {
                a_challenge_is_taken_once_for_its_purpose_by_whoever_began_it
                a_challenge_ends_at_its_time
                a_challenge_is_nothing_for_a_session_that_is_over
                of_the_challenges_of_one_purpose_an_account_keeps_the_newest
                a_login_is_tried_five_times_at_most_and_the_fifth_may_finish_it
                what_an_owner_or_staff_does_against_a_thief_ends_what_the_account_has_begun
                what_has_expired_is_pruned_and_a_used_id_token_when_it_is_worth_nothing
                what_was_begun_while_the_clock_was_ahead_is_over_and_a_used_id_token_is_not_forgotten
            }
            challenge_races {
                of_many_who_take_one_challenge_at_once_one_has_it
                of_many_tries_at_one_login_at_once_five_are_begun
                of_two_who_finish_one_login_at_once_one_opens_a_session
                however_many_are_begun_at_once_an_account_keeps_ten_of_a_purpose
            }
            imports {
                an_imported_account_is_there_whole
                what_was_imported_before_is_left_as_it_is_whatever_has_become_of_it
                an_account_whose_name_is_taken_is_not_imported_and_its_id_is_not_remembered
                an_id_that_comes_twice_in_a_batch_is_one_account
                a_verified_address_counts_unless_another_account_has_verified_it
                a_token_that_a_session_has_already_stays_that_sessions
                names_beyond_the_api_are_known_to_be_there_also_when_their_account_is_gone
                the_hardest_imported_hash_is_known_until_its_owner_has_one_of_ours
                a_session_ends_by_its_own_end_however_it_is_used
                a_login_evicts_a_session_that_has_come_to_its_own_end_before_any_other
                a_token_that_is_known_by_its_sha_512_is_adopted_and_is_one_as_any_other_then
                nobody_is_let_in_by_what_is_stored
                an_imported_account_logs_in_and_is_deleted_as_any_other
                a_full_batch_is_imported_at_once
                the_first_login_after_an_import_is_told_to_nobody_and_the_next_one_is
            }
            disowning {
                each_change_to_the_ways_into_an_account_is_told_to_its_owner
                who_disowns_a_notice_takes_back_what_was_added_since_and_nothing_older
                who_disowns_an_app_that_was_added_has_none_and_none_of_its_recovery_codes
                how_an_account_can_be_got_into_is_told_to_whoever_may_manage_it
            }
            import_races {
                of_two_imports_of_the_same_at_once_each_account_is_made_by_one
                of_an_import_and_a_registration_of_one_name_at_once_one_is_made
                of_an_import_and_another_who_verify_one_address_at_once_one_does
                all_who_present_a_token_at_once_are_let_in_and_it_is_one_session
                a_token_that_is_adopted_beside_its_end_is_worth_nothing_after_it
            }
            maintenance {
                a_store_that_can_work_says_so
                a_store_tells_how_much_it_did_and_holds
                a_closed_store_takes_no_more_writes
                a_reauthentication_from_the_future_is_forgotten_and_makes_nothing_fresh
                what_is_stored_from_the_future_is_set_to_now_and_nothing_else_is
                a_code_from_the_future_is_over_and_a_mail_from_the_future_waits_no_longer
            }
        }
    };
}

contract!(sqlite);
contract!(postgres);
