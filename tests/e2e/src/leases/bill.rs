//! What a lease comes to, computed once more from section 8 of docs/protocol.md alone: second by second, in wide integers, with
//! nothing of `datagalax::settlement`. Slow, and plain enough to be checked by hand.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use datagalax::state::{Grid, Lease};

/// Seconds of an hour, which prices are for.
const HOUR: u128 = 3_600;
/// Percent of one.
const PERCENT: u128 = 100;
/// Basis points of one.
const BPS: u128 = 10_000;

/// What a lease came to in the end, base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// To the provider.
    pub paid: u64,
    /// Fee on that, the indexer's share included.
    pub fee: u64,
    /// Of the fee, the indexer's.
    pub indexer_fee: u64,
    /// Back to the user.
    pub refunded: u64,
}

/// What a lease is billed by: fixed when it was opened, and when it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Base units.
    pub price_per_hour: u64,
    /// Fee on what is paid, bps.
    pub fee_bps: u16,
    /// Indexer's share of the fee, bps.
    pub indexer_share_bps: u16,
    /// Seconds paid for in advance.
    pub seconds: u32,
    /// When it started, seconds of the chain's clock.
    pub started: i64,
    /// When what is due ended, seconds of the chain's clock.
    pub ended: i64,
}

impl Terms {
    /// Reads them from a lease that has ended.
    ///
    /// # Errors
    /// It never started, or runs.
    pub fn of(lease: &Lease) -> Result<Self> {
        ensure!(lease.started != 0, "the lease never started: it comes to a full refund");
        ensure!(lease.ended != 0, "the lease runs: nobody knows yet what it comes to");
        Ok(Self {
            price_per_hour: lease.price_per_hour,
            fee_bps: lease.fee_bps,
            indexer_share_bps: lease.indexer_share_bps,
            seconds: lease.max_seconds,
            started: lease.started,
            ended: lease.ended,
        })
    }

    /// What the user puts in: the price of the whole time, rounded up, and the fee on it, rounded down.
    pub fn escrow(&self) -> u128 {
        let price = (u128::from(self.price_per_hour) * u128::from(self.seconds)).div_ceil(HOUR);
        price + price * u128::from(self.fee_bps) / BPS
    }

    /// The first and the last epoch that it covers whole, `None` when it covers none.
    pub fn whole_epochs(&self, grid: &Grid) -> Option<(u32, u32)> {
        let length = i64::from(grid.length);
        let first = (self.started - grid.start + length - 1).div_euclid(length);
        let last = (self.ended - grid.start).div_euclid(length) - 1;
        let number = |epoch: i64| u32::try_from(epoch + i64::from(grid.first_epoch)).ok();
        (first <= last).then(|| Some((number(first)?, number(last)?))).flatten()
    }

    /// Seconds of the lease, each times the percent it is paid at. `verdicts` holds every epoch that the lease covers whole:
    /// percent, or `None` without a verdict.
    ///
    /// # Errors
    /// An epoch that it covers whole is missing.
    pub fn delivered(&self, grid: &Grid, verdicts: &BTreeMap<u32, Option<u8>>) -> Result<u128> {
        let length = i64::from(grid.length);
        let (mut total, mut last, mut second) = (0u128, 100u8, self.started);
        while second < self.ended {
            let epoch = (second - grid.start).div_euclid(length);
            let opens = grid.start + epoch * length;
            let whole = self.started <= opens && opens + length <= self.ended;
            let number = u32::try_from(epoch + i64::from(grid.first_epoch))?;
            let percent = if whole {
                // The epoch's own, that of the last one with a verdict, or 100.
                last = verdicts.get(&number).with_context(|| format!("nobody recorded epoch {number}"))?.unwrap_or(last);
                last
            } else {
                100
            };
            total += u128::from(percent);
            second += 1;
        }
        Ok(total)
    }

