use anchor_lang::prelude::*;

use crate::{
    constants::{BPS, MAX_DECAYS_PER_ADVANCE, NONE, seed},
    error::DatagalaxError,
    events::EpochAdvanced,
    math::{Rate, mul_ratio},
    state::{CheckerSet, Emission, Epoch, Network, VERSION, VaultLedger},
};

#[derive(Accounts)]
#[instruction(number: u32)]
pub struct AdvanceEpoch {
    #[account(mut)]
    pub payer: Signer,
    #[account(mut)]
    pub network: Account<Network>,
    #[account(mut)]
    pub rewards_ledger: Account<VaultLedger>,
    #[account(init, payer = payer, seeds = [seed::EPOCH, number.to_le_bytes()], bump)]
    pub epoch: Account<Epoch>,
    /// The epoch last advanced to; absent only at the first advance.
    #[account(mut)]
    pub current: Option<Account<Epoch>>,
    /// The one before it, while its reservation is not released.
    #[account(mut)]
    pub previous: Option<Account<Epoch>>,
    pub checkers: CheckerSet,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The number is the epoch the clock is in, later than the current one; skipped numbers are void.
/// 2. Every earlier reservation whose tally is over is released exactly once.
/// 3. Carry over nominal and blocks with the changes counted meanwhile, the last seed and the entropy of number - 2.
/// 4. Decay the emission; reserve min(scheduled, what the vault holds free) as the pool and split it.
/// 5. Fix the rate from what could be earned, which tickets may enter, and the slot of the draw.
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
        released += release(previous, ledger)?;
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
            released += release(current, ledger)?;
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
    ledger.reserve(pool)?;

    // 5. With nothing to seat nothing can be measured, hence nothing earned.
    let mut rate = Rate::ZERO;
    if carried.nominal > 0 && carried.blocks > 0 {
        rate = Rate::of(container_pool, carried.nominal).ok_or(DatagalaxError::Overflow)?.min(parameters.max_rate);
    }
    let epoch = &mut *accounts.epoch;
    epoch.version = VERSION;
    epoch.bump = ctx.bumps.epoch;
    epoch.status = Epoch::ADVANCED;
    epoch.number = number;
    epoch.draw_slot = clock.slot.saturating_add(u64::from(parameters.draw_delay));
    epoch.entrants = accounts.checkers.pending;
    epoch.blocks = carried.blocks;
    epoch.last_seed = carried.seed;
    epoch.entropy_before = carried.entropy;
    epoch.nominal = carried.nominal;
    epoch.rate = rate;
    epoch.pool = pool;
    epoch.container_pool = container_pool;
    epoch.checker_pool = checker_pool;
    epoch.payer = *accounts.payer.address();
    network.previous_epoch = unreleased;
    network.current_epoch = number;
    emit!(EpochAdvanced {
        epoch: number,
        pool,
        nominal: carried.nominal,
        rate_hi: rate.hi,
        rate_lo: rate.lo,
        blocks: carried.blocks,
        released,
    });
    epoch.invariant()?;
    network.invariant()
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

/// Gives back what an epoch reserved and nobody earned; what was earned stays a liability until it is claimed.
fn release(epoch: &mut Epoch, ledger: &mut VaultLedger) -> Result<u64> {
    require!(epoch.released == 0, DatagalaxError::InvariantViolated);
    let unearned = epoch.pool.checked_sub(epoch.credited()).ok_or(DatagalaxError::InvariantViolated)?;
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
