//! The contract: every line of DESIGN.md's sections 3 and 4, on every store, in both worlds.
//!
//! A new backend is one line of the table at the end. A new promise is one `async fn` in one of the
//! modules, and its name in [`lines`]. Every store × line is a test of its own:
//! `cargo test -p cacheio-tests --test contract threads::memory::counters` runs some.

#![cfg(not(shuttle))]

mod batch_loads;
mod batches;
mod circles;
mod counters;
mod drops;
mod failures;
mod invalidation;
mod keys;
mod loads;
mod namespaces;
mod panics;
mod slow;
mod stale;
mod tags;
mod ttl;
mod values;

/// What the lines use.
mod prelude {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::time::Duration;

    pub(crate) use cacheio_core::{ErrorKind, LoadError, Options, Ttl};
    pub(crate) use cacheio_tests::face::{Face, Tasks, join_all};
    pub(crate) use cacheio_tests::place::{Place, Setup};
    pub(crate) use cacheio_tests::stage::Stage;
}

/// Every line of the contract, for one store.
macro_rules! lines {
    (Threads, $time:expr, $store:expr) => {
        each_line!(Threads, $time, $store);
    };
    (Tasks, $time:expr, $store:expr) => {
        each_line!(Tasks, $time, $store);
        tests! {
            Tasks, $time, $store;
            drops: {
                a_leader_that_is_aborted_is_replaced_by_one_of_100_waiters
                a_leader_that_is_dropped_at_any_await_harms_nobody
                a_writer_that_is_dropped_at_any_await_harms_nobody
                a_waiter_that_is_dropped_harms_nobody
                a_load_that_times_out_frees_its_key
                the_aborted_leader_of_a_nested_load_frees_both_keys
                leader_dropped_at_every_await
            }
        }
    };
}

