//! What is found about containers by comparing what they say of themselves, where they claim to be, and how they answer: evidence
//! for people, never a verdict.

use std::{collections::BTreeMap, sync::Arc};

use datagalax_gpu::{
    location::Location,
    uniqueness::{self, Finding, Mark, Observation},
};
use datagalax_protocol::{
    Digest,
    evidence::{Exchange, MAX_FINDINGS, cut},
};
use solana_pubkey::Pubkey;

use crate::{
    chain::Target,
    inspection,
    measure::RowState,
    metrics::{FindingKind, Metrics},
    store::{Elsewhere, Sighting, Times, sightings::NAMED},
};

/// What is known of one row when its block is done.
#[derive(Clone, Debug)]
pub struct RowKnown {
    /// The container.
    pub target: Arc<Target>,
    /// What was measured.
    pub state: RowState,
    /// What the round trips say.
    pub location: Location,
    /// The inspection, if one was asked for.
    pub inspection: Option<Exchange>,
}

impl RowKnown {
    /// Microseconds to the root at the beacons that are final, by slot.
    pub fn times_us(&self, counted: &[(u64, Digest)]) -> BTreeMap<u64, u64> {
        let time = |(slot, hash): &(u64, Digest)| {
            let result = self.state.beacons.get(slot).filter(|result| result.hash == *hash)?;
            Some((*slot, result.elapsed_us?))
        };
        counted.iter().filter_map(time).collect()
    }
}

/// Findings about one row, each with its kind: at most [`MAX_FINDINGS`], the last of which says how many more there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFindings(Vec<(FindingKind, String)>);

impl RowFindings {
    fn add(&mut self, kind: FindingKind, text: impl std::fmt::Display) {
        self.0.push((kind, cut(text)));
    }

    fn bounded(mut self) -> Self {
        let more = self.0.len().saturating_sub(MAX_FINDINGS);
        if more > 0 {
            self.0.truncate(MAX_FINDINGS);
            if let Some((_, last)) = self.0.last_mut() {
                *last = format!("and {} more findings", more + 1);
            }
        }
        self
    }

    /// The findings.
    pub fn iter(&self) -> impl Iterator<Item = (FindingKind, &str)> {
        self.0.iter().map(|(kind, text)| (*kind, text.as_str()))
    }

    /// Counts each by its kind.
    pub fn count(&self, metrics: &Metrics) {
        for (kind, _) in &self.0 {
            metrics.findings.get_or_create(kind).inc();
        }
    }

    /// The words alone, for the evidence.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(_, text)| text.clone()).collect()
    }
}

/// What is compared of each row, in their order. `counted` are the epoch's beacons that are final; `earlier` are times at beacons
/// of epochs before.
pub fn observations(rows: &[RowKnown], counted: &[(u64, Digest)], earlier: &Times) -> Vec<Observation> {
    let observe = |row: &RowKnown| {
        let RowKnown { target, state, .. } = row;
        let container = target.container.to_bytes();
        let mut times_us = earlier.get(&container).cloned().unwrap_or_default();
        times_us.extend(row.times_us(counted));
        let observation = Observation {
            container,
            fingerprint: target.fingerprint,
            uuids: Vec::new(),
            endpoint: host(&target.endpoint),
            times_us,
        };
        observation.with_cards(state.metrics.as_ref().map(|metrics| metrics.gpus.as_slice()).unwrap_or_default())
    };
    rows.iter().map(observe).collect()
}

/// Findings about each row, in their order. `observations` are these rows', `elsewhere` is what they share with other blocks.
pub fn of_block(rows: &[RowKnown], observations: &[Observation], elsewhere: &Elsewhere) -> Vec<RowFindings> {
    let mut found = vec![RowFindings::default(); rows.len()];
    let mut index: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let RowKnown { target, state, location, inspection } = row;
        index.insert(target.container.to_bytes(), at);
        if let Location::Outside { distance_km, reach_km } = location {
            let fastest = state.fastest.unwrap_or_default().as_secs_f64() * 1e3;
            let text = format!(
                "claims to be {distance_km:.0} km from this checker, but its fastest answer ({fastest:.1} ms) comes from at most {reach_km:.0} km"
            );
            found[at].add(FindingKind::Outside, text);
        }
        if let Some(exchange) = inspection {
            for (kind, text) in inspection::findings(target, exchange, state.beacons.values()) {
                found[at].add(kind, text);
            }
        }
    }
    for finding in uniqueness::findings(observations) {
        let (kind, what, mut all) = match finding {
            Finding::Shared { mark, containers } => (kind(&mark), mark.to_string(), containers),
            Finding::Timing { containers, correlation, times_us } => {
                let how = if correlation > 0.0 { "in step" } else { "by turns" };
                let first = times_us.first().map_or(0, |(slot, ..)| *slot);
                let beacons = times_us.len();
                let text = format!("answers {how} (correlation {correlation:.2} at {beacons} beacons from slot {first} on)");
                (FindingKind::Timing, text, containers.to_vec())
            }
        };
        all.dedup();
        for container in &all {
            let Some(at) = index.get(container) else { continue };
            let others: Vec<String> = all
                .iter()
                .filter(|other| *other != container)
                .take(NAMED)
                .map(|other| Pubkey::from(*other).to_string())
                .collect();
            let with =
                if others.is_empty() { "twice in this container".to_owned() } else { format!("also {}", others.join(", ")) };
            found[*at].add(kind, format!("{what}: {with}"));
        }
    }
    for (container, shared) in elsewhere {
        let Some(at) = index.get(container) else { continue };
        for (mark, others) in shared {
            let others: Vec<String> = others
                .iter()
                .map(|Sighting { container, block, epoch }| {
                    format!("{} (block {block}, epoch {epoch})", Pubkey::from(*container))
                })
                .collect();
            found[*at].add(kind(mark), format!("{mark}: also {}", others.join(", ")));
        }
    }
    found.into_iter().map(RowFindings::bounded).collect()
}

