//! The network: initialise it, look at it, govern it.

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use datagalax::{
    constants::BPS,
    math::Rate,
    state::{Network, Parameters, VaultLedger, VestingTerms},
};
use datagalax_client::{
    Address,
    addresses::{self, Vault},
    amount::Ath,
    clock::read_clock,
    instructions::{self, InitializeNetworkArgs},
    token,
};

use super::{ath, govern::Propose};
use crate::{
    context::{Context, some},
    report::{Cell, Report},
    time::utc,
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Initialise the network; --keypair is the program's upgrade authority and becomes the network's authority
    Init(Box<Init>),
    /// The network, its vaults and its parameters
    Show,
    /// Propose changes, to be applied after the time lock; what is not named stays; --keypair is the authority
    Propose(Box<Propose>),
    /// Put into force what was proposed, once the time lock has run out; anybody may
    Apply,
    /// Drop what was proposed; --keypair is the authority
    Cancel,
    /// Pause the network for 72 hours; --keypair is the guardian (not twice in 7 days) or the authority
    Pause,
    /// End a pause; --keypair is the authority
    Unpause,
    /// Move what the stake and escrow vaults owe nobody (slashes, fees of leases) to the rewards vault; anybody may
    Sweep {
        /// Only this vault
        #[arg(long, value_enum, value_name = "VAULT")]
        vault: Option<Swept>,
    },
    /// Pay the treasury its share; anybody may
    Treasury,
    /// Name the next authority; it becomes that once it accepts; --keypair is the authority
    HandOver {
        /// The key that shall be the authority
        next: Address,
    },
    /// Become the authority, as named; --keypair is the key that was named
    Accept,
}

/// A vault that may hold what it owes nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Swept {
    /// Stake.
    Stake,
    /// Escrow of leases.
    Escrow,
}

/// A new network. The defaults suit a local one; where a default depends on the epoch's length, it follows it.
#[derive(Args)]
pub struct Init {
    /// The mint of $ATH: 6 decimals, no freeze authority (`datagalax mint create` makes one)
    #[arg(long, value_name = "ADDRESS")]
    mint: Address,
    /// Treasury's token account; without it, the authority's own, created when missing
    #[arg(long, value_name = "ADDRESS")]
    treasury: Option<Address>,
    /// Key that may pause the network; without it, the authority
    #[arg(long, value_name = "ADDRESS")]
    guardian: Option<Address>,
    /// Seconds an epoch lasts, 20 to 86,400
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(20..=86_400), value_name = "SECONDS")]
    epoch_length: u32,
    /// Seconds from now until the first epoch begins
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(5..=2_592_000), value_name = "SECONDS")]
    start_in: u32,
    /// Emission of an epoch at the start, ATH
    #[arg(long, value_parser = ath, default_value = "1000", value_name = "ATH")]
    emission: u64,
    /// What each decay takes off the emission, 1/100 percent
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=BPS as i64), value_name = "BPS")]
    decay_bps: u32,
    /// Epochs between two decays; 0: never
    #[arg(long, default_value_t = 0, value_name = "EPOCHS")]
    decay_every: u32,
    /// Most that any vault may pay out, net, in 24 hours, ATH
    #[arg(long, value_parser = ath, default_value = "1000000", value_name = "ATH")]
    breaker_limit: u64,
    /// Accept a mint whose tokens can be frozen
    #[arg(long)]
    allow_freeze_authority: bool,
    #[command(flatten)]
    parameters: ParameterArgs,
}

