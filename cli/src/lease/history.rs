//! What checkers measured of a row, epoch by epoch, as far as the block's ring still holds it.

use datagalax::{
    constants::{BREACHED, HISTORY, VOID},
    state::Block,
};

use crate::context::some;

/// Availability of a row in one epoch, percent; `None` when the epoch was void for it.
pub type Measured = (u32, Option<u8>);

/// The last `most` epochs that the ring tells of, the newest first.
pub fn recent(block: &Block, row: u8, most: usize) -> Vec<Measured> {
    if some(block.last_tallied).is_none() {
        return Vec::new();
    }
    let newest = block.newest_of(row);
    let held = block.rows[usize::from(row)].history;
    (0..HISTORY)
        .filter_map(|back| newest.checked_sub(back))
        .take(most)
        .map(|epoch| (epoch, percent(held[(epoch % HISTORY) as usize])))
        .collect()
}

/// Whether the ring still holds what was measured of a row in an epoch.
pub fn holds(block: &Block, row: u8, epoch: u32) -> bool {
    block.is_tallied(epoch) && block.newest_of(row).saturating_sub(epoch) < HISTORY
}

/// Percent of a byte of the ring.
fn percent(byte: u8) -> Option<u8> {
    (byte != VOID).then_some(byte & !BREACHED)
}

#[cfg(test)]
mod tests {
    use datagalax::constants::NONE;

    use super::*;

    #[test]
    fn the_ring_is_read_newest_first_and_no_further_than_it_reaches() {
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        block.last_tallied = NONE;
        block.lanes.iter_mut().for_each(|lane| lane.epoch = NONE);
        assert!(recent(&block, 3, 8).is_empty());
        block.last_tallied = 33;
        block.rows[3].history = [90; 32];
        block.rows[3].history[1] = VOID;
        block.rows[3].history[0] = 40 | BREACHED;
        assert_eq!(recent(&block, 3, 3), [(33, None), (32, Some(40)), (31, Some(90))]);
        assert_eq!(recent(&block, 3, 100).len(), 32);
        assert!(holds(&block, 3, 2) && !holds(&block, 3, 1) && !holds(&block, 3, 34));
        block.last_tallied = 1;
        assert_eq!(recent(&block, 3, 8).len(), 2);
    }
}
