//! What an inspection says that does not fit the container: evidence for people, never a verdict. Pure.

use datagalax_gpu::{
    ask::Ask,
    plausibility::{self, Claim, Finding},
};
use datagalax_protocol::{
    InspectionAnswer,
    evidence::{Exchange, Outcome},
};

use crate::{
    chain::Target,
    metrics::FindingKind,
    score::{BeaconResult, BeaconScore},
};

/// What is found in the inspection of an epoch, whose results of beacons these are; nothing when it was not answered.
pub fn findings<'a>(
    target: &Target,
    exchange: &Exchange,
    beacons: impl IntoIterator<Item = &'a BeaconResult>,
) -> Vec<(FindingKind, String)> {
    let Outcome::Answered(answer) = &exchange.outcome else { return Vec::new() };
    // It was verified when it came.
    let Ok(InspectionAnswer { inspection, .. }) = borsh::from_slice(&answer.payload) else { return Vec::new() };
    let has_cards = target.minimum_memory > 0;
    let claim = Claim {
        fingerprint: target.fingerprint,
        gpus: if has_cards { u16::from(target.gpus) } else { 0 },
        minimum_memory: target.minimum_memory,
    };
    let mut found = plausibility::findings(&claim, &inspection, exchange.ended_at_ms() / 1_000);
    if let Some(ask) = target.ask.filter(|_| has_cards)
        && beacons.into_iter().any(|result| was_computing(&ask, result, exchange))
    {
        found.extend(plausibility::under_load(&inspection, &ask.workload));
    }
    found.into_iter().map(|finding| (kind(&finding), finding.to_string())).collect()
}

/// Whether a host that answered this beacon was computing all the while that it was inspected.
///
/// It must fall into the middle half of the time to the root: host and checker see a slot at different moments, and the root
/// travels. A leased host's challenge may wait for its tenant, so that of its time nothing is known.
fn was_computing(ask: &Ask, result: &BeaconResult, inspected: &Exchange) -> bool {
    let answered = matches!(result.score, BeaconScore::Answered { .. });
    let (Some(elapsed_us), Some(root_at), true) = (result.elapsed_us, result.root_at_ms, answered) else { return false };
    // Rounded as the light challenge's is: nothing is expected of it.
    let waits = ask.schedule.expected.is_zero();
    let quarter = i64::try_from(elapsed_us / 4_000).unwrap_or(i64::MAX);
    let allowance = i64::try_from(ask.schedule.allowance.as_millis()).unwrap_or(i64::MAX);
    let (from, to) = (root_at.saturating_sub(quarter.saturating_mul(3)), root_at.saturating_sub(quarter));
    !waits && quarter >= allowance && from <= inspected.asked_at_ms && inspected.ended_at_ms() <= to
}

