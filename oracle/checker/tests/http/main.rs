//! The checker against a made-up chain and agents over real HTTP.
//!
//! Nearly all of it is waiting: for a chain whose clock goes in whole seconds, for time-outs, for random instants. The usual harness
//! runs as many tests at a time as there are cores; here they wait together. A test that is not in the list below is unused code,
//! which the lints refuse.

mod daemon;
mod fake;
mod measure;
mod serve;

use libtest_mimic::{Arguments, Trial};

/// Tests at a time, unless `--test-threads` says otherwise.
const TOGETHER: usize = 8;

macro_rules! trials {
    ($($room:ident::$test:ident,)*) => {
        vec![$(Trial::test(concat!(stringify!($room), "::", stringify!($test)), || {
            tokio::runtime::Runtime::new()?.block_on($room::$test());
            Ok(())
        })),*]
    };
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TOGETHER);
    // The longest first.
    let trials = trials![
        daemon::what_cannot_be_revealed_is_given_up_and_said,
        daemon::a_checker_killed_at_any_step_carries_on,
        daemon::all_seats_of_the_operator_are_measured_committed_revealed_and_shown,
        measure::every_fault_is_caught_and_costs_only_its_own_row,
        daemon::refusals_of_a_node_that_is_behind_lose_nothing,
        measure::a_lease_that_began_meanwhile_is_read_once_more_before_judging,
        daemon::a_checker_that_comes_too_late_to_measure_reports_no_votes,
        daemon::old_and_too_much_evidence_goes_and_open_reports_stay,
        measure::an_honest_agent_gets_full_marks_and_leaves_evidence,
        measure::on_a_public_network_nothing_inside_is_asked,
        measure::a_beacon_that_was_not_seen_in_time_gives_a_token_and_no_capacity,
        measure::silence_at_what_may_be_no_beacon_proves_nothing,
        measure::more_hosts_than_places_are_all_probed,
        measure::what_an_earlier_run_measured_is_not_measured_again,
        serve::evidence_is_secret_until_the_reveal_and_provable_after,
        serve::an_operator_learns_about_its_own_endpoint_and_nobody_elses,
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