/// The parameters that the authority may tune later, behind the time lock.
#[derive(Args)]
struct ParameterArgs {
    /// Price of one checker ticket, ATH
    #[arg(long, value_parser = ath, default_value = "1000", value_name = "ATH")]
    ticket_price: u64,
    /// Most that a unit of weight 1 earns in an epoch at 100 percent availability and capacity, ATH
    #[arg(long, value_parser = ath, default_value = "100", value_name = "ATH")]
    max_pay_of_weight: u64,
    /// Most that a checker's seat earns in an epoch, ATH
    #[arg(long, value_parser = ath, default_value = "1000", value_name = "ATH")]
    max_seat_pay: u64,
    /// What a keeper gets for an advance, a draw, a finished block or a closed case, ATH, out of the treasury's share
    #[arg(long, value_parser = ath, default_value = "0.01", value_name = "ATH")]
    keeper_fee: u64,
    /// What an indexer stakes, ATH
    #[arg(long, value_parser = ath, default_value = "10000", value_name = "ATH")]
    indexer_stake: u64,
    /// Slots between advancing an epoch and its draw, 1 to 256 [default: 2 below 600 s an epoch, else 16]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "SLOTS")]
    draw_delay: Option<u32>,
    /// Seconds before an epoch's end at which measuring ends [default: a sixth of an epoch, at most 300]
    #[arg(long, value_name = "SECONDS")]
    commit_lead: Option<u32>,
    /// Seconds after an epoch's end in which reports are revealed [default: a third of an epoch, at most 900]
    #[arg(long, value_name = "SECONDS")]
    reveal_window: Option<u32>,
    /// Seconds a dishonest case stays open [default: 48 h, but at least 8 epochs and at most 1,000]
    #[arg(long, value_name = "SECONDS")]
    case_window: Option<u32>,
    /// Seconds a requested unstake waits [default: 14 days, or the case window and 4 epochs if that is longer]
    #[arg(long, value_name = "SECONDS")]
    unbonding: Option<u32>,
    /// Seconds a container has to start a lease
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    start_timeout: u32,
    /// Seconds between proposing and applying parameters
    #[arg(long, default_value_t = 172_800, value_name = "SECONDS")]
    time_lock: u32,
    /// A slot is a beacon when its hash modulo this is 0 [default: about four an epoch at 400 ms a slot]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    beacon_modulus: Option<u32>,
    /// Stake coefficient, 1/100 percent of the class's base
    #[arg(long, default_value_t = BPS as u32, value_name = "BPS")]
    stake_coefficient_bps: u32,
    /// Containers' share of the pool, 1/100 percent; the treasury takes what containers and checkers leave
    #[arg(long, default_value_t = 7_500, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    container_share_bps: u16,
    /// Checkers' share of the pool, 1/100 percent
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    checker_share_bps: u16,
    /// Protocol fee on what a lease pays, 1/100 percent
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    lease_fee_bps: u16,
    /// Indexer's share of that fee, 1/100 percent
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
    indexer_share_bps: u16,
    /// Availability below which a container earns nothing, percent
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    availability_threshold: u8,
    /// Capacity below which a container earns nothing, percent
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    capacity_threshold: u8,
    /// Availability under which a leased epoch may be a breach, percent
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "PERCENT")]
    breach_threshold: u8,
    /// How far a vote may lie from the median and be right, points
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100), value_name = "POINTS")]
    tolerance: u8,
}

impl ParameterArgs {
    fn parameters(&self, epoch: u32, breaker_limit: u64) -> Result<Parameters> {
        let shares = u32::from(self.container_share_bps) + u32::from(self.checker_share_bps);
        let Some(treasury) = (BPS as u32).checked_sub(shares) else {
            bail!(
                "containers' and checkers' shares add up to more than 10,000: lower --container-share-bps or --checker-share-bps"
            );
        };
        let case_window = self.case_window.unwrap_or((48 * 3_600).clamp(8 * epoch, 1_000 * epoch));
        let unbonding = self.unbonding.unwrap_or((14 * 86_400).max(case_window.saturating_add(4 * epoch)));
        // 2.5 slots a second, four beacons an epoch.
        let beacon_modulus = self.beacon_modulus.unwrap_or((epoch * 5 / 8).max(1));
        let Some(max_rate) = Rate::of(self.max_pay_of_weight, 10_000) else { bail!("--max-pay-of-weight is too large") };
        Ok(Parameters {
            ticket_price: self.ticket_price,
            max_rate,
            max_seat_pay: self.max_seat_pay,
            keeper_fee: self.keeper_fee,
            indexer_stake: self.indexer_stake,
            breaker_limits: [breaker_limit; 3],
            draw_delay: self.draw_delay.unwrap_or(if epoch < 600 { 2 } else { 16 }),
            commit_lead: self.commit_lead.unwrap_or((epoch / 6).min(300)),
            reveal_window: self.reveal_window.unwrap_or((epoch / 3).min(900)),
            case_window,
            unbonding,
            start_timeout: self.start_timeout,
            time_lock: self.time_lock,
            beacon_modulus,
            stake_coefficient_bps: self.stake_coefficient_bps,
            container_share_bps: self.container_share_bps,
            checker_share_bps: self.checker_share_bps,
            treasury_share_bps: u16::try_from(treasury)?,
            lease_fee_bps: self.lease_fee_bps,
            indexer_share_bps: self.indexer_share_bps,
            availability_threshold: self.availability_threshold,
            capacity_threshold: self.capacity_threshold,
            breach_threshold: self.breach_threshold,
            tolerance: self.tolerance,
            tokens_required: 1,
            reserved: [0; 37],
        })
    }
}