const fn kind(mark: &Mark) -> FindingKind {
    match mark {
        Mark::Uuid(_) => FindingKind::Uuid,
        Mark::Fingerprint(_) => FindingKind::Fingerprint,
        Mark::Endpoint(_) => FindingKind::Endpoint,
    }
}

/// Host and port of an endpoint, as the comparison wants it; empty when it is none.
fn host(endpoint: &str) -> String {
    let Ok(url) = url::Url::parse(endpoint) else { return String::new() };
    let port = url.port_or_known_default().map_or(String::new(), |port| format!(":{port}"));
    url.host_str().map_or(String::new(), |host| format!("{host}{port}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datagalax_protocol::{GpuMetrics, Metrics};

    use super::*;
    use crate::score::{BeaconResult, BeaconScore};

    fn target(row: u8, endpoint: &str, fingerprint: u8) -> Target {
        Target {
            row,
            container: Pubkey::from([row + 1; 32]),
            operator: Pubkey::default(),
            endpoint: endpoint.into(),
            fingerprint: [fingerprint; 32],
            gpus: 1,
            minimum_memory: 0,
            ask: None,
            claimed: None,
        }
    }

    fn cards(uuids: &[&str]) -> RowState {
        let gpus = uuids.iter().map(|uuid| GpuMetrics { uuid: (*uuid).into(), ..GpuMetrics::default() }).collect();
        let metrics = Some(Metrics { gpus, ..Metrics::default() });
        RowState { metrics, fastest: Some(Duration::from_millis(2)), ..RowState::default() }
    }

    fn known(target: Target, state: RowState) -> RowKnown {
        RowKnown { target: Arc::new(target), state, location: Location::Unknown, inspection: None }
    }

    fn of_rows(rows: &[RowKnown], elsewhere: &Elsewhere) -> Vec<RowFindings> {
        of_block(rows, &observations(rows, &[], &Times::new()), elsewhere)
    }

    fn kinds(found: &RowFindings) -> Vec<&'static str> {
        found.iter().map(|(kind, _)| kind.as_str()).collect()
    }

    #[test]
    fn what_two_containers_share_is_found_with_both() {
        let mut rows = [
            known(target(0, "http://a:1/x", 1), cards(&["GPU-1"])),
            known(target(1, "http://A:1/y", 2), cards(&["GPU-2"])),
            known(target(2, "https://b", 3), cards(&["GPU-1", "GPU-3"])),
        ];
        rows[1].location = Location::Outside { distance_km: 9_000.0, reach_km: 300.0 };
        let found = of_rows(&rows, &Elsewhere::new());
        assert_eq!(
            found.iter().map(kinds).collect::<Vec<_>>(),
            [vec!["uuid", "endpoint"], vec!["outside", "endpoint"], vec!["uuid"]]
        );
        let text = |at: usize| found[at].texts().remove(0);
        assert!(text(0).contains(&rows[2].target.container.to_string()), "{:?}", found[0]);
        assert!(text(1).contains("2.0 ms"), "{:?}", found[1]);
    }

    #[test]
    fn a_card_named_twice_by_one_host_is_found_once() {
        let found = of_rows(&[known(target(0, "", 1), cards(&["GPU-1", "GPU-1"]))], &Elsewhere::new());
        assert_eq!(kinds(&found[0]), ["uuid"]);
        assert!(found[0].texts()[0].ends_with("twice in this container"));
    }

    #[test]
    fn what_was_seen_in_another_block_is_found_with_where_and_when() {
        let row = known(target(0, "", 1), cards(&["GPU-1", "GPU-2"]));
        let others = vec![Sighting { container: [9; 32], block: 7, epoch: 44 }];
        let elsewhere = [([1; 32], vec![(Mark::Uuid("GPU-2".into()), others)])].into();
        let found = of_rows(&[row], &elsewhere);
        assert_eq!(kinds(&found[0]), ["uuid"]);
        assert_eq!(found[0].texts(), [format!("card GPU-2: also {} (block 7, epoch 44)", Pubkey::from([9; 32]))]);
    }

    #[test]
    fn however_many_cards_two_hosts_name_their_findings_are_bounded() {
        let uuids: Vec<String> = (0..64).map(|card| format!("GPU-\u{7}{card}")).collect();
        let uuids: Vec<&str> = uuids.iter().map(String::as_str).collect();
        let rows = [known(target(0, "http://a", 1), cards(&uuids)), known(target(1, "http://b", 2), cards(&uuids))];
        for found in of_rows(&rows, &Elsewhere::new()) {
            let texts = found.texts();
            assert_eq!((texts.len(), texts[31].as_str()), (MAX_FINDINGS, "and 33 more findings"));
            assert!(texts[0].starts_with("card GPU-\\u{7}"), "what a stranger wrote is escaped: {}", texts[0]);
        }
    }

    #[test]
    fn only_final_beacons_that_were_timed_are_compared() {
        let score = BeaconScore::Answered { capacity: Some(100), token: 7, dishonest: false };
        let result = |hash, elapsed_us| BeaconResult { hash: [hash; 32], score, elapsed_us, root_at_ms: None };
        let beacons =
            [(1, result(1, Some(5))), (2, result(9, Some(6))), (3, result(3, None)), (4, result(4, Some(7)))].into();
        let row = known(target(0, "", 1), RowState { beacons, ..RowState::default() });
        // One of a slot that was replaced, one that was not timed, one that was dropped.
        assert_eq!(row.times_us(&[(1, [1; 32]), (2, [2; 32]), (3, [3; 32])]), [(1, 5)].into());
    }
}
