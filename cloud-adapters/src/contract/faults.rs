//! What may go wrong between a client and its provider, and what an operator may have got wrong there.

use std::time::Duration;

use super::sample::{id, owner};
use super::wait::{until_alive, until_running};
use super::{ContractHarness, Fault};
use crate::deadline::with_deadline;
use crate::{Retry, Subject, Verdict};

/// What a call may take whose answer comes late: less than that.
const SLOW_DEADLINE: Duration = Duration::from_secs(1);

/// Slow, failing, truncated and lost answers are transient, never a wrong conclusion: the same call by a sound client
/// finds one instance, or none after a termination.
pub async fn a_provider_at_fault_costs_a_retry_and_leaves_one_instance_or_none(harness: &dyn ContractHarness) {
    let faulty = |fault| Some((fault, harness.adapter_with_fault(fault)?));
    let clients: Vec<_> = Fault::ALL.into_iter().filter_map(faulty).collect();
    assert!(
        !clients.is_empty(),
        "nothing can be wrong on the way to this provider: its adapter is tested `on_this_machine`"
    );
    for (index, (fault, faulty)) in clients.into_iter().enumerate() {
        let deadline = if fault == Fault::Slow { SLOW_DEADLINE } else { harness.patience() };
        let (faulty, sound) = (with_deadline(faulty, deadline), harness.adapter());
        let launch = id(&format!("gw-{index}"));
        let request = harness.request(&launch, &owner());
        let failed = crate::CloudAdapter::launch(&faulty, &request).await;
        assert_eq!(
            failed.as_ref().err().map(crate::AdapterError::retry),
            Some(Retry::Backoff),
            "{fault:?}: {failed:?}"
        );
        sound.launch(&request).await.expect("launch again");
        until_running(harness.patience(), &*sound, &launch).await;
        until_alive(harness, &launch, 1).await;
        let listed = crate::CloudAdapter::list(&faulty, &owner()).await;
        let error =
            listed.expect_err("a list that did not come whole is no list: what it lacks would be taken for gone");
        assert_eq!(error.retry(), Retry::Backoff, "{fault:?}: {error}");
        let described = crate::CloudAdapter::describe(&faulty, &launch).await;
        assert!(described.is_err(), "{fault:?}: no answer is not the answer that there is none: {described:?}");
        let terminated = crate::CloudAdapter::terminate(&faulty, &launch).await;
        assert_eq!(terminated.err().map(|error| error.retry()), Some(Retry::Backoff), "{fault:?}");
        sound.terminate(&launch).await.expect("terminate again");
        until_alive(harness, &launch, 0).await;
        assert_eq!(sound.list(&owner()).await.expect("list"), [], "{fault:?}");
    }
}

/// Wrong credentials are for a person to mend: told in words, not retried, and no reason to think anything gone.
pub async fn wrong_credentials_are_told_and_never_retried(harness: &dyn ContractHarness) {
    let (sound, launch) = (harness.adapter(), id("gw-1"));
    let clients = harness.with_wrong_credentials();
    assert!(!clients.is_empty(), "this provider asks for no credentials: its adapter is tested `on_this_machine`");
    let request = harness.request(&launch, &owner());
    sound.launch(&request).await.expect("launch");
    until_running(harness.patience(), &*sound, &launch).await;
    for (word, adapter) in clients {
        let other = harness.request(&id("gw-2"), &owner());
        let errors = [
            adapter.launch(&other).await.map(drop).expect_err(word),
            adapter.describe(&launch).await.map(drop).expect_err(word),
            adapter.list(&owner()).await.map(drop).expect_err(word),
            adapter.terminate(&launch).await.expect_err(word),
        ];
        for error in errors {
            assert_eq!(error.retry(), Retry::Never, "{error}");
            assert!(error.with_causes().contains(word), "`{}` should speak of `{word}`", error.with_causes());
        }
        let found = adapter.check().await;
        let is_told = |finding: &crate::Finding| finding.verdict == Verdict::Bad && finding.words.contains(word);
        assert!(found.iter().any(is_told), "the check should speak of `{word}`: {found:?}");
    }
    assert_eq!(harness.alive(&launch), 1, "it is not touched");
    sound.terminate(&launch).await.expect("terminate");
}

/// A sound account is told as sound, each subject in words; a wrong one with what is wrong; and nothing is started.
pub async fn what_an_operator_has_to_know_is_found_by_a_check(harness: &dyn ContractHarness) {
    let found = harness.adapter().check().await;
    for subject in [Subject::Credentials, Subject::Quota, Subject::Image, Subject::Network] {
        let told = found.iter().find(|finding| finding.subject == subject);
        let told = told.unwrap_or_else(|| panic!("nothing is told of the {subject}: {found:?}"));
        assert!(told.verdict != Verdict::Bad && !told.words.is_empty(), "{told:?}");
    }
    for (word, adapter) in harness.misconfigured() {
        let found = adapter.check().await;
        let is_told = |finding: &crate::Finding| finding.verdict == Verdict::Bad && finding.words.contains(word);
        assert!(found.iter().any(is_told), "the check should speak of `{word}`: {found:?}");
    }
    assert_eq!(harness.adapter().list(&owner()).await.expect("list"), []);
}
