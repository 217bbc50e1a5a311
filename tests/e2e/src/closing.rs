//! The end of a run: claim, withdraw, audit, and the table that shows it all.

use anyhow::{Context, Result, ensure};
use comfy_table::{Cell, Table, presets::UTF8_FULL_CONDENSED};
use datagalax::{
    constants::{BPS, DAY},
    math,
};
use datagalax_client::{amount::Ath, clock::read_clock, token};
use serde_json::Value;

use crate::{Books, Deployment, follow::Credited};

/// The claim, the withdrawal of its vested part, and what they changed.
pub struct Claim {
    /// Signature of the claiming transaction.
    pub signature: String,
    /// Granted by it, base units.
    pub granted: u64,
    /// Signature of the withdrawal of what had vested.
    pub withdrawal: String,
    /// Granted and not vested, base units.
    pub vesting: u64,
    /// Wallet's $ATH before, base units.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// Claims the container's reward into vesting and withdraws what vests at once with the `datagalax` command, as its provider would.
///
/// # Errors
/// A command failed, the grant is less than the row had accrued, or the wallet did not receive what had vested of it.
pub async fn claim(deployment: &Deployment, credited: &Credited) -> Result<Claim> {
    let wallet = token::associated_account(&deployment.payout, &deployment.mint);
    let balance = || async { Ok::<_, anyhow::Error>(deployment.reader.token_balance(&wallet).await?.unwrap_or(0)) };
    let before = balance().await?;
    let said = deployment.datagalax("provider-operator", &["claim"]).await?;
    let signature = find_signature(&said).context("`datagalax claim` named no signature")?;
    let granted = deployment.reader.provider(deployment.provider).await?.claimed;
    // The next tally may have credited more before the claim; it can only be more.
    ensure!(granted >= credited.row.accrued, "granted were {granted} of at least {} accrued", credited.row.accrued);

    let said = deployment.datagalax("provider-operator", &["withdraw"]).await?;
    let withdrawal = find_signature(&said).context("`datagalax withdraw` named no signature")?;
    let after = balance().await?;
    let paid = after.saturating_sub(before);
    let provider = deployment.reader.provider(deployment.provider).await?;
    let now = read_clock(deployment.reader.rpc().as_ref()).await?.unix_timestamp;
    let same_day = provider.grants.iter().any(|g| g.amount == granted && i64::from(g.day) == now / DAY);
    // 30 percent at once: what the two linear parts, 30 and 40 percent, rounded down, leave. At midnight a day of them more.
    let at_once = granted - granted * 3_000 / BPS - granted * 4_000 / BPS;
    ensure!(
        if same_day { paid == at_once } else { paid > at_once },
        "the wallet got {paid}, of {granted} granted {at_once} vest at once"
    );
    let vesting = provider.owed_grants().ok().context("the provider was paid more than it claimed")?;
    ensure!(vesting == granted - paid, "{vesting} still vest, which is not granted {granted} - paid {paid}");
    Ok(Claim { signature, granted, withdrawal, vesting, before, after })
}

/// The first string named `signature` anywhere in the answer.
fn find_signature(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => fields
            .get("signature")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or_else(|| fields.values().find_map(find_signature)),
        Value::Array(items) => items.iter().find_map(find_signature),
        _ => None,
    }
}

/// The closing table.
pub fn table(deployment: &Deployment, credited: &Credited, claim: &Claim, books: &Books) -> String {
    let metrics = &deployment.hardware.metrics;
    let epoch = &credited.epoch;
    let row = &credited.row;
    let weight = math::weight(row.unit_weight, row.gpus, credited.availability, credited.capacity);
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let mut line = |name: &str, value: String| {
        table.add_row([Cell::new(name), Cell::new(value)]);
    };
    line(
        "hardware",
        format!(
            "{}, {} threads, {:.1} GiB memory, {}",
            metrics.host.cpu_model,
            metrics.host.cpu_threads,
            metrics.host.memory_total as f64 / f64::from(1 << 30),
            metrics.host.os
        ),
    );
    line("GPUs", gpus(deployment));
    line(
        "capacity challenge",
        format!(
            "{:.2} G int8 operations/s on one thread; the class asks {:.2} G",
            deployment.hardware.throughput as f64 / 1e9,
            deployment.reference as f64 / 1e9
        ),
    );
    line("container", deployment.container.to_string());
    line("row", format!("block {}, row {}", credited.place.0, credited.place.1));
    line(
        "its way",
        format!(
            "registered in epoch {}, checked in {}, live from {}, credited for {}",
            credited.registered, credited.checked, credited.live_from, epoch.number
        ),
    );
    for vote in &credited.votes {
        let said = match (vote.vote, vote.revealed, vote.committed) {
            (Some(v), ..) => format!("availability {} %, capacity {} %, token {}", v.availability, v.capacity, v.token),
            (None, true, _) => "revealed, no vote on this row".into(),
            (None, false, true) => "committed, did not reveal".into(),
            (None, false, false) => "absent".into(),
        };
        line(
            &format!("vote of checker {}", vote.checker),
            format!("{said}; right on {} of {} rows", vote.right.0, vote.right.1),
        );
    }
    line("lower median", format!("availability {} %, capacity {} %", credited.availability, credited.capacity));
    line("pool of the epoch", format!("{} ATH ({} for containers)", Ath(epoch.pool), Ath(epoch.container_pool)));
    line("nominal weight", epoch.nominal.to_string());
    line("weight of the row", weight.to_string());
    line("rate", format!("{} base units a unit of weight (+ {}/2^64)", epoch.rate.hi, epoch.rate.lo));
    line("reward", format!("{} ATH", Ath(row.accrued)));
    line("claimed by", claim.signature.clone());
    line("granted", format!("{} ATH: 30 % at once, 30 % over 90 days, 40 % over 180", Ath(claim.granted)));
    line("withdrawn by", claim.withdrawal.clone());
    line("vested and paid", format!("{} ATH", Ath(claim.after.saturating_sub(claim.before))));
    line("still vesting", format!("{} ATH", Ath(claim.vesting)));
    line("wallet", deployment.payout.to_string());
    line("balance before", format!("{} ATH", Ath(claim.before)));
    line("balance after", format!("{} ATH", Ath(claim.after)));
    line("books", format!("credited {} = held {} + claimed {}", Ath(books.credited), Ath(books.held), Ath(books.claimed)));
    let (held, _, owed) = books.vaults[1];
    line(
        "rewards vault",
        format!(
            "holds {}, owes {} = reserved {} + held {} + grants {} + keeper and treasury {}",
            Ath(held),
            Ath(owed),
            Ath(books.reserved),
            Ath(books.held),
            Ath(books.granted),
            Ath(books.fees)
        ),
    );
    table.to_string()
}

fn gpus(deployment: &Deployment) -> String {
    let gpus = &deployment.hardware.metrics.gpus;
    if gpus.is_empty() {
        return "none: class cpu".into();
    }
    gpus.iter().map(|g| format!("{} ({} GiB)", g.model, g.memory_total >> 30)).collect::<Vec<_>>().join(", ")
}
