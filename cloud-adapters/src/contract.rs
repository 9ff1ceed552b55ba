//! What a caller may rely on, whichever the provider: a suite that every adapter passes.
//!
//! An adapter's tests implement [`ContractHarness`] and write one line:
//!
//! ```ignore
//! cloud_adapters::contract_tests!(MyHarness::new());
//! ```
//!
//! Each case gets a harness of its own, so that cases run side by side, and counts instances with
//! [`ContractHarness::alive`], at the provider, never in the adapter's own rows.

mod faults;
mod lifecycle;
mod limits;
mod privilege;
mod repeats;
mod sample;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use faults::{
    a_provider_at_fault_costs_a_retry_and_leaves_one_instance_or_none,
    what_an_operator_has_to_know_is_found_by_a_check, wrong_credentials_are_told_and_never_retried,
};
pub use lifecycle::{
    a_killed_instance_is_listed_as_ended_until_terminated, a_node_gone_before_ready_leaves_what_the_next_one_finds,
    a_workload_that_never_starts_ends_with_a_reason, an_instance_is_described_from_launch_to_termination,
    an_unrenewed_instance_ends_itself, ended_instances_are_never_started_again,
};
pub use limits::{
    a_full_account_says_no_capacity_until_one_ends, bad_configuration_starts_nothing_and_is_never_retried,
    bad_requests_are_refused, calls_past_their_deadline_are_transient_and_can_be_repeated,
    instances_of_others_are_neither_listed_nor_touched, the_token_is_shown_nowhere,
};
pub use privilege::is_left_out_without_root;
pub use repeats::{
    a_launch_cut_off_at_any_moment_leaves_one_instance, a_termination_cut_off_at_any_moment_can_be_repeated,
    launching_again_returns_the_same_instance, launching_at_once_from_two_clients_leaves_one_instance,
    terminating_an_unknown_id_is_ok, terminating_twice_is_ok,
};
pub use sample::{id, owner, request, with_env};
pub use wait::{end_reason, launch_and_run, until, until_ended, until_running};

use crate::{CloudAdapter, LaunchId, LaunchRequest, Owner};

/// What the suite needs to know about an adapter and its provider. One harness is one empty provider account.
pub trait ContractHarness: Send + Sync {
    /// A new client of the account that remembers nothing, as after a restart of the node.
    fn adapter(&self) -> Arc<dyn CloudAdapter>;

    /// A client that may hold this many instances at once; `None` where the provider cannot be limited.
    fn adapter_with_capacity(&self, max_instances: u32) -> Option<Arc<dyn CloudAdapter>>;

    /// Clients that are each wrong in one way, with a word that their error must hold.
    fn misconfigured(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)>;

    /// A request for an instance that comes to run, with a drain timeout of a few seconds and a lease that outlives the
    /// case.
    fn request(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest;

    /// A request whose workload cannot start, so that the instance ends.
    fn request_that_never_starts(&self, launch: &LaunchId, owner: &Owner) -> LaunchRequest;

    /// Ends an instance as a crash would, leaving it no chance to say why.
    fn kill_hard(&self, launch: &LaunchId);

    /// How many instances of a launch the provider itself runs: in the process table, the daemon, the control plane.
    fn alive(&self, launch: &LaunchId) -> usize;

    /// Texts that others can read at the provider: arguments, labels, names. The token must be in none of them.
    fn public_texts(&self, launch: &LaunchId) -> Vec<String>;

    /// A client between which and its provider something is wrong, on the same account; `None` where it cannot be.
    fn adapter_with_fault(&self, _fault: Fault) -> Option<Arc<dyn CloudAdapter>> {
        None
    }

    /// Clients whose credentials are wrong, expired or too weak, with a word that their error must hold; none where
    /// the provider asks for no credentials.
    fn with_wrong_credentials(&self) -> Vec<(&'static str, Arc<dyn CloudAdapter>)> {
        Vec::new()
    }

    /// How long anything may take on this provider before the case fails.
    fn patience(&self) -> Duration;
}

/// What may be wrong between a client and its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers come late: later than the second of patience that the case has.
    Slow,
    /// Each call is answered with the provider's own internal error, and nothing is done.
    Failing,
    /// Calls are done, and their answers break off in the middle.
    Truncated,
    /// Calls are done, and the connection is cut before their answers.
    CutBeforeAnswer,
    /// The connection is cut before a call arrives.
    CutBeforeRequest,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Slow, Self::Failing, Self::Truncated, Self::CutBeforeAnswer, Self::CutBeforeRequest];
}

/// The wrappers that run in a directory, from the process table: processes of the instance that lead a group of their
/// own and were given the directory as an argument. For the harnesses of adapters that start processes here.
pub fn wrappers_in(run_dir: &Path) -> Vec<u32> {
    let is_wrapper = |pid: &u32| leads_its_group(*pid) && arguments(*pid).iter().any(|text| text == "--run-dir");
    crate::process::processes_of(run_dir).into_iter().filter(is_wrapper).collect()
}

/// The arguments of a process on this machine; none once it has ended.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

fn leads_its_group(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // proc_pid_stat(5): the name stands in parentheses and may hold anything; then state, parent, group.
    let group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2));
    group.and_then(|group| group.parse().ok()) == Some(pid)
}

/// One test for each case of the suite, each with a harness of its own made by the expression. `on_this_machine` leaves out
/// what can go wrong on the way to a provider and with credentials there; names run those cases alone.
///
/// The crate that uses it needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! contract_tests {
    ($harness:expr) => {
        $crate::contract_tests!($harness, on_this_machine);
        $crate::contract_tests!($harness;
            a_provider_at_fault_costs_a_retry_and_leaves_one_instance_or_none,
            wrong_credentials_are_told_and_never_retried,
        );
    };
    ($harness:expr, on_this_machine) => {
        $crate::contract_tests!($harness;
            a_full_account_says_no_capacity_until_one_ends,
            a_killed_instance_is_listed_as_ended_until_terminated,
            a_launch_cut_off_at_any_moment_leaves_one_instance,
            a_node_gone_before_ready_leaves_what_the_next_one_finds,
            a_termination_cut_off_at_any_moment_can_be_repeated,
            a_workload_that_never_starts_ends_with_a_reason,
            an_instance_is_described_from_launch_to_termination,
            an_unrenewed_instance_ends_itself,
            bad_configuration_starts_nothing_and_is_never_retried,
            bad_requests_are_refused,
            calls_past_their_deadline_are_transient_and_can_be_repeated,
            ended_instances_are_never_started_again,
            instances_of_others_are_neither_listed_nor_touched,
            launching_again_returns_the_same_instance,
            launching_at_once_from_two_clients_leaves_one_instance,
            terminating_an_unknown_id_is_ok,
            terminating_twice_is_ok,
            the_token_is_shown_nowhere,
            what_an_operator_has_to_know_is_found_by_a_check,
        );
    };
    ($harness:expr; $($case:ident,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn $case() {
                let harness = $harness;
                $crate::contract::$case(&harness).await;
            }
        )+
    };
}
