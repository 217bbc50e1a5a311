//! What was measured of a block as JSON, for people and scripts.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use crate::{
    chain::Target,
    measure::RowState,
    score::{self, BeaconScore},
    store::{BlockKey, Measured as Saved, RowFinish},
};

/// One row: the container, what was measured, the score's input, the last words.
pub type Line<'a> = (&'a Target, &'a RowState, &'a score::Measured, &'a RowFinish);

/// One measured block. It shows votes before they are revealed.
pub fn describe(place: BlockKey, measured: &Saved, rows: &[Line<'_>]) -> Value {
    json!({
        "epoch": place.epoch.number,
        "block": place.block,
        "evidence_root": hex::encode(measured.evidence_root),
        "rows": rows.iter().map(describe_row).collect::<Vec<_>>(),
    })
}

fn describe_row((target, state, measured, finish): &Line<'_>) -> Value {
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
        "findings": finish.findings,
        "metrics": state.metrics.as_ref().map(|metrics| json!({
            "agent_version": metrics.agent_version,
            "fingerprint": hex::encode(metrics.fingerprint),
            "host": metrics.host,
            "gpus": metrics.gpus,
        })),
    })
}

/// Replaces the file at once, so that a reader sees a whole one.
///
/// # Errors
/// The disk.
pub fn write(path: &Path, value: &Value) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, format!("{value:#}\n"))?;
    fs::rename(&partial, path)
}
