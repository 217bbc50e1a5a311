//! What the authority proposes: the network as it is, with what was named changed.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use datagalax::{
    constants::BPS,
    math::Rate,
    state::{Network, Parameters, VestingTerms},
};
use datagalax_client::{
    Address,
    amount::Ath,
    instructions::{self, Proposal},
};

use super::{ath, network::parameters};
use crate::{
    context::Context,
    report::{Cell, Report},
    time::utc,
};

/// Changes. What is not named stays as it is, also where an earlier proposal that is not in force names something else.
#[derive(Args)]
pub struct Propose {
    /// Treasury's token account
    #[arg(long, value_name = "ADDRESS")]
    treasury: Option<Address>,
    /// Key that may pause the network
    #[arg(long, value_name = "ADDRESS")]
    guardian: Option<Address>,
    /// Seconds an epoch lasts, 20 to 86,400, from the next boundary on
    #[arg(long, value_parser = clap::value_parser!(u32).range(20..=86_400), value_name = "SECONDS")]
    epoch_length: Option<u32>,
    /// Emission of an epoch, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    emission: Option<u64>,
    /// What each decay takes off the emission, 1/100 percent
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=BPS as i64), value_name = "BPS")]
    decay_bps: Option<u32>,
    /// Epochs between two decays; 0: never
    #[arg(long, value_name = "EPOCHS")]
    decay_every: Option<u32>,
    /// Epoch of the next decay
    #[arg(long, value_name = "EPOCH")]
    next_decay: Option<u32>,
    /// Vesting of later claims as `AT_ONCE,SHORT,SHORT_DAYS,LONG,LONG_DAYS`: parts in 1/100 percent that add up to 10,000
    #[arg(long, value_parser = vesting, value_name = "TERMS")]
    vesting: Option<VestingTerms>,
    #[command(flatten)]
    changes: Changes,
}

/// Changed parameters.
#[derive(Args)]
struct Changes {
    /// Price of one checker ticket, ATH; bought ones keep theirs
    #[arg(long, value_parser = ath, value_name = "ATH")]
    ticket_price: Option<u64>,
    /// Most that a unit of weight 1 earns in an epoch at 100 percent availability and capacity, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    max_pay_of_weight: Option<u64>,
    /// Most that a checker's seat earns in an epoch, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    max_seat_pay: Option<u64>,
    /// What a keeper gets for an advance, a draw, a finished block or a closed case, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    keeper_fee: Option<u64>,
    /// What an indexer stakes, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    indexer_stake: Option<u64>,
    /// Most that the stake vault may pay out, net, in 24 hours, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    breaker_limit_stake: Option<u64>,
    /// Most that the rewards vault may pay out, net, in 24 hours, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    breaker_limit_rewards: Option<u64>,
    /// Most that the escrow vault may pay out, net, in 24 hours, ATH
    #[arg(long, value_parser = ath, value_name = "ATH")]
    breaker_limit_escrow: Option<u64>,
    /// Slots between advancing an epoch and its draw, 1 to 256
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "SLOTS")]
    draw_delay: Option<u32>,
    /// Seconds before an epoch's end at which measuring ends
    #[arg(long, value_name = "SECONDS")]
    commit_lead: Option<u32>,
    /// Seconds after an epoch's end in which reports are revealed
    #[arg(long, value_name = "SECONDS")]
    reveal_window: Option<u32>,
    /// Seconds a dishonest case stays open
    #[arg(long, value_name = "SECONDS")]
    case_window: Option<u32>,
    /// Seconds a requested unstake waits
    #[arg(long, value_name = "SECONDS")]
    unbonding: Option<u32>,
    /// Seconds a container has to start a lease
    #[arg(long, value_name = "SECONDS")]
    start_timeout: Option<u32>,
    /// Seconds between proposing and applying, from the next proposal on
    #[arg(long, value_name = "SECONDS")]
    time_lock: Option<u32>,
    /// A slot is a beacon when its hash modulo this is 0
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    beacon_modulus: Option<u32>,
    /// Stake coefficient, 1/100 percent of the class's base
    #[arg(long, value_name = "BPS")]
    stake_coefficient_bps: Option<u32>,
    /// Containers' share of the pool, 1/100 percent; the three shares add up to 10,000
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    container_share_bps: Option<u16>,
    /// Checkers' share of the pool, 1/100 percent
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    checker_share_bps: Option<u16>,
    /// Treasury's share of the pool, 1/100 percent
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    treasury_share_bps: Option<u16>,
    /// Protocol fee on what a lease pays, 1/100 percent
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    lease_fee_bps: Option<u16>,
    /// Indexer's share of that fee, 1/100 percent
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    indexer_share_bps: Option<u16>,
    /// Availability below which a container earns nothing, percent
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    availability_threshold: Option<u8>,
    /// Capacity below which a container earns nothing, percent
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    capacity_threshold: Option<u8>,
    /// Availability under which a leased epoch may be a breach, percent
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    breach_threshold: Option<u8>,
    /// How far a vote may lie from the median and be right, points
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "POINTS")]
    tolerance: Option<u8>,
    /// Whether an agreed token of 0 proves nothing
    #[arg(long, action = clap::ArgAction::Set, value_name = "true|false")]
    tokens_required: Option<bool>,
}

