//! What a keeper needs.

use datagalax::state::{Keeper, Network};
use datagalax_client::{addresses, amount::Ath};

use super::{
    Doctor, OnChain,
    host::{self, SIGNATURE},
};
use crate::finding::{Finding, Reading, bounded};

/// Blocks that one transaction seats.
const SEATED: u64 = 8;

/// Looks.
pub async fn look(doctor: &Doctor, on: &OnChain<'_>) -> Vec<Finding> {
    let account = bounded(on.context.reader.find::<Keeper>(&addresses::keeper(on.key))).await;
    let mut findings = registered(&account);
    findings.push(host::balance(on.host, fees(on.network), doctor.days));
    findings.push(host::state(&on.host.disk));
    findings
}

/// Lamports a day when this keeper does all that is to do: an epoch's advance and draw, the seats and two transactions for each
/// block's tally.
fn fees(network: &Network) -> u64 {
    let blocks = u64::from(network.blocks);
    let epochs = 86_400 / u64::from(network.grids[0].length.max(1));
    epochs.saturating_mul(2 + blocks.div_ceil(SEATED) + 2 * blocks).saturating_mul(SIGNATURE)
}

/// `keeper.registered` and `keeper.due`.
fn registered(account: &Reading<Option<Box<Keeper>>>) -> Vec<Finding> {
    let id = "keeper.registered";
    match account {
        Err(why) => vec![Finding::skipped(id, why, "mend rpc.answers first")],
        Ok(None) => {
            let advice = "open its account with `datagalax keeper register`: without it, it works for nothing";
            vec![Finding::warning(id, "it has no account to earn fees in", advice)]
        }
        Ok(Some(keeper)) => {
            let found = format!("{} actions earned {} ATH", keeper.actions, Ath(keeper.earned));
            let due = format!("{} ATH", Ath(keeper.due));
            vec![Finding::ok(id, found), Finding::ok("keeper.due", due)]
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;
    use crate::finding::State::{Ok as Fine, Skipped, Warning};

    #[test]
    fn a_keeper_without_an_account_works_for_nothing() {
        let of = |account| registered(&account)[0].state;
        assert_eq!(of(Ok(Some(Box::new(Keeper::zeroed())))), Fine);
        assert_eq!(of(Ok(None)), Warning);
        assert_eq!(of(Err("no".to_owned())), Skipped);
    }

    #[test]
    fn fees_grow_with_blocks_and_short_epochs() {
        let of = |length, blocks| {
            let mut network = bytemuck::allocation::zeroed_box::<Network>();
            (network.grids[0].length, network.blocks) = (length, blocks);
            fees(&network)
        };
        assert_eq!(of(3_600, 1), 24 * 5 * 5_000);
        assert_eq!(of(3_600, 16), 24 * (2 + 2 + 32) * 5_000);
        assert_eq!(of(60, 1), 60 * of(3_600, 1));
    }
}
