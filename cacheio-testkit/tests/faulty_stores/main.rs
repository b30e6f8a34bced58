//! The contract finds stores that break it: each store here has one fault, or lacks one operation.
//!
//! This program is two things. Called by a test, with the name of a store in its environment, it runs the contract of
//! that store. Otherwise it runs itself so for each of them, and checks which tests fail.

mod map;

use std::env;
use std::process::{Command, ExitCode};

use cacheio_testkit::{Contract, Optional, TestEnv, Time};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::map::{Fault, Map};

const VARIABLE: &str = "CACHEIO_TESTKIT_STORE";

/// Each fault, a case that finds it, and what the case says.
const FAULTS: [(Fault, &str, &str); 30] = [
    (
        Fault::AddIsNotAtomic,
        "store::atomicity::of_several_adds_one_stores_its_entry",
        "`add` is atomic",
    ),
    (
        Fault::AddIsRefusedByAnExpiredEntry,
        "store::optional::add_stores_only_if_there_is_no_live_entry",
        "an entry whose TTL has ended does not prevent `add`",
    ),
    (
        Fault::BytesAreTakenForText,
        "store::bytes_come_back_unchanged",
        "`get` returns exactly the bytes that `set` got",
    ),
    (
        Fault::ClearRemovesAll,
        "store::clear_removes_the_keys_with_the_prefix_and_no_others",
        "`clear` removes no entry whose key does not begin with the prefix",
    ),
    (
        Fault::ClearTakesAPattern,
        "store::clear_takes_its_prefix_literally",
        "is a text, and no pattern",
    ),
    (
        Fault::DeleteIsNotAtomic,
        "store::atomicity::of_several_deletes_one_removes_the_entry",
        "`delete` is atomic",
    ),
    (
        Fault::DeleteReturnsTrue,
        "store::delete_tells_whether_the_entry_was_live",
        "`delete` returns `false` when there was no entry",
    ),
    (
        Fault::ExpiredEntriesAreReturned,
        "store::no_method_finds_an_entry_whose_ttl_has_ended",
        "no method treats an entry whose TTL has ended as present",
    ),
    (
        Fault::GetManySortsItsKeys,
        "store::get_many_keeps_the_order_of_the_keys",
        "in the order of the keys",
    ),
    (
        Fault::GetManySkipsMissingKeys,
        "store::get_many_keeps_the_order_of_the_keys",
        "one result for each key",
    ),
    (
        Fault::IncrementIsNotAtomic,
        "store::atomicity::no_increment_is_lost",
        "`increment` is atomic",
    ),
    (
        Fault::IncrementRenewsTheTtl,
        "store::optional::increment_keeps_the_ttl_of_a_live_counter",
        "`increment` keeps the TTL of a live entry",
    ),
    (
        Fault::IncrementWraps,
        "store::optional::an_overflow_is_an_error_and_changes_nothing",
        "`increment` returns `Overflow`",
    ),
    (
        Fault::KeysIgnoreCase,
        "store::keys_are_compared_byte_by_byte",
        "also if they differ in case only",
    ),
    (
        Fault::KeysAreCut,
        "store::a_key_may_be_as_long_as_the_key_rule_says",
        "long keys are stored in full",
    ),
    (
        Fault::ReplaceIgnoresWhatWasRead,
        "stale::after_a_write_of_another_client_a_failed_load_serves_no_old_value",
        "after a write of another client a failed load serves no old value",
    ),
    (
        Fault::SetKeepsTheTtl,
        "store::set_replaces_the_ttl",
        "`set` replaces the TTL of an existing entry",
    ),
    (
        Fault::SetManyUsesTheFirstTtl,
        "store::set_many_stores_each_entry_with_its_ttl",
        "`set_many` stores each entry with its own TTL",
    ),
    (
        Fault::ShortTtlsAreForever,
        "store::the_shortest_ttl_ends",
        "ends however short it is",
    ),
    (
        Fault::SwapIgnoresWhatWasRead,
        "store::optional::compare_and_swap_changes_only_what_was_read",
        "when the key holds another entry than was read",
    ),
    (
        Fault::SwapIsNotAtomic,
        "store::atomicity::of_several_swaps_one_succeeds",
        "`compare_and_swap` is atomic",
    ),
    (
        Fault::SwapLosesTheTtl,
        "store::optional::compare_and_swap_keeps_or_sets_the_ttl",
        "keeps short",
    ),
    (
        Fault::TakeIsNotAtomic,
        "store::atomicity::of_several_takes_one_gets_the_entry",
        "`take` is atomic",
    ),
    (
        Fault::TakeLeavesTheEntry,
        "store::optional::take_returns_the_entry_and_removes_it",
        "`take` removes the entry that it returns",
    ),
    (
        Fault::ScanForgetsTheRest,
        "store::optional::scan_lists_all_keys_with_the_prefix",
        "`scan` lists each key with the prefix",
    ),
    (
        Fault::ScanIgnoresThePrefix,
        "store::optional::scan_lists_all_keys_with_the_prefix",
        "`scan` lists no key without the prefix",
    ),
    (
        Fault::TouchIgnoresTheTtl,
        "store::optional::touch_sets_the_ttl_of_a_live_entry",
        "`touch` sets the TTL of a live entry",
    ),
    (
        Fault::TouchRevives,
        "store::optional::touch_revives_nothing",
        "`touch` returns `false` when there is no live entry",
    ),
    (
        Fault::TtlIsIgnored,
        "store::an_entry_is_live_until_its_ttl_ends",
        "an entry is live from the time when `set` returns until its TTL ends",
    ),
    (
        Fault::TtlLeftIsTheWholeTtl,
        "ttl_left::what_is_left_becomes_less",
        "what is left becomes less",
    ),
];

