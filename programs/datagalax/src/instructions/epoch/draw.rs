use anchor_lang::prelude::*;

use crate::{
    checked::{Account, CheckerSet, EventAuthority},
    committee::{epoch_seed, seats_for},
    constants::{MIN_TICKETS_TO_PAY, SLOT_HASHES},
    error::DatagalaxError,
    events::EpochDrawn,
    instructions::keeper::pay_keeper,
    math::Rate,
    state::{Epoch, Keeper, Network},
};

/// The sysvar of recent slots' hashes.
pub const SLOT_HASHES_ID: Address = Address::from_str_const("SysvarS1otHashes111111111111111111111111111");

#[derive(Accounts)]
pub struct Draw {
    pub network: Account<Network>,
    #[account(mut, constraint = epoch.number == network.current_epoch @ DatagalaxError::CurrentEpochRequired)]
    pub epoch: Account<Epoch>,
    pub checkers: CheckerSet,
    #[account(address = SLOT_HASHES_ID @ DatagalaxError::WrongAccount)]
    pub slot_hashes: UncheckedAccount,
    /// Gets the fee for it.
    #[account(mut)]
    pub keeper: Option<Account<Keeper>>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The epoch is advanced to, not drawn, and still in its first quarter (later it is void).
/// 2. Churn has moved all that waited at the advance (or its 32): n is what it was bound to be.
/// 3. Take the first SlotHashes entry at or after the draw slot. None yet: too early. The draw slot older than all that
///    are kept: arm it again, since nobody can tell any more which entry was first.
/// 4. Derive the seed; fix n and the pay of a seat. Fewer than three tickets: the epoch pays nothing.
/// 5. Who draws, may name a keeper.
#[inline(never)]
pub fn draw(ctx: &mut Context<Draw>) -> Result<()> {
    let clock = Clock::get()?;
    let network = &ctx.accounts.network;
    let epoch = &mut *ctx.accounts.epoch;
    let set = &ctx.accounts.checkers;
    // 1.
    require!(epoch.status == Epoch::ADVANCED, DatagalaxError::AlreadyDrawn);
    require!(clock.unix_timestamp < network.draw_deadline(epoch.number), DatagalaxError::EpochVoid);

    // 2. Attack: draw before the entrants of this boundary are in, to keep a small order one controls; or keep registering
    // tickets, so that it never comes to the draw.
    require!(epoch.churn_left() == 0, DatagalaxError::ChurnPending);

    // 3.
    let view = *ctx.accounts.slot_hashes.account();
    let data = view.try_borrow()?;
    let Some((slot, hash)) = first_at_or_after(&data, epoch.draw_slot)? else {
        return Err(DatagalaxError::TooEarlyToDraw.into());
    };
    let Some(hash) = hash else {
        epoch.draw_slot = clock.slot.saturating_add(u64::from(network.parameters.draw_delay));
        msg!("draw slot too old; armed again");
        return Ok(());
    };

    // 4.
    epoch.seed = epoch_seed(&epoch.last_seed, &epoch.entropy_before, &hash, epoch.number);
    epoch.draw_slot = slot;
    epoch.tickets = set.live;
    epoch.status = Epoch::DRAWN;
    if epoch.tickets < MIN_TICKETS_TO_PAY {
        epoch.rate = Rate::ZERO;
    } else if epoch.blocks > 0 {
        let seats = u64::from(seats_for(epoch.tickets)) * u64::from(epoch.blocks);
        epoch.seat_pay = (epoch.checker_pool / seats).min(epoch.max_seat_pay);
    }

    // 5.
    drop(data);
    pay_keeper(epoch, &mut ctx.accounts.keeper)?;
    ctx.accounts.event_authority.emit(&EpochDrawn {
        epoch: epoch.number,
        slot,
        seed: epoch.seed,
        tickets: epoch.tickets,
        seat_pay: epoch.seat_pay,
    });
    ctx.accounts.epoch.invariant()
}

/// Bytes of an entry: slot u64, hash.
const ENTRY: usize = 40;

/// A slot, and its hash unless an earlier one may have been dropped.
type Drawn = Option<(u64, Option<[u8; 32]>)>;

/// The first entry at or after `wanted` in the SlotHashes sysvar (u64 count, then entries newest first): `None` when there
/// is none yet; a slot without a hash when the ring is full and even its oldest entry is later than `wanted`.
///
/// # Errors
/// [`DatagalaxError::BadSlotHashes`] when the bytes are not such a list.
fn first_at_or_after(data: &[u8], wanted: u64) -> Result<Drawn> {
    let bad = || Error::from(DatagalaxError::BadSlotHashes);
    let (count, entries) = data.split_first_chunk::<8>().ok_or_else(bad)?;
    let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| bad())?;
    require!(count <= SLOT_HASHES && entries.len() >= count * ENTRY, DatagalaxError::BadSlotHashes);
    let entry = |i: usize| -> Result<(u64, [u8; 32])> {
        let bytes = entries.get(i * ENTRY..(i + 1) * ENTRY).ok_or_else(bad)?;
        let (slot, hash) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        Ok((u64::from_le_bytes(*slot), hash.try_into().map_err(|_| bad())?))
    };
    // Newest first: entries 0..later are at or after the wanted slot; binary search for the boundary.
    let (mut later, mut size) = (0, count);
    while size > 0 {
        let half = size / 2;
        if entry(later + half)?.0 >= wanted {
            later += half + 1;
            size -= half + 1;
        } else {
            size = half;
        }
    }
    if later == 0 {
        return Ok(None);
    }
    let (slot, hash) = entry(later - 1)?;
    let complete = slot == wanted || later < count || count < SLOT_HASHES;
    Ok(Some((slot, complete.then_some(hash))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(slots: impl Iterator<Item = u64>) -> Vec<u8> {
        let slots: Vec<u64> = slots.collect();
        let mut data = (slots.len() as u64).to_le_bytes().to_vec();
        for slot in slots {
            data.extend(slot.to_le_bytes());
            data.extend([slot as u8; 32]);
        }
        data
    }

    #[test]
    fn finds_the_first_entry_at_or_after() {
        let data = ring([90, 88, 87, 80].into_iter());
        assert_eq!(first_at_or_after(&data, 91).unwrap(), None);
        assert_eq!(first_at_or_after(&data, 90).unwrap(), Some((90, Some([90; 32]))));
        assert_eq!(first_at_or_after(&data, 89).unwrap(), Some((90, Some([90; 32]))));
        assert_eq!(first_at_or_after(&data, 81).unwrap(), Some((87, Some([87; 32]))));
        assert_eq!(first_at_or_after(&data, 3).unwrap(), Some((80, Some([80; 32]))), "a short ring dropped nothing");
    }

    #[test]
    fn a_full_ring_that_starts_later_gives_no_hash() {
        let data = ring((100..612).rev());
        assert_eq!(first_at_or_after(&data, 99).unwrap(), Some((100, None)));
        assert_eq!(first_at_or_after(&data, 100).unwrap(), Some((100, Some([100; 32]))));
    }

    #[test]
    fn refuses_what_is_no_list() {
        for data in [vec![], vec![0; 7], 1u64.to_le_bytes().to_vec(), u64::MAX.to_le_bytes().to_vec()] {
            assert_eq!(first_at_or_after(&data, 0), Err(DatagalaxError::BadSlotHashes.into()));
        }
    }
}