/// 30 percent at once, 30 over 90 days, 40 over 180.
const VESTING: VestingTerms = VestingTerms {
    id: 1,
    immediate_bps: 3_000,
    short_bps: 3_000,
    short_days: 90,
    long_bps: 4_000,
    long_days: 180,
    from_day: 0,
};

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Init(init) => initialize(context, *init).await,
            Self::Show => show(context).await,
            Self::Propose(changes) => changes.run(context).await,
            Self::Apply => apply(context).await,
            Self::Cancel => {
                context.network().await?;
                let signing = context.signer().await?;
                let landed =
                    signing.send("cancel the proposal", &[instructions::cancel_proposal(&signing.address())]).await?;
                Ok(Report::new().sent("The proposal is dropped.", landed))
            }
            Self::Pause => {
                context.network().await?;
                let signing = context.signer().await?;
                let landed = signing.send("pause the network", &[instructions::pause(&signing.address())]).await?;
                let until = context.network().await?.paused_until;
                Ok(Report::new()
                    .fields("network", vec![("paused_until", Cell::Time(until))])
                    .sent(format!("The network is paused until {}.", utc(until)), landed))
            }
            Self::Unpause => {
                context.network().await?;
                let signing = context.signer().await?;
                let landed = signing.send("end the pause", &[instructions::unpause(&signing.address())]).await?;
                Ok(Report::new().sent("The pause is over.", landed))
            }
            Self::Sweep { vault } => sweep(context, vault).await,
            Self::Treasury => treasury(context).await,
            Self::HandOver { next } => {
                context.network().await?;
                let signing = context.signer().await?;
                let instruction = instructions::propose_authority(&signing.address(), &next);
                let landed = signing.send("name the next authority", &[instruction]).await?;
                Ok(Report::new()
                    .sent(format!("{next} may become the authority."), landed)
                    .note("It does so with `datagalax network accept`."))
            }
            Self::Accept => {
                context.network().await?;
                let signing = context.signer().await?;
                let landed = signing.send("accept", &[instructions::accept_authority(&signing.address())]).await?;
                Ok(Report::new().sent(format!("{} is the authority now.", signing.address()), landed))
            }
        }
    }
}

async fn apply(context: &Context) -> Result<Report> {
    let network = context.network().await?;
    ensure!(network.pending_at != 0, "nothing is proposed: propose first with `datagalax network propose`");
    let signing = context.signer().await?;
    let instruction = instructions::apply_proposal(&network.pending.treasury);
    let landed = signing.send("apply the proposal", &[instruction]).await?;
    Ok(show(context).await?.sent("The proposal is in force; lengths change at the next epoch's start.", landed))
}

async fn sweep(context: &Context, only: Option<Swept>) -> Result<Report> {
    let network = context.network().await?;
    let signing = context.signer().await?;
    let mut report = Report::new();
    let mut swept = false;
    for (name, vault) in [(Swept::Stake, Vault::Stake), (Swept::Escrow, Vault::Escrow)] {
        let free = context.reader.ledger(vault).await?.free();
        if only.is_some_and(|o| o != name) || free == 0 {
            continue;
        }
        let label = format!("sweep the {} vault", vault.name());
        let landed = signing.send(&label, &[instructions::sweep_vault(&network, vault)]).await?;
        let said = format!("Moved {} ATH from the {} vault to the rewards vault.", Ath(free), vault.name());
        report = report.fields(vault.name(), vec![("swept", Ath(free).into())]).sent(said, landed);
        swept = true;
    }
    if !swept {
        report = report.note("Nothing to sweep: the vaults owe all that they hold.");
    }
    Ok(report)
}

async fn treasury(context: &Context) -> Result<Report> {
    let network = context.network().await?;
    ensure!(network.treasury_due > 0, "the treasury is owed nothing yet: wait until an epoch was released");
    let signing = context.signer().await?;
    let landed = signing.send("pay the treasury", &[instructions::withdraw_treasury(&network)]).await?;
    // An advance may have added to it meanwhile: the token account shows what arrived.
    let balance = context.reader.token_balance(&network.treasury).await?.context("the treasury's token account is gone")?;
    Ok(Report::new()
        .fields(
            "treasury",
            vec![
                ("token_account", network.treasury.into()),
                ("owed_before", Ath(network.treasury_due).into()),
                ("owed_now", Ath(context.network().await?.treasury_due).into()),
                ("balance", Ath(balance).into()),
            ],
        )
        .sent("The treasury is paid, as far as its vault's circuit breaker allows.", landed))
}