const OPERATIONS: [Optional; 7] = [
    Optional::Add,
    Optional::Increment,
    Optional::Touch,
    Optional::Update,
    Optional::Take,
    Optional::TtlLeft,
    Optional::Keys,
];

fn main() -> ExitCode {
    match env::var(VARIABLE) {
        Ok(store) => run_contract(&store),
        Err(_) => run_tests(),
    }
}

/// Runs the contract of a store in both worlds.
fn run_contract(store: &str) -> ExitCode {
    let fault = FAULTS.iter().map(|(fault, ..)| *fault);
    let fault = fault
        .into_iter()
        .find(|fault| format!("{fault:?}") == store);
    let missing = OPERATIONS
        .into_iter()
        .find(|operation| format!("{operation:?}") == store);
    let map = move |env: &TestEnv| Map::new(env, fault, missing);
    let mut contracts = vec![Contract::threads("map", map), Contract::tasks("map", map)];
    if missing != Some(Optional::TtlLeft) {
        contracts.push(Contract::threads("map_with_l1", map).with_l1());
    }
    cacheio_testkit::run(contracts.into_iter().map(|contract| {
        let contract = contract.time(Time::manual);
        missing.into_iter().fold(contract, Contract::without)
    }))
}

fn run_tests() -> ExitCode {
    let mut trials = vec![test("a_right_store_passes".into(), || passes("right"))];
    for operation in OPERATIONS {
        let name = format!("a_store_without_an_operation_passes::{operation:?}");
        trials.push(test(name, move || passes(&format!("{operation:?}"))));
    }
    for (fault, case, words) in FAULTS {
        let name = format!("a_fault_is_found::{fault:?}");
        trials.push(test(name, move || is_found(fault, case, words)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn test(name: String, body: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, body)
}

/// Runs the contract of a store in a process of its own. Returns whether all tests passed, and the output.
fn output(store: &str, filter: &[&str]) -> (bool, String) {
    let program = env::current_exe().unwrap();
    let output = Command::new(program)
        .env(VARIABLE, store)
        // Most of the time the tests wait.
        .env("CONTRACT_THREADS", "8")
        .args(filter)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("test result:"), "{text}");
    (output.status.success(), text)
}

fn passes(store: &str) -> Result<(), Failed> {
    // Slow origins are not the store's concern, and their timeouts need a machine that is not busy.
    let (passed, output) = output(store, &["threads::map::", "--skip", "slow_origin::"]);
    match passed {
        true => Ok(()),
        false => Err(output.into()),
    }
}

/// On a busy machine a race may not show in a run.
const RUNS: usize = 10;

fn is_found(fault: Fault, case: &str, words: &str) -> Result<(), Failed> {
    for _ in 1..RUNS {
        if is_found_in_a_run(fault, case, words).is_ok() {
            return Ok(());
        }
    }
    is_found_in_a_run(fault, case, words)
}

fn is_found_in_a_run(fault: Fault, case: &str, words: &str) -> Result<(), Failed> {
    let topic = case.split_once("::").map_or("", |(topic, _)| topic);
    let (passed, output) = output(&format!("{fault:?}"), &[topic]);
    let (_, failures) = output.split_once("\nfailures:\n").unwrap_or_default();
    for world in ["threads", "tasks"] {
        let name = format!("{world}::map::{case}");
        let failure = failures
            .split("\n---- ")
            .find(|failure| failure.starts_with(&name));
        if !failure.is_some_and(|failure| failure.contains(words)) || passed {
            return Err(format!("{name} does not find it\n{output}").into());
        }
    }
    Ok(())
}