macro_rules! each_line {
    ($world:ident, $time:expr, $store:expr) => {
        tests! {
            $world, $time, $store;
            values: {
                a_missing_key_is_none
                what_was_set_is_read_as_it_was
                none_is_a_value
                set_replaces_the_value
                has_says_what_get_would_find
                get_arc_shares_the_value_on_memory
                a_str_is_read_as_a_string
                an_integer_is_read_as_a_wider_one
                a_struct_is_read_as_another_that_fits
                a_wrong_type_is_a_decode_error_and_changes_nothing
                get_or_set_overwrites_a_wrong_type
                delete_says_whether_there_was_a_live_entry
                what_never_leaves_the_process_works_on_memory_only
                what_cannot_be_encoded_changes_nothing
                what_cannot_be_encoded_still_reaches_the_caller_of_get_or_set
                add_stores_only_where_nothing_is
                add_is_atomic
                a_clone_is_the_same_cache
                the_store_answers_a_ping
            }
            ttl: {
                an_entry_lives_until_its_ttl_is_over_to_the_millisecond
                an_entry_without_a_ttl_lives_for_the_default_one
                the_default_ttl_is_300_seconds
                never_outlives_the_default_ttl
                a_default_ttl_of_never
                a_default_ttl_of_zero_is_refused
                set_replaces_the_ttl
                set_many_gives_all_their_ttl
                a_ttl_of_zero_stores_nothing_and_removes_what_was_there
                add_with_a_ttl_of_zero_stores_nothing
                touch_gives_a_live_entry_a_new_ttl
                touch_can_make_an_entry_last
                touch_with_zero_removes
                touch_of_nothing_live_is_false
                touch_leaves_the_value
                delete_of_an_expired_entry_is_false
                add_takes_the_place_of_an_expired_entry
                what_get_or_set_stores_has_its_ttl
                get_or_set_with_a_ttl_of_zero_stores_nothing
                a_ttl_that_is_too_long_is_refused_and_changes_nothing
                the_longest_ttl_is_taken
                jitter_only_shortens
                what_nobody_reads_expires
                what_is_read_stays
                what_is_read_ends_with_its_ttl
            }
            counters: {
                a_missing_counter_counts_from_zero
                a_counter_goes_below_zero
                by_zero_makes_a_counter
                a_counter_keeps_its_ttl
                a_new_counter_takes_the_default_ttl
                a_new_counter_takes_the_ttl_it_is_given
                an_expired_counter_begins_anew
                a_ttl_of_zero_is_refused_and_changes_nothing
                any_stored_integer_counts
                a_counter_is_read_as_any_integer_that_fits
                what_is_no_integer_is_refused_and_unchanged
                overflow_is_refused_and_changes_nothing
                the_smallest_integer_counts_but_cannot_be_subtracted
                a_counter_is_replaced_by_set_and_removed_by_delete
                no_update_is_lost
                a_counter_has_no_tags
                a_ttl_that_is_too_long_makes_no_counter
            }
            batches: {
                get_many_keeps_the_order_and_duplicates
                get_many_tells_none_from_missing
                get_many_of_a_wrong_type_names_the_key
                empty_batches_do_nothing
                set_many_replaces_and_the_later_duplicate_stays
                set_many_stores_nothing_if_one_value_cannot_be_encoded
                delete_many_counts_live_entries_once
                delete_many_does_not_count_expired_entries
                a_batch_of_a_thousand
            }
            keys: {
                nasty_keys_are_distinct_and_round_trip
                nasty_keys_in_batches
                nasty_keys_can_be_counted_loaded_touched_and_deleted
                different_tuples_are_different_keys
                a_tuple_is_its_parts_joined
                all_that_can_be_a_key
                a_key_that_looks_like_a_replaced_one_is_another_key
            }
            namespaces: {
                namespaces_do_not_see_each_other
                clear_empties_one_namespace_and_nothing_else
                clear_empties_the_default_namespace
                clear_leaves_namespaces_with_strange_names
                the_default_namespace
                a_namespace_that_is_too_long_is_refused
                an_empty_namespace_is_never_a_flush_of_a_server
            }
            tags: {
                invalidate_tags_makes_all_of_a_group_a_miss
                set_replaces_the_tags
                set_many_tags_all
                add_takes_the_place_of_what_a_tag_invalidated
                get_or_set_tags_what_it_stores
                touch_keeps_the_tags
                one_of_several_tags_is_enough
                an_unheard_of_tag_is_no_error
            }
            loads: {
                get_or_set_runs_its_loader_once
                get_or_set_finds_what_was_set
                a_1000_cold_callers_load_once
                different_keys_load_at_the_same_time
                one_failure_reaches_1000_callers_as_one_error
                a_failed_load_stores_nothing
                a_failure_leaves_what_came_meanwhile
                the_sole_owner_gets_the_error_by_value
                a_shared_error_is_given_back
                an_anyhow_error_can_fail_a_load
                a_load_error_goes_through_the_question_mark
                a_waiter_that_asks_for_another_type_gets_it_converted
                a_waiter_whose_type_does_not_fit_loads_for_itself
                a_waiter_with_another_error_type_loads_for_itself
                none_that_was_loaded_is_a_hit
                a_waiter_gets_a_value_that_is_not_stored
            }
            batch_loads: {
                a_batch_loads_what_is_missing_at_once
                a_batch_is_answered_in_its_order_with_duplicates
                an_empty_batch_loads_nothing
                what_a_batch_loaded_is_stored
                what_the_loader_left_out_is_none_and_not_stored
                what_the_loader_was_not_asked_for_is_ignored
                a_failed_batch_keeps_what_was_found
                a_batch_waits_for_a_load_of_one_of_its_keys
                a_load_waits_for_a_batch_with_its_key
                batches_that_overlap_load_each_key_once
                a_hundred_batches_load_once
                whoever_waits_for_a_key_that_was_left_out_loads_it
                writes_during_a_batch_load_are_not_overwritten
                a_batch_whose_loader_panics_frees_its_keys
                a_batch_takes_over_from_a_load_that_panics
                a_batch_that_asks_for_its_own_keys_is_refused
                a_batch_reads_none_and_wrong_types
                a_batch_survives_a_store_that_fails
            }
            panics: {
                a_loader_that_panics_panics_in_its_own_caller_only
                one_of_100_waiters_takes_over_from_a_panic
                all_loaders_panic_each_in_its_own_caller
                a_panic_in_a_nested_load_frees_both_keys
            }
            stale: {
                stale_on_failure
                without_stale_for_the_error_comes
                stale_is_for_get_or_set_alone
                stale_is_bounded
                a_call_may_take_less
                a_call_may_ask_for_it
                retry_after_throttles
                retry_after_throttles_all_clients
                a_load_that_succeeds_ends_it
                all_who_wait_are_served_the_same
                delete_ends_it
                clear_ends_it
                a_set_keeps_its_entry_only_if_it_is_told
                a_delete_during_a_load_that_fails_leaves_the_error
                a_touch_moves_both_ends
                an_integer_that_was_loaded_is_kept_and_one_that_was_set_counts
                a_batch_is_served_what_is_stale
                an_invalidated_tag_leaves_nothing_stale
                never_is_never_stale
                the_longest_times_are_taken
                each_waiter_gets_what_it_takes
                a_tag_that_is_invalidated_during_a_load_of_other_tags_counts
                a_load_that_stores_nothing_leaves_nothing_stale
                a_touch_of_what_is_stale_leaves_a_load_alone
                touching_while_deleting_brings_nothing_back
                a_waiter_with_another_error_type_is_served_what_is_stale
                retry_after_without_stale_for_is_refused
                jitter_not_on_stale
            }
            slow: {
                fetch_loads_once_and_then_hits
                fetch_gives_the_value
                a_1000_cold_callers_fetch_once
                one_failed_fetch_is_one_error_for_all
                fetch_and_get_or_set_wait_for_each_other
                the_age_is_that_of_the_value
                a_soft_timeout_serves_what_is_stale
                timed_out_load_still_updates
                no_soft_timeout_without_stale
                hard_timeout_without_stale
                a_hard_timeout_serves_what_is_stale
                a_waiter_has_its_own_timeout
                background_failure_is_harmless
                fetch_is_served_what_is_stale_when_its_load_fails
                invalidation_beats_background_load
                a_soft_timeout_of_zero_never_waits
                endless_durations_are_taken
                a_load_that_hangs_frees_its_key
                a_hung_get_or_set_frees_its_key
                a_load_that_hangs_serves_what_is_stale
                a_batch_waits_no_longer_than_its_timeout
                refresh_does_not_block
                refresh_ahead_once
                get_or_set_refreshes_in_one_caller
                a_refresh_that_fails_changes_nothing
                loader_panics_in_background
                a_panic_reaches_the_caller_that_waits
                miss_waits_for_running_refresh
                invalidation_beats_refresh
                tag_invalidation_beats_refresh
                a_set_beats_a_refresh
                xfetch_refreshes_what_took_long
                adaptive_ttl
                adaptive_ttl_in_background
                skip_gives_without_storing
                not_modified_renews
                none_has_its_own_ttl
                none_may_not_be_stored_at_all
                force_refresh_loads_what_is_live
                a_fetch_of_its_own_key_is_an_error
                a_load_behind_may_ask_for_the_key_of_who_left_it
                settings_that_do_not_fit_are_refused
                a_hot_key_is_never_waited_for
                nothing_is_served_past_its_end
                a_load_that_nobody_waits_for_is_given_up_by_the_next
                not_modified_brings_nothing_back
                those_with_another_error_load_once
                a_touch_reaches_what_was_fetched
                a_batch_may_be_forced
                many_loads_may_ask_for_others
            }
            invalidation: {
                delete_during_load_is_not_overwritten
                delete_many_during_load_is_not_overwritten
                clear_during_load_is_not_overwritten
                tag_invalidation_during_load_is_not_overwritten
                touch_to_zero_during_load_is_not_overwritten
                set_with_zero_ttl_during_load_is_not_overwritten
                set_during_load_stays
                set_many_during_load_stays
                add_during_load_stays
                increment_during_load_stays
                a_loader_may_write_its_own_key
                a_loader_may_delete_its_own_key
                callers_after_an_invalidation_load_anew
                another_keys_write_leaves_a_load_alone
                another_namespaces_clear_leaves_a_load_alone
                deleting_while_loading_never_leaves_what_was_loaded_before
            }
            circles: {
                a_loader_that_asks_for_its_own_key_gets_an_error
                the_infallible_form_panics_with_a_message
                a_clone_is_no_way_around
                a_circle_through_another_key_is_an_error
                a_circle_of_two_loaders_is_broken_in_one_of_them
                a_loader_may_ask_for_other_keys
                a_loader_may_ask_another_cache_for_the_same_key
                a_loader_may_read_its_own_key
                waiting_twice_for_one_other_key_is_no_circle
            }
            failures: {
                get_or_set_survives_a_store_that_fails
                a_store_that_cannot_be_read_still_loads_one_at_a_time
                a_store_that_cannot_be_written_still_answers
                operations_report_a_store_that_fails
                a_failed_write_ends_like_any_other
                a_store_that_recovers_is_used_again
                store_errors_are_counted_once_each
                a_wrong_type_is_counted_once
                a_loader_error_comes_through_a_store_that_fails
            }
        }
    };
}