fn kind(finding: &Finding) -> FindingKind {
    match finding {
        Finding::Fingerprint | Finding::Count { .. } | Finding::Memory { .. } => FindingKind::Unregistered,
        Finding::FingerprintOfOtherCards | Finding::Twice(_) | Finding::MemoryInUse(_) | Finding::Impossible { .. } => {
            FindingKind::Impossible
        }
        Finding::Clock(_) => FindingKind::Clock,
        Finding::NotFilled { .. } | Finding::Idle { .. } => FindingKind::Idle,
        Finding::Uncorrected { .. } | Finding::Xid { .. } | Finding::Lost(_) => FindingKind::Fault,
        Finding::Shared(_) => FindingKind::Shared,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datagalax_gpu::capacity::{Demand, Schedule};
    use datagalax_protocol::{Envelope, GpuDetails, GpuMetrics, Inspection, Metrics};
    use solana_pubkey::Pubkey;

    use super::*;

    const GIB: u64 = 1 << 30;
    /// When it was inspected, unix milliseconds; it took 40.
    const AT: i64 = 1_700_000_000_000;

    fn card() -> GpuMetrics {
        GpuMetrics {
            uuid: "GPU-1".into(),
            memory_total: 80 * GIB,
            memory_used: 10 * GIB,
            power: Some(9_000),
            ..GpuMetrics::default()
        }
    }

    fn exchange(cards: &[GpuMetrics]) -> Exchange {
        let fingerprint = datagalax_gpu::Hardware::of_cards(cards).fingerprint();
        let metrics = Metrics { fingerprint, measured_at: AT / 1_000, gpus: cards.to_vec(), ..Metrics::default() };
        let details = cards.iter().map(|_| GpuDetails::default()).collect();
        let inspection = Inspection { metrics, details, interfaces: Vec::new() };
        let payload = borsh::to_vec(&InspectionAnswer { request: [0; 32], inspection }).unwrap();
        let request = Envelope {
            version: 1,
            domain: 2,
            genesis_hash: [0; 32],
            program: [0; 32],
            subject: [0; 32],
            epoch: 0,
            nonce: [0; 16],
            issued_at: 0,
            payload,
            signer: [0; 32],
            signature: [0; 64],
        };
        let outcome = Outcome::Answered(Box::new(request.clone()));
        Exchange { asked_at_ms: AT, took_us: 40_000, request, outcome }
    }

    fn target() -> Target {
        let demand = Demand {
            memory: 80 * GIB,
            share: 85,
            reference: 600_000_000_000_000,
            devices: 1,
            duration: Duration::from_secs(8),
        };
        let workload = demand.workload().unwrap();
        let schedule = Schedule::of(&workload, demand.reference, Duration::from_secs(1));
        Target {
            row: 0,
            container: Pubkey::default(),
            operator: Pubkey::default(),
            endpoint: String::new(),
            fingerprint: datagalax_gpu::Hardware::of_cards(&[card()]).fingerprint(),
            gpus: 1,
            minimum_memory: 80 * GIB,
            ask: Some(Ask { workload, schedule, reference: demand.reference }),
            claimed: None,
        }
    }

    /// A beacon seen so many milliseconds before the inspection, with its root after nine seconds.
    fn seen_before(milliseconds: i64) -> BeaconResult {
        let score = BeaconScore::Answered { capacity: Some(100), token: 7, dishonest: false };
        let root_at_ms = Some(AT - milliseconds + 9_000);
        BeaconResult { hash: [0; 32], score, elapsed_us: Some(9_000_000), root_at_ms }
    }

    fn kinds(target: &Target, exchange: &Exchange, beacon: &BeaconResult) -> Vec<&'static str> {
        findings(target, exchange, [beacon]).iter().map(|(kind, _)| kind.as_str()).collect()
    }

    #[test]
    fn a_card_that_is_idle_while_it_computes_is_found_and_one_that_rests_is_not() {
        let (target, inspected) = (target(), exchange(&[card()]));
        for during in [2_300, 4_500, 6_700] {
            assert_eq!(kinds(&target, &inspected, &seen_before(during)), ["idle", "idle"], "{during}");
        }
        // Before, at its edges, and after: it need not have begun, or may be done.
        for outside in [-5_000, 0, 2_200, 6_750, 9_000, 60_000] {
            assert_eq!(kinds(&target, &inspected, &seen_before(outside)), [""; 0], "{outside}");
        }
        let unanswered = BeaconResult { score: BeaconScore::Unanswered, ..seen_before(4_500) };
        assert_eq!(kinds(&target, &inspected, &unanswered), [""; 0]);
        let busy = GpuMetrics { memory_used: 70 * GIB, power: Some(650_000), ..card() };
        assert_eq!(kinds(&target, &exchange(&[busy]), &seen_before(4_500)), [""; 0]);
        // A leased one may be waiting for its tenant.
        let workload = Demand::light(1).unwrap();
        let light = Target { ask: Some(Ask { workload, schedule: Schedule::LIGHT, reference: 1 }), ..target };
        let nothing = GpuMetrics { memory_used: 0, ..card() };
        assert_eq!(kinds(&light, &exchange(&[nothing]), &seen_before(4_500)), [""; 0]);
    }

    #[test]
    fn what_is_not_registered_or_cannot_be_is_found_by_kind() {
        let beacon = seen_before(60_000);
        let odd = [GpuMetrics { temperature: Some(200), memory_total: 24 * GIB, ..card() }, card()];
        let found = findings(&target(), &exchange(&odd), [&beacon]);
        let kinds: Vec<_> = found.iter().map(|(kind, _)| kind.as_str()).collect();
        // Another fingerprint, two cards, one named twice, too little memory, too hot.
        assert_eq!(kinds, ["unregistered", "unregistered", "impossible", "unregistered", "impossible"], "{found:?}");
        let late = Exchange { asked_at_ms: AT + 90_000, ..exchange(&[card()]) };
        assert_eq!(super::tests::kinds(&target(), &late, &beacon), ["clock"]);
        let silent = Exchange { outcome: Outcome::failed("no answer"), ..exchange(&odd) };
        assert_eq!(super::tests::kinds(&target(), &silent, &beacon), [""; 0], "silence is no finding");
    }

    #[test]
    fn units_of_processors_are_no_cards() {
        let machine = Target { fingerprint: [4; 32], gpus: 8, minimum_memory: 0, ..target() };
        let mut inspected = exchange(&[]);
        let Outcome::Answered(answer) = &mut inspected.outcome else { panic!() };
        let metrics = Metrics { fingerprint: [4; 32], measured_at: AT / 1_000, ..Metrics::default() };
        let inspection = Inspection { metrics, ..Inspection::default() };
        answer.payload = borsh::to_vec(&InspectionAnswer { request: [0; 32], inspection }).unwrap();
        assert_eq!(kinds(&machine, &inspected, &seen_before(4_500)), [""; 0]);
    }
}