async fn initialize(context: &Context, init: Init) -> Result<Report> {
    if context.reader.find::<Network>(&addresses::network()).await?.is_some() {
        bail!("the network is initialised already: look at it with `datagalax network show`");
    }
    let parameters = init.parameters.parameters(init.epoch_length, init.breaker_limit)?;
    let signing = context.signer().await?;
    let authority = signing.address();
    let rpc = context.reader.rpc();
    let mint = rpc.accounts(&[init.mint]).await?.into_iter().next().flatten();
    let token_program = mint.map(|account| account.owner).with_context(|| format!("there is no mint at {}", init.mint))?;
    let own = token::associated_account_of(&authority, &init.mint, &token_program);
    let treasury = init.treasury.unwrap_or(own);
    // On its own: creating the network fills a transaction by itself.
    if treasury == own && context.reader.token_balance(&own).await?.is_none() {
        signing
            .send(
                "create the treasury's account",
                &[token::create_associated_account_of(&authority, &authority, &init.mint, &token_program)],
            )
            .await?;
    }
    let now = read_clock(rpc.as_ref()).await?.unix_timestamp;
    let start = now.saturating_add(i64::from(init.start_in));
    let args = InitializeNetworkArgs {
        genesis_hash: rpc.genesis_hash().await?.to_bytes(),
        guardian: init.guardian.unwrap_or(authority),
        first_epoch_start: start,
        epoch_length: init.epoch_length,
        parameters,
        emission: init.emission,
        decay_bps: init.decay_bps,
        decay_every: init.decay_every,
        vesting: VESTING,
        allow_freeze_authority: u8::from(init.allow_freeze_authority),
    };
    let instruction = instructions::initialize_network(&authority, &init.mint, &treasury, &token_program, args);
    let landed = signing.send("initialise the network", &[instruction]).await?;
    Ok(Report::new()
        .fields(
            "network",
            vec![
                ("address", addresses::network().into()),
                ("authority", authority.into()),
                ("mint", init.mint.into()),
                ("treasury", treasury.into()),
                ("first_epoch_starts", Cell::Time(start)),
                ("epoch_length", Cell::Span(init.epoch_length.into())),
            ],
        )
        .sent("Network initialised. Next: fund the rewards, create classes, run a keeper.", landed))
}

async fn show(context: &Context) -> Result<Report> {
    let network = context.network().await?;
    let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
    let set = context.reader.checker_set_header().await?;
    let clock_epoch = network.epoch_at(now).ok();
    let report = Report::new().fields(
        "network",
        vec![
            ("address", addresses::network().into()),
            ("program", addresses::PROGRAM.into()),
            ("authority", network.authority.into()),
            ("next_authority", address(&network.pending_authority)),
            ("guardian", network.guardian.into()),
            ("paused_until", if network.is_paused(now) { Cell::Time(network.paused_until) } else { Cell::None }),
            ("mint", network.mint.into()),
            ("treasury", network.treasury.into()),
            ("treasury_due", Ath(network.treasury_due).into()),
            ("chain_time", Cell::Time(now)),
            ("epoch_of_the_clock", clock_epoch.into()),
            ("epoch_advanced_to", some(network.current_epoch).into()),
            ("epoch_length", Cell::Span(network.grids[0].length.into())),
            ("epochs_of_this_length_since", Cell::Time(network.grids[0].start)),
            ("emission_of_an_epoch", Ath(network.emission.amount).into()),
            ("emission_decay_bps", network.emission.decay_bps.into()),
            ("emission_decays_every_epochs", network.emission.decay_every.into()),
            ("proposal_applies_from", if network.pending_at == 0 { Cell::None } else { Cell::Time(network.pending_at) }),
            ("classes", network.classes.into()),
            ("providers", network.providers.into()),
            ("checkers", network.checkers.into()),
            ("indexers", network.indexers.into()),
            ("tickets_live", set.live.into()),
            ("tickets_waiting", set.pending.into()),
            ("tickets_leaving", set.leaving.into()),
            ("tickets_retiring", set.retiring.into()),
            ("blocks", network.blocks.into()),
            ("free_rows", network.free_rows.into()),
        ],
    );
    let mut vaults = Vec::new();
    for vault in Vault::ALL {
        let ledger = context.reader.ledger(vault).await?;
        let held = context.reader.token_balance(&ledger.vault).await?;
        vaults.push(vec![
            vault.name().into(),
            Ath(ledger.balance).into(),
            Ath(ledger.liabilities).into(),
            Ath(ledger.free()).into(),
            held.map(Ath).into(),
            ledger.vault.into(),
        ]);
    }
    let columns = ["vault", "balance", "liabilities", "free", "held", "token_account"];
    let mut report = report.rows("vaults", &columns, vaults).fields("parameters", parameters(&network.parameters)).rows(
        "vesting_terms",
        &VESTING_COLUMNS,
        network.vesting_terms.iter().filter(|t| t.id != 0).map(terms).collect(),
    );
    if network.pending_at != 0 {
        report = report.fields("proposed_parameters", parameters(&network.pending.parameters));
    }
    Ok(report)
}