    /// What the lease comes to.
    ///
    /// # Errors
    /// As [`Self::delivered`]; an amount above 64 bits.
    pub fn bill(&self, grid: &Grid, verdicts: &BTreeMap<u32, Option<u8>>) -> Result<Bill> {
        let delivered = self.delivered(grid, verdicts)?;
        let paid = u128::from(self.price_per_hour) * delivered / (HOUR * PERCENT);
        let fee = paid * u128::from(self.fee_bps) / BPS;
        let indexer_fee = fee * u128::from(self.indexer_share_bps) / BPS;
        let refunded = self.escrow().checked_sub(paid + fee).context("more is due than was escrowed")?;
        Ok(Bill {
            paid: paid.try_into()?,
            fee: fee.try_into()?,
            indexer_fee: indexer_fee.try_into()?,
            refunded: refunded.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::{
        constants::{NONE, VOID},
        settlement,
        state::{Block, Network},
    };
    use proptest::prelude::*;

    use super::*;

    const GRID: Grid = Grid { start: 1_000, first_epoch: 5, length: 20, reveal_window: 6, commit_lead: 3 };

    fn terms(started: i64, ended: i64) -> Terms {
        Terms { price_per_hour: 3_600_000, fee_bps: 2_000, indexer_share_bps: 1_000, seconds: 600, started, ended }
    }

    /// A second costs 1,000 base units here, so that the sums are done by hand.
    #[test]
    fn bills_by_hand() {
        let verdicts = BTreeMap::from([(5, Some(0)), (6, Some(50)), (7, None), (8, Some(0)), (9, Some(1))]);
        // 10 s of epoch 5, 5 s of epoch 6: both in part, both in full, whatever was measured.
        let bill = terms(1_010, 1_025).bill(&GRID, &verdicts).unwrap();
        assert_eq!(bill, Bill { paid: 15_000, fee: 3_000, indexer_fee: 300, refunded: 702_000 });
        // 10 s of epoch 5, epoch 6 at 50 percent, epoch 7 as epoch 6 was, epoch 8 not at all, 1 s of epoch 9.
        let bill = terms(1_010, 1_081).bill(&GRID, &verdicts).unwrap();
        assert_eq!(bill, Bill { paid: 31_000, fee: 6_200, indexer_fee: 620, refunded: 682_800 });
        // From boundary to boundary there are no partial epochs; without a verdict before, 100 percent.
        let bill = terms(1_040, 1_100).bill(&GRID, &verdicts).unwrap();
        assert_eq!(bill, Bill { paid: 20_200, fee: 4_040, indexer_fee: 404, refunded: 695_760 });
        assert_eq!(terms(1_040, 1_100).whole_epochs(&GRID), Some((7, 9)));
        assert_eq!(terms(1_039, 1_099).whole_epochs(&GRID), Some((7, 8)));
        assert_eq!(terms(1_041, 1_079).whole_epochs(&GRID), None);
        let missing = terms(1_000, 1_200).bill(&GRID, &verdicts).unwrap_err();
        assert_eq!(missing.to_string(), "nobody recorded epoch 10");
    }

    /// Base units of what a table says in ATH.
    fn base_units(text: &str) -> u64 {
        let (whole, rest) = text.split_once('.').unwrap();
        assert_eq!(rest.len(), 6, "{text}: amounts are given to the base unit");
        format!("{whole}{rest}").parse().unwrap()
    }

    /// The sample bills of the users' page: epochs of an hour, 1 ATH an hour, a fifth of it as fee, six hours asked for.
    #[test]
    fn the_bills_in_the_docs_add_up() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/leases.md")).unwrap();
        let table = page.split_once("<!-- bills: begin -->").unwrap().1.split_once("<!-- bills: end -->").unwrap().0;
        let grid = Grid { start: 0, first_epoch: 0, length: 3_600, ..GRID };
        let instant = |text: &str| text.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap());
        let rows: Vec<Vec<&str>> =
            table.lines().skip(3).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
        for row in &rows {
            let [what, from, to, percents, paid, fee, refunded] = row[..] else { panic!("{row:?} has not seven columns") };
            let terms = Terms {
                price_per_hour: 1_000_000,
                fee_bps: 2_000,
                indexer_share_bps: 0,
                seconds: 6 * 3_600,
                started: instant(from),
                ended: instant(to),
            };
            let first = terms.whole_epochs(&grid).map_or(0, |(first, _)| first);
            let verdicts: BTreeMap<u32, Option<u8>> = (first..).zip(percents.split(' ').map(|p| p.parse().ok())).collect();
            let bill = terms.bill(&grid, &verdicts).unwrap();
            let told = (base_units(paid), base_units(fee), base_units(refunded));
            assert_eq!((bill.paid, bill.fee, bill.refunded), told, "{what}");
        }
        assert!(rows.len() > 4, "the table is there");
    }

    /// One step of a lease's life in the property below.
    #[derive(Clone, Debug)]
    struct Lived {
        /// What is known of an epoch: its verdict, a void one, or never tallied.
        verdict: Option<Option<u8>>,
        /// Whether somebody settles after it, and after how many seconds of the next.
        settled_after: Option<u8>,
    }

    fn lived() -> impl Strategy<Value = Lived> {
        let verdict = prop_oneof![6 => (0u8..=100).prop_map(|p| Some(Some(p))), 1 => Just(Some(None)), 1 => Just(None)];
        (verdict, prop::option::of(0u8..20)).prop_map(|(verdict, settled_after)| Lived { verdict, settled_after })
    }

    fn tally(block: &mut Block, row: u8, epoch: u32, verdict: Option<u8>) {
        let history = &mut block.rows[usize::from(row)].history;
        // Epochs that nobody tallied are void from the next tally on, all since the block was first seated.
        let skipped = if block.last_tallied == NONE { GRID.first_epoch } else { block.last_tallied + 1 };
        for void in skipped..epoch {
            history[(void % 32) as usize] = VOID;
        }
        history[(epoch % 32) as usize] = verdict.unwrap_or(VOID);
        block.last_tallied = epoch;
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
        /// Whatever was measured, whenever somebody settled, and whether or not an indexer takes its share: the program's
        /// settlement comes to what section 8 says. At most 30 epochs, so that the ring still holds what was measured.
        #[test]
        fn the_program_settles_as_section_8_says(
            price in prop_oneof![0u64..10_000_000, 0u64..1 << 50],
            fee_bps in 0u16..=10_000,
            indexer_share_bps in 0u16..=10_000,
            into in 0i64..20,
            length in 1u32..580,
            asked_more in 0u32..400,
            epochs in prop::collection::vec(lived(), 30),
        ) {
            let started = GRID.start + into;
            let ended = started + i64::from(length);
            let row = 3;
            let mut network = Network::zeroed();
            network.grids = [GRID, Grid::zeroed()];
            let mut block: Box<Block> = bytemuck::allocation::zeroed_box();
            block.last_tallied = NONE;
            block.lanes.iter_mut().for_each(|lane| lane.epoch = NONE);
            let mut lease = Lease::zeroed();
            lease.row = row;
            lease.price_per_hour = price;
            lease.fee_bps = fee_bps;
            lease.indexer_share_bps = indexer_share_bps;
            lease.max_seconds = length + asked_more;
            lease.started = started;
            lease.settled_until = started;
            lease.last_availability = 100;
            lease.status = Lease::STARTED;
            lease.escrowed = lease.bill().escrow(lease.max_seconds).unwrap();
            let mut verdicts = BTreeMap::new();
            for (epoch, lived) in (GRID.first_epoch..).zip(&epochs) {
                let now = GRID.start_of(epoch + 1) + i64::from(lived.settled_after.unwrap_or(0));
                if lease.ended == 0 && ended <= now {
                    lease.ended = ended;
                    lease.status = Lease::ENDED;
                }
                if let Some(verdict) = lived.verdict {
                    tally(&mut block, row, epoch, verdict);
                }
                verdicts.insert(epoch, lived.verdict.flatten());
                if lived.settled_after.is_some() && lease.status != Lease::SETTLED {
                    // Nothing to settle is no fault.
                    let _ = settlement::settle(&mut lease, &network, &block, now, 64);
                    prop_assert!(lease.paid + lease.fee + lease.refunded <= lease.escrowed);
                }
            }
            if lease.status != Lease::SETTLED {
                let late = GRID.start_of(GRID.first_epoch + 33);
                prop_assert!(settlement::settle(&mut lease, &network, &block, late, 64).unwrap());
            }
            let terms = Terms::of(&lease).unwrap();
            prop_assert_eq!(terms.escrow(), u128::from(lease.escrowed));
            let Lease { paid, fee, indexer_fee, refunded, .. } = lease;
            prop_assert_eq!(terms.bill(&GRID, &verdicts).unwrap(), Bill { paid, fee, indexer_fee, refunded });
        }
    }
}
