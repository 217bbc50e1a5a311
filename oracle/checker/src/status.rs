//! What the checker did last, as a JSON file for people and scripts. The chain is the truth; this only saves asking it.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use crate::{measure::RowResult, score, score::Capacity, store::SavedReport};

/// One report with what was measured behind it.
pub fn describe(report: &SavedReport, rows: &[RowResult]) -> Value {
    json!({
        "epoch": report.epoch,
        "block": report.block,
        "seat": report.seat,
        "checker": report.checker,
        "commitment": hex::encode(report.commitment),
        "evidence_root": hex::encode(report.evidence_root),
        "rows": rows.iter().map(describe_row).collect::<Vec<_>>(),
    })
}

fn describe_row(row: &RowResult) -> Value {
    let vote = score::vote(&row.measured);
    json!({
        "row": row.target.row,
        "container": row.target.container.to_string(),
        "endpoint": row.target.endpoint,
        "probes": { "asked": row.measured.asked, "answered": row.measured.answered },
        "challenge": match row.measured.capacity {
            Capacity::Proved(_) => "proved",
            Capacity::Failed => "failed",
            Capacity::Lied => "lied",
            Capacity::NotAsked => "not asked",
        },
        "challenge_ms": row.challenge.map(|elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
        "vote": vote.map(|vote| json!({
            "availability": vote.availability,
            "capacity": vote.capacity,
            "token": vote.token,
            "dishonest": vote.dishonest,
        })),
        "trouble": row.trouble,
        "metrics": row.metrics.as_ref().map(|metrics| json!({
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
