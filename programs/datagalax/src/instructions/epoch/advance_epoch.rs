use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet, EventAuthority, New},
    constants::{BPS, FULL_CAPACITY_LIFETIME, MAX_DECAYS_PER_ADVANCE, NONE, seed},
    error::DatagalaxError,
    events::EpochAdvanced,
    instructions::keeper::pay_keeper,
    math::{Rate, mul_ratio},
    state::{Emission, Epoch, Keeper, Network, Thresholds, VERSION, VaultLedger},
};

#[derive(Accounts)]
pub struct AdvanceEpoch {
    #[account(mut)]
    pub payer: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub rewards_ledger: Account<VaultLedger>,
    #[account(mut)]
    pub epoch: New<Epoch>,
    /// The epoch last advanced to; absent only at the first advance.
    #[account(mut)]
    pub current: Option<Account<Epoch>>,
    /// The one before it, while its reservation is not released.
    #[account(mut)]
    pub previous: Option<Account<Epoch>>,
    pub checkers: CheckerSet,
    /// Gets the fee for it.
    #[account(mut)]
    pub keeper: Option<Account<Keeper>>,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The number is the epoch the clock is in, later than the current one; skipped numbers are void.
/// 2. Every earlier reservation whose tally is over is released exactly once.
/// 3. Carry over nominal and blocks with the changes counted meanwhile, the last seed and the entropy of number - 2.
/// 4. Decay the emission; reserve min(scheduled, what the vault holds free) as the pool and split it.
/// 5. Fix the rate from what could be earned, what is judged by, which tickets may leave and enter, and the slot of the draw.
/// 6. Who advances, may name a keeper.
#[inline(never)]
pub fn advance_epoch(ctx: &mut Context<AdvanceEpoch>, number: u32) -> Result<()> {
    let clock = Clock::get()?;
    let accounts = &mut ctx.accounts;
    let network = &mut *accounts.network;
    let ledger = &mut *accounts.rewards_ledger;
    require!(ledger.kind == VaultLedger::REWARDS, DatagalaxError::WrongAccount);
    // 1.
    require!(network.epoch_at(clock.unix_timestamp)? == number, DatagalaxError::WrongEpoch);
    let mut carried = Carried::default();
    let mut released = 0u64;
    let mut unreleased = NONE;

    // 2. The tally of x ends with x + 1, so everything up to number - 2 is settled. Attack: an advance that leaves out an
    // unreleased epoch would strand its reservation, so both are demanded by number.
    if network.previous_epoch != NONE {
        let previous = accounts.previous.as_mut().ok_or(DatagalaxError::PreviousEpochRequired)?;
        require!(previous.number == network.previous_epoch, DatagalaxError::PreviousEpochRequired);
        carried.note_entropy(previous, number);
        released += release(previous, ledger, &mut network.treasury_due)?;
    }
    if network.current_epoch != NONE {
        let current = accounts.current.as_mut().ok_or(DatagalaxError::CurrentEpochRequired)?;
        require!(current.number == network.current_epoch, DatagalaxError::CurrentEpochRequired);
        require!(current.number < number, DatagalaxError::AlreadyAdvanced);
        carried.note_entropy(current, number);
        // 3.
        carried.nominal = current.next_nominal()?;
        carried.blocks = current.next_blocks()?;
        carried.seed = if current.status == Epoch::DRAWN { current.seed } else { current.last_seed };
        if current.number + 2 <= number {
            released += release(current, ledger, &mut network.treasury_due)?;
        } else {
            unreleased = current.number;
        }
    }

    // 4. Never promise what is not there.
    decay(&mut network.emission, number);
    let parameters = &network.parameters;
    let pool = network.emission.amount.min(ledger.free());
    let share = |bps: u16| mul_ratio(pool, u64::from(bps), BPS).ok_or(DatagalaxError::Overflow);
    let (container_pool, checker_pool) = (share(parameters.container_share_bps)?, share(parameters.checker_share_bps)?);
    let treasury_pool = share(parameters.treasury_share_bps)?;
    ledger.reserve(pool)?;

    // 5. With nothing to seat nothing can be measured, hence nothing earned.
    let mut rate = Rate::ZERO;
    if carried.nominal > 0 && carried.blocks > 0 {
        rate = Rate::of(container_pool, carried.nominal).ok_or(DatagalaxError::Overflow)?.min(parameters.max_rate);
    }
    let seeds: [&[u8]; 2] = [seed::EPOCH, &number.to_le_bytes()];
    let (mut epoch, bump) = accounts.epoch.create(accounts.payer.account(), &seeds)?;
    epoch.version = VERSION;
    epoch.bump = bump;
    epoch.status = Epoch::ADVANCED;
    epoch.number = number;
    epoch.draw_slot = clock.slot.saturating_add(u64::from(parameters.draw_delay));
    epoch.retirements = accounts.checkers.retiring;
    epoch.leavers = accounts.checkers.leaving;
    epoch.entrants = accounts.checkers.pending;
    // An epoch's length is 20 seconds at least.
    let length = network.grid_of(number).length.max(1);
    epoch.case_epochs = parameters.case_window.div_ceil(length);
    epoch.capacity_epochs = FULL_CAPACITY_LIFETIME / length;
    epoch.thresholds = Thresholds {
        availability: parameters.availability_threshold,
        capacity: parameters.capacity_threshold,
        breach: parameters.breach_threshold,
        tolerance: parameters.tolerance,
        tokens_required: parameters.tokens_required,
        reserved: [0; 3],
    };
    epoch.max_seat_pay = parameters.max_seat_pay;
    epoch.keeper_fee = parameters.keeper_fee;
    epoch.blocks = carried.blocks;
    epoch.last_seed = carried.seed;
    epoch.entropy_before = carried.entropy;
    epoch.nominal = carried.nominal;
    epoch.rate = rate;
    epoch.pool = pool;
    epoch.container_pool = container_pool;
    epoch.checker_pool = checker_pool;
    epoch.treasury_pool = treasury_pool;
    epoch.rent_payer = *accounts.payer.address();
    network.previous_epoch = unreleased;
    network.current_epoch = number;

    // 6.
    pay_keeper(&mut epoch, &mut accounts.keeper)?;
    accounts.event_authority.emit(&EpochAdvanced {
        epoch: number,
        pool,
        nominal: carried.nominal,
        rate_hi: rate.hi,
        rate_lo: rate.lo,
        blocks: carried.blocks,
        released,
    });
    epoch.invariant()?;
    accounts.rewards_ledger.books()?;
    accounts.network.invariant()
}

/// What the new epoch takes over from those before it.
#[derive(Default)]
struct Carried {
    nominal: u64,
    blocks: u32,
    seed: [u8; 32],
    entropy: [u8; 32],
}

impl Carried {
    fn note_entropy(&mut self, epoch: &Epoch, number: u32) {
        if epoch.number.checked_add(2) == Some(number) {
            self.entropy = epoch.entropy;
        }
    }
}

/// Gives back what an epoch reserved and nobody earned; what was earned stays a liability until it is claimed. The treasury earned
/// its share, less the keepers' fees, unless the epoch was void.
#[inline(never)]
fn release(epoch: &mut Epoch, ledger: &mut VaultLedger, treasury_due: &mut u64) -> Result<u64> {
    require!(epoch.released == 0, DatagalaxError::InvariantViolated);
    let treasury = if epoch.status == Epoch::DRAWN { epoch.treasury_left() } else { 0 };
    *treasury_due = treasury_due.checked_add(treasury).ok_or(DatagalaxError::Overflow)?;
    let earned = epoch.credited().checked_add(treasury).ok_or(DatagalaxError::Overflow)?;
    let unearned = epoch.pool.checked_sub(earned).ok_or(DatagalaxError::InvariantViolated)?;
    ledger.release(unearned)?;
    epoch.released = 1;
    epoch.invariant()?;
    Ok(unearned)
}

/// Applies the decays due by this epoch, each rounded down, so that the schedule is never above its formula.
fn decay(emission: &mut Emission, epoch: u32) {
    if emission.decay_every == 0 {
        return;
    }
    let kept = BPS - u64::from(emission.decay_bps).min(BPS);
    for _ in 0..MAX_DECAYS_PER_ADVANCE {
        if emission.next_decay > epoch {
            return;
        }
        emission.amount = mul_ratio(emission.amount, kept, BPS).unwrap_or(0);
        emission.next_decay = emission.next_decay.saturating_add(emission.decay_every);
    }
}