/// `AT_ONCE,SHORT,SHORT_DAYS,LONG,LONG_DAYS`.
fn vesting(text: &str) -> Result<VestingTerms, String> {
    let wrong =
        || format!("`{text}` is not of the form AT_ONCE,SHORT,SHORT_DAYS,LONG,LONG_DAYS, such as 3000,3000,90,4000,180");
    let numbers: Vec<u16> = text.split(',').map(|n| n.trim().parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let [immediate_bps, short_bps, short_days, long_bps, long_days] = numbers[..] else { return Err(wrong()) };
    let terms = VestingTerms { id: 0, immediate_bps, short_bps, short_days, long_bps, long_days, from_day: 0 };
    terms.validate().map_err(|_| format!("`{text}`: the three parts add up to 10,000, the days are 1 to 180"))?;
    Ok(terms)
}

impl Changes {
    fn apply(&self, now: &Parameters) -> Result<Parameters> {
        let mut p = *now;
        macro_rules! take {
            ($($field:ident),* $(,)?) => { $(p.$field = self.$field.unwrap_or(p.$field);)* };
        }
        take!(
            ticket_price,
            max_seat_pay,
            keeper_fee,
            indexer_stake,
            draw_delay,
            commit_lead,
            reveal_window,
            case_window,
            unbonding,
            start_timeout,
            time_lock,
            beacon_modulus,
            stake_coefficient_bps,
            container_share_bps,
            checker_share_bps,
            treasury_share_bps,
            lease_fee_bps,
            indexer_share_bps,
            availability_threshold,
            capacity_threshold,
            breach_threshold,
            tolerance,
        );
        let limits = [self.breaker_limit_stake, self.breaker_limit_rewards, self.breaker_limit_escrow];
        for (limit, changed) in p.breaker_limits.iter_mut().zip(limits) {
            *limit = changed.unwrap_or(*limit);
        }
        if let Some(most) = self.max_pay_of_weight {
            p.max_rate = Rate::of(most, 10_000).context("--max-pay-of-weight is too large")?;
        }
        p.tokens_required = self.tokens_required.map_or(p.tokens_required, u8::from);
        Ok(p)
    }
}

impl Propose {
    /// The network's state with the changes.
    fn proposal(&self, network: &Network) -> Result<Proposal> {
        let mut emission = network.emission;
        emission.amount = self.emission.unwrap_or(emission.amount);
        emission.decay_bps = self.decay_bps.unwrap_or(emission.decay_bps);
        emission.decay_every = self.decay_every.unwrap_or(emission.decay_every);
        emission.next_decay = self.next_decay.unwrap_or(emission.next_decay);
        Ok(Proposal {
            parameters: self.changes.apply(&network.parameters)?,
            emission,
            vesting: self.vesting.unwrap_or_default(),
            treasury: self.treasury.unwrap_or(network.treasury),
            guardian: self.guardian.unwrap_or(network.guardian),
            epoch_length: self.epoch_length.unwrap_or(network.grids[0].length),
            reserved: 0,
        })
    }

    /// Sends the proposal.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let network = context.network().await?;
        let proposal = self.proposal(&network)?;
        ensure!(proposal != unchanged(&network), "nothing to propose: name what is to change, see `--help`");
        let signing = context.signer().await?;
        let landed = signing.send("propose", &[instructions::propose(&signing.address(), proposal)]).await?;
        let applies = context.network().await?.pending_at;
        let general: Vec<(&'static str, Cell)> = vec![
            ("applies_from", Cell::Time(applies)),
            ("treasury", proposal.treasury.into()),
            ("guardian", proposal.guardian.into()),
            ("epoch_length", Cell::Span(proposal.epoch_length.into())),
            ("emission_of_an_epoch", Ath(proposal.emission.amount).into()),
            ("emission_decay_bps", proposal.emission.decay_bps.into()),
            ("emission_decays_every_epochs", proposal.emission.decay_every.into()),
            ("new_vesting_terms", self.vesting.is_some().into()),
        ];
        Ok(Report::new()
            .fields("proposal", general)
            .fields("parameters", parameters(&proposal.parameters))
            .sent(format!("Proposed: apply it from {} with `datagalax network apply`.", utc(applies)), landed))
    }
}

/// What a proposal without a change is.
fn unchanged(network: &Network) -> Proposal {
    Proposal {
        parameters: network.parameters,
        emission: network.emission,
        vesting: VestingTerms::default(),
        treasury: network.treasury,
        guardian: network.guardian,
        epoch_length: network.grids[0].length,
        reserved: 0,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        propose: Propose,
    }

    fn line(more: &[&str]) -> Result<Propose, clap::Error> {
        Line::try_parse_from([&["propose"][..], more].concat()).map(|l| l.propose)
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        network.grids[0].length = 60;
        network.emission.amount = 7;
        network.parameters.ticket_price = 5;
        network.parameters.breaker_limits = [1, 2, 3];
        assert_eq!(line(&[]).unwrap().proposal(&network).unwrap(), unchanged(&network));
        let some =
            ["--ticket-price", "9", "--breaker-limit-rewards", "4", "--epoch-length", "90", "--tokens-required", "true"];
        let proposal = line(&some).unwrap().proposal(&network).unwrap();
        let mut expected = unchanged(&network);
        expected.parameters.ticket_price = 9_000_000;
        expected.parameters.breaker_limits = [1, 4_000_000, 3];
        expected.parameters.tokens_required = 1;
        expected.epoch_length = 90;
        assert_eq!(proposal, expected);
    }

    #[test]
    fn vesting_terms_are_five_numbers_that_make_a_whole() {
        let terms = line(&["--vesting", "3000,3000,90,4000,180"]).unwrap().vesting.unwrap();
        assert_eq!((terms.immediate_bps, terms.short_days, terms.long_days), (3_000, 90, 180));
        for bad in ["", "3000", "3000,3000,90,4001,180", "3000,3000,0,4000,180", "3000,3000,90,4000,181", "a,b,c,d,e"] {
            assert!(line(&["--vesting", bad]).is_err(), "{bad}");
        }
    }
}