macro_rules! tests {
    ($world:ident, $time:expr, $store:expr; $($module:ident: { $($line:ident)* })*) => {$(
        mod $module {
            $(
                #[test]
                fn $line() {
                    use cacheio_tests::face::Face as _;
                    cacheio_tests::watchdog::guarded(|| {
                        let place = cacheio_tests::place::Place::<cacheio_tests::face::$world>::new($time, $store);
                        cacheio_tests::face::$world::run(crate::$module::$line(place))
                    });
                }
            )*
        }
    )*};
}

macro_rules! contract {
    ($($world_mod:ident, $world:ident: { $($row:ident: $store:ident, $time:ident;)* })*) => {$(
        mod $world_mod {$(
            mod $row {
                lines!($world, cacheio_tests::place::Time::$time(), cacheio_tests::stores::$store);
            }
        )*}
    )*};
}

contract! {
    threads, Threads: {
        memory: memory, manual;
        memory_on_system_time: memory, system;
        memory_that_weighs: weighed, manual;
        arc_dyn: arc_dyn, manual;
        box_dyn: box_dyn, manual;
        bytes: bytes, manual;
        memcached: memcached, seconds;
        redis: redis, milliseconds;
        redis_cluster: redis_cluster, milliseconds;
    }
    tasks, Tasks: {
        memory: memory, manual;
        memory_on_system_time: memory, system;
        memory_that_weighs: weighed, manual;
        memory_that_suspends: yielding_memory, manual;
        arc_dyn: async_arc_dyn, manual;
        box_dyn: async_box_dyn, manual;
        bytes: yielding_bytes, manual;
        memcached: memcached, seconds;
        redis: redis, milliseconds;
        redis_cluster: redis_cluster, milliseconds;
    }
}