const VESTING_COLUMNS: [&str; 7] = ["id", "from_day", "at_once_bps", "short_bps", "short_days", "long_bps", "long_days"];

fn terms(t: &VestingTerms) -> Vec<Cell> {
    let from = Cell::Time(i64::from(t.from_day) * 86_400);
    vec![
        t.id.into(),
        from,
        t.immediate_bps.into(),
        t.short_bps.into(),
        t.short_days.into(),
        t.long_bps.into(),
        t.long_days.into(),
    ]
}

fn address(address: &Address) -> Cell {
    if *address == Address::default() { Cell::None } else { (*address).into() }
}

/// Parameters as they are shown.
pub fn parameters(p: &Parameters) -> Vec<(&'static str, Cell)> {
    vec![
        ("ticket_price", Ath(p.ticket_price).into()),
        ("max_pay_of_weight", p.max_rate.pay(10_000).map(Ath).into()),
        ("max_seat_pay", Ath(p.max_seat_pay).into()),
        ("keeper_fee", Ath(p.keeper_fee).into()),
        ("indexer_stake", Ath(p.indexer_stake).into()),
        ("breaker_limit_stake", Ath(p.breaker_limits[usize::from(VaultLedger::STAKE)]).into()),
        ("breaker_limit_rewards", Ath(p.breaker_limits[usize::from(VaultLedger::REWARDS)]).into()),
        ("breaker_limit_escrow", Ath(p.breaker_limits[usize::from(VaultLedger::ESCROW)]).into()),
        ("draw_delay_slots", p.draw_delay.into()),
        ("commit_lead", Cell::Span(p.commit_lead.into())),
        ("reveal_window", Cell::Span(p.reveal_window.into())),
        ("case_window", Cell::Span(p.case_window.into())),
        ("unbonding", Cell::Span(p.unbonding.into())),
        ("start_timeout", Cell::Span(p.start_timeout.into())),
        ("time_lock", Cell::Span(p.time_lock.into())),
        ("beacon_modulus", p.beacon_modulus.into()),
        ("stake_coefficient_bps", p.stake_coefficient_bps.into()),
        ("container_share_bps", p.container_share_bps.into()),
        ("checker_share_bps", p.checker_share_bps.into()),
        ("treasury_share_bps", p.treasury_share_bps.into()),
        ("lease_fee_bps", p.lease_fee_bps.into()),
        ("indexer_share_bps", p.indexer_share_bps.into()),
        ("availability_threshold", Cell::Percent(p.availability_threshold)),
        ("capacity_threshold", Cell::Percent(p.capacity_threshold)),
        ("breach_threshold", Cell::Percent(p.breach_threshold)),
        ("tolerance", p.tolerance.into()),
        ("tokens_required", (p.tokens_required == 1).into()),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        init: Init,
    }

    fn line(more: &[&str]) -> Result<Line, clap::Error> {
        let mint = Address::default().to_string();
        Line::try_parse_from([&["init", "--mint", &mint][..], more].concat())
    }

    proptest! {
        /// Whatever length an epoch has, the defaults are parameters that the program accepts.
        #[test]
        fn the_defaults_suit_every_epoch(length in 20u32..=86_400) {
            let init = line(&["--epoch-length", &length.to_string()]).unwrap().init;
            let parameters = init.parameters.parameters(length, init.breaker_limit).unwrap();
            prop_assert_eq!(parameters.validate(length), Ok(()));
        }
    }

    #[test]
    fn shares_above_the_whole_are_refused() {
        let init = line(&["--container-share-bps", "9000", "--checker-share-bps", "1001"]).unwrap().init;
        assert!(init.parameters.parameters(60, 1).unwrap_err().to_string().contains("--container-share-bps"));
        assert!(line(&["--epoch-length", "19"]).is_err());
        assert!(line(&["--tolerance", "101"]).is_err());
    }
}
