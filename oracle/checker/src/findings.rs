//! What is found about containers by comparing what they say of themselves: evidence for people, never a verdict.

use std::collections::BTreeMap;

use datagalax_gpu::{
    location::Location,
    uniqueness::{self, Finding, Observation},
};
use datagalax_protocol::evidence::cut;
use solana_pubkey::Pubkey;

use crate::{chain::Target, measure::RowState, metrics::FindingKind};

/// Most other containers named in one finding.
const NAMED: usize = 3;

/// Findings by index of the target, each with its kind.
pub fn of_block(rows: &[(&Target, &RowState, Location)]) -> BTreeMap<usize, Vec<(FindingKind, String)>> {
    let mut found: BTreeMap<usize, Vec<(FindingKind, String)>> = BTreeMap::new();
    let mut index: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut observations = Vec::new();
    for (at, (target, state, location)) in rows.iter().enumerate() {
        index.insert(target.container.to_bytes(), at);
        if let Location::Outside { distance_km, reach_km } = location {
            let text = format!(
                "claims to be {distance_km:.0} km from this checker, but its fastest answer ({:.1} ms) comes from at most {reach_km:.0} km",
                state.fastest.unwrap_or_default().as_secs_f64() * 1e3
            );
            found.entry(at).or_default().push((FindingKind::Outside, cut(text)));
        }
        let answered = state.beacons.iter().filter_map(|(slot, (_, _, micros))| Some((*slot, (*micros)?)));
        let observation = Observation {
            container: target.container.to_bytes(),
            fingerprint: target.fingerprint,
            uuids: Vec::new(),
            endpoint: host(&target.endpoint),
            times_us: answered.collect(),
        };
        let gpus = state.metrics.as_ref().map(|metrics| metrics.gpus.as_slice()).unwrap_or_default();
        observations.push(observation.with_cards(gpus));
    }
    for finding in uniqueness::findings(&observations) {
        let (kind, what, containers) = match finding {
            Finding::Uuid { uuid, containers } => (FindingKind::Uuid, format!("card {uuid}"), containers),
            Finding::Fingerprint { fingerprint, containers } => {
                (FindingKind::Fingerprint, format!("fingerprint {}", hex::encode(fingerprint)), containers)
            }
            Finding::Endpoint { endpoint, containers } => {
                (FindingKind::Endpoint, format!("endpoint {endpoint}"), containers)
            }
            // An epoch has fewer beacons than timing is compared over.
            Finding::Timing { .. } => continue,
        };
        let mut all = containers.clone();
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
            found.entry(*at).or_default().push((kind, cut(format!("{what}: {with}"))));
        }
    }
    found
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

    fn target(row: u8, endpoint: &str, fingerprint: u8) -> Target {
        Target {
            row,
            container: Pubkey::from([row + 1; 32]),
            operator: Pubkey::default(),
            endpoint: endpoint.into(),
            fingerprint: [fingerprint; 32],
            ask: None,
            claimed: None,
        }
    }

    fn cards(uuids: &[&str]) -> RowState {
        let gpus = uuids.iter().map(|uuid| GpuMetrics { uuid: (*uuid).into(), ..GpuMetrics::default() }).collect();
        let metrics = Some(Metrics { gpus, ..Metrics::default() });
        RowState { metrics, fastest: Some(Duration::from_millis(2)), ..RowState::default() }
    }

    #[test]
    fn what_two_containers_share_is_found_with_both() {
        let targets = [target(0, "http://a:1/x", 1), target(1, "http://A:1/y", 2), target(2, "https://b", 3)];
        let states = [cards(&["GPU-1"]), cards(&["GPU-2"]), cards(&["GPU-1", "GPU-3"])];
        let outside = Location::Outside { distance_km: 9_000.0, reach_km: 300.0 };
        let rows: Vec<_> = targets
            .iter()
            .zip(&states)
            .zip([Location::Unknown, outside, Location::Possible])
            .map(|((target, state), location)| (target, state, location))
            .collect();
        let found = of_block(&rows);
        let kinds = |at: usize| found.get(&at).into_iter().flatten().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>();
        assert_eq!((kinds(0), kinds(1), kinds(2)), (vec!["uuid", "endpoint"], vec!["outside", "endpoint"], vec!["uuid"]));
        assert!(found[&0][0].1.contains(&targets[2].container.to_string()), "{:?}", found[&0]);
        assert!(found[&1][0].1.contains("2.0 ms"), "{:?}", found[&1]);
    }

    #[test]
    fn a_card_named_twice_by_one_host_is_found_once() {
        let (target, state) = (target(0, "", 1), cards(&["GPU-1", "GPU-1"]));
        let found = of_block(&[(&target, &state, Location::Unknown)]);
        assert_eq!(found[&0].len(), 1);
        assert!(found[&0][0].1.ends_with("twice in this container"));
    }
}
