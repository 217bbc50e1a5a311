//! What was measured of a block as JSON, for people and scripts.

use std::{
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
};

use datagalax_protocol::evidence::Outcome;
use serde_json::{Value, json};

use crate::{
    findings::{RowFindings, RowKnown},
    score::{self, BeaconScore},
    store::{BlockKey, Measured as Saved},
};

/// One row.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// The container and what was measured.
    pub row: &'a RowKnown,
    /// The score's input.
    pub measured: &'a score::Measured,
    /// What was found.
    pub found: &'a RowFindings,
}

/// One measured block. It shows votes before they are revealed.
pub fn describe(place: BlockKey, measured: &Saved, rows: &[Line<'_>]) -> Value {
    json!({
        "epoch": place.epoch.number,
        "block": place.block,
        "evidence_root": hex::encode(measured.evidence_root),
        "rows": rows.iter().map(describe_row).collect::<Vec<_>>(),
    })
}

fn describe_row(Line { row: RowKnown { target, state, inspection, .. }, measured, found }: &Line<'_>) -> Value {
    json!({
        "row": target.row,
        "container": target.container.to_string(),
        "endpoint": target.endpoint,
        "probes": { "asked": state.asked, "answered": state.answered },
        "beacons": measured.beacons.iter().map(|score| match score {
            BeaconScore::Answered { capacity, token, dishonest } => {
                json!({ "capacity": capacity, "token": token, "dishonest": dishonest })
            }
            BeaconScore::Unanswered => json!("unanswered"),
            BeaconScore::NotAsked => json!("not asked"),
        }).collect::<Vec<_>>(),
        "vote": score::vote(measured).map(|vote| json!({
            "availability": vote.availability,
            "capacity": vote.capacity,
            "token": vote.token,
            "dishonest": vote.dishonest,
        })),
        "trouble": state.trouble,
        "inspection": inspection.as_ref().map(|exchange| match &exchange.outcome {
            Outcome::Answered(_) => "answered",
            Outcome::Failed(reason) => reason.as_str(),
        }),
        "findings": found.iter().map(|(kind, text)| json!({ "kind": kind.as_str(), "text": text })).collect::<Vec<_>>(),
        "metrics": state.metrics.as_ref().map(|metrics| json!({
            "agent_version": metrics.agent_version,
            "fingerprint": hex::encode(metrics.fingerprint),
            "host": metrics.host,
            "gpus": metrics.gpus,
        })),
    })
}

/// Replaces the file at once, so that a reader sees a whole one; one after the other, as all blocks of an epoch end at one instant.
///
/// # Errors
/// The disk.
pub fn write(path: &Path, value: &Value) -> io::Result<()> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let partial = path.with_extension("partial");
    fs::write(&partial, format!("{value:#}\n"))?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datagalax_gpu::location::Location;
    use datagalax_protocol::ReportValues;
    use solana_pubkey::Pubkey;

    use super::*;
    use crate::{chain::Target, findings::of_block, measure::RowState, store::EpochKey};

    #[test]
    fn findings_are_shown_by_kind() {
        let target = Target {
            row: 7,
            container: Pubkey::default(),
            operator: Pubkey::default(),
            endpoint: String::new(),
            fingerprint: [0; 32],
            gpus: 1,
            minimum_memory: 0,
            ask: None,
            claimed: None,
        };
        let location = Location::Outside { distance_km: 9_000.0, reach_km: 300.0 };
        let row = RowKnown { target: Arc::new(target), state: RowState::default(), location, inspection: None };
        let found = of_block(std::slice::from_ref(&row), &[], &Default::default());
        let measured = row.state.measured(&[], location);
        let place = BlockKey { epoch: EpochKey { start: 0, number: 4 }, block: 2 };
        let saved = Saved { values: ReportValues::new(), evidence_root: [1; 32] };
        let shown = describe(place, &saved, &[Line { row: &row, measured: &measured, found: &found[0] }]);
        let row = &shown["rows"][0];
        assert_eq!((&row["row"], &row["inspection"], &row["vote"]), (&7.into(), &Value::Null, &Value::Null));
        assert_eq!(row["findings"][0]["kind"], "outside");
        assert!(row["findings"][0]["text"].as_str().is_some_and(|text| text.starts_with("claims to be 9000 km")));
    }
}
