//! The books, computed once more from all accounts (protocol section 13).

use std::collections::HashSet;

use datagalax::{
    constants::{NONE, ROWS},
    math::nominal_weight,
    state::{Row, Ticket},
};

use crate::{World, addresses, addresses::Vault};

/// The sums that the conservation laws are about, base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Reserved by epochs that are not released, and not credited.
    pub reserved: u64,
    /// Credited by all epochs.
    pub credited: u64,
    /// Credited and not claimed: rows and tickets.
    pub held: u64,
    /// Claimed by providers and checkers.
    pub paid: u64,
    /// Staked by providers and checkers.
    pub staked: u64,
}

impl World {
    /// Adds up all accounts.
    pub fn books(&self) -> Books {
        let network = self.network();
        let mut books = Books::default();
        let mut last = 0;
        for number in 0..=network.current_epoch.checked_add(1).map_or(0, |n| n) {
            if !self.has_epoch(number) {
                continue;
            }
            last = number;
            let epoch = self.epoch(number);
            assert!(epoch.container_credited <= epoch.container_pool, "epoch {number} credits rows beyond their share");
            assert!(epoch.checker_credited <= epoch.checker_pool, "epoch {number} credits seats beyond their share");
            assert!(epoch.container_pool + epoch.checker_pool <= epoch.pool);
            books.credited += epoch.credited();
            if epoch.released == 0 {
                books.reserved += epoch.pool - epoch.credited();
            }
        }
        assert!(network.current_epoch == NONE || last == network.current_epoch, "no epoch lies beyond the current one");
        for block in (0..network.blocks).filter(|b| self.is_full(*b)) {
            books.held += self.accrued(block);
        }
        books.held += self.tickets().iter().map(|t| t.accrued).sum::<u64>();
        for id in 0..network.providers {
            let provider = self.provider(id);
            books.paid += provider.claimed;
            books.staked += provider.staked;
        }
        for id in 0..network.checkers {
            let checker = self.checker(id);
            books.paid += checker.claimed;
            books.staked += checker.staked;
        }
        books
    }

    /// Checks every conservation law, and that counters agree with what they count.
    #[track_caller]
    pub fn check_books(&self) {
        let books = self.books();
        assert_eq!(books.credited, books.held + books.paid, "credited = held + paid");
        for name in Vault::ALL {
            let ledger = self.ledger(name);
            let held = self.balance(&addresses::vault(name));
            assert!(held >= ledger.balance, "{name:?}: the vault holds {held}, booked are {}", ledger.balance);
            assert!(ledger.balance >= ledger.liabilities, "{name:?}: more is promised than booked");
            assert_eq!(ledger.total_in - ledger.total_out, ledger.balance, "{name:?}: in - out");
        }
        assert_eq!(
            self.ledger(Vault::Rewards).liabilities,
            books.reserved + books.held,
            "rewards promised = reserved + held"
        );
        assert_eq!(self.ledger(Vault::Rewards).total_out, books.paid, "all that left was claimed");
        assert_eq!(self.ledger(Vault::Stake).liabilities, books.staked, "stake promised = stakes");
        self.check_counters();
        self.check_set();
    }

    fn check_counters(&self) {
        let network = self.network();
        let (mut free, mut nominal, mut blocks) = (0, 0, 0);
        for index in (0..network.blocks).filter(|b| self.is_full(*b)) {
            let block = self.block(index);
            let occupied = block.rows.iter().filter(|r| r.status != Row::FREE).count();
            let live: Vec<_> = block.rows.iter().filter(|r| r.status == Row::LIVE).collect();
            assert_eq!(usize::from(block.occupied), occupied, "block {index}: occupied");
            assert_eq!(usize::from(block.live), live.len(), "block {index}: live");
            for row in 0..ROWS {
                assert_eq!(block.is_occupied(row as u8), block.rows[row].status != Row::FREE, "block {index}: bit {row}");
            }
            free += ROWS - occupied;
            nominal += live.iter().map(|r| nominal_weight(r.unit_weight, r.gpus)).sum::<u64>();
            blocks += u32::from(occupied > 0);
        }
        assert_eq!(network.free_rows as usize, free, "free rows");
        if network.current_epoch != NONE {
            let epoch = self.epoch(network.current_epoch);
            assert_eq!(epoch.next_nominal(), Ok(nominal), "nominal of the next epoch = weight of live rows");
            assert_eq!(epoch.next_blocks(), Ok(blocks), "blocks of the next epoch");
        }
    }

    fn check_set(&self) {
        let (set, tickets) = (self.set(), self.tickets());
        assert_eq!(set.live + set.pending + set.free, tickets.len() as u32, "every ticket is in one list");
        let order: HashSet<u32> = tickets[..set.live as usize].iter().map(|t| t.order).collect();
        assert_eq!(order.len(), set.live as usize, "no ticket is in the order twice");
        for (position, entry) in tickets[..set.live as usize].iter().enumerate() {
            let ticket = &tickets[entry.order as usize];
            assert_eq!((ticket.position, ticket.status), (position as u32, Ticket::LIVE), "the order and the tickets agree");
        }
        let (mut waiting, mut slot, mut last) = (0, set.pending_head, NONE);
        while slot != NONE {
            assert_eq!(tickets[slot as usize].status, Ticket::WAITING);
            (waiting, last, slot) = (waiting + 1, slot, tickets[slot as usize].next);
            assert!(waiting <= set.pending, "the waiting list has an end");
        }
        assert_eq!((waiting, last), (set.pending, set.pending_tail), "the waiting list");
        for id in 0..self.network().checkers {
            let held = tickets.iter().filter(|t| t.checker == id).count();
            assert_eq!(self.checker(id).tickets as usize, held, "tickets of checker {id}");
        }
        let locked: u64 = (0..self.network().providers).map(|id| self.provider(id).locked).sum();
        let containers: u64 = self.containers_locked();
        assert_eq!(locked, containers, "locked stake = what containers locked");
    }

    fn containers_locked(&self) -> u64 {
        use anchor_lang::Discriminator;
        use datagalax::state::Container;
        use solana_account::ReadableAccount;
        let accounts = &self.svm.accounts_db().inner;
        accounts
            .values()
            .filter(|a| *a.owner() == datagalax::ID && a.data().get(..8) == Some(Container::DISCRIMINATOR))
            .map(|a| bytemuck::pod_read_unaligned::<Container>(&a.data()[8..8 + size_of::<Container>()]).locked_stake)
            .sum()
    }
}
