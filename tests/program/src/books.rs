//! The books, computed once more from all accounts (protocol section 13).

use std::collections::HashSet;

use anchor_lang::Discriminator;
use bytemuck::Pod;
use datagalax::{
    constants::{NONE, ROWS},
    math::nominal_weight,
    state::{Case, Checker, Container, Epoch, Indexer, Keeper, Lease, Provider, Row, Ticket},
};
use solana_account::ReadableAccount;
use solana_pubkey::Pubkey;

use crate::{World, addresses, addresses::Vault};

/// The sums that the conservation laws are about, base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Reserved by epochs that are not released, and not credited.
    pub reserved: u64,
    /// Credited to rows and tickets by all epochs whose accounts are still there.
    pub credited: u64,
    /// Credited and not claimed: rows and tickets.
    pub held: u64,
    /// Claimed by providers (into vesting) and checkers.
    pub claimed: u64,
    /// Taken from rows by cases.
    pub accrual_taken: u64,
    /// Granted to providers, not withdrawn and not taken.
    pub granted: u64,
    /// Owed to keepers and the treasury.
    pub fees: u64,
    /// Staked by providers, checkers and indexers, and credited to users out of stake.
    pub staked: u64,
    /// Escrowed and owed: held by leases, refunds, shares of providers and indexers.
    pub escrowed: u64,
}

impl World {
    /// All accounts of a type, by address.
    pub fn all<T: Pod + Discriminator>(&self) -> Vec<(Pubkey, T)> {
        let accounts = &self.svm.accounts_db().inner;
        let mut found: Vec<(Pubkey, T)> = accounts
            .iter()
            .filter(|(_, a)| *a.owner() == datagalax::ID && a.data().get(..8) == Some(T::DISCRIMINATOR))
            .filter(|(_, a)| a.data().len() == 8 + size_of::<T>())
            .map(|(address, a)| (*address, bytemuck::pod_read_unaligned(&a.data()[8..])))
            .collect();
        found.sort_by_key(|(address, _)| *address);
        found
    }

    /// Adds up all accounts.
    pub fn books(&self) -> Books {
        let network = self.network();
        let mut books = Books { fees: network.treasury_due, ..Books::default() };
        for (_, epoch) in self.all::<Epoch>() {
            let number = epoch.number;
            assert!(number <= network.current_epoch, "no epoch lies beyond the current one");
            assert!(epoch.container_credited <= epoch.container_pool, "epoch {number} credits rows beyond their share");
            assert!(epoch.checker_credited <= epoch.checker_pool, "epoch {number} credits seats beyond their share");
            assert!(epoch.keeper_credited <= epoch.treasury_pool, "epoch {number} credits keepers beyond the treasury");
            assert!(epoch.container_pool + epoch.checker_pool + epoch.treasury_pool <= epoch.pool);
            books.credited += epoch.container_credited + epoch.checker_credited;
            if epoch.released == 0 {
                books.reserved += epoch.pool - epoch.credited();
            }
        }
        for block in (0..network.blocks).filter(|b| self.is_full(*b)) {
            books.held += self.accrued(block);
        }
        books.held += self.tickets().iter().map(|t| t.accrued).sum::<u64>();
        for (_, provider) in self.all::<Provider>() {
            books.claimed += provider.claimed;
            books.granted += provider.owed_grants().expect("no more was paid or taken than claimed");
            let ring: u64 = provider.grants.iter().map(|g| g.amount - g.taken).sum();
            assert_eq!(books_of(&provider), provider.matured + ring - provider.withdrawn, "grants of {}", provider.id);
            assert!(provider.locked + provider.unbonding <= provider.staked, "stake of {}", provider.id);
            let asked: u64 = provider.unbonding_entries.iter().map(|e| e.amount).sum();
            assert_eq!(asked, provider.unbonding, "requests of {}", provider.id);
            books.staked += provider.staked;
            books.escrowed += provider.lease_due;
        }
        for (_, checker) in self.all::<Checker>() {
            books.claimed += checker.claimed;
            books.staked += checker.staked;
        }
        for (_, indexer) in self.all::<Indexer>() {
            books.staked += indexer.staked;
            books.escrowed += indexer.due;
        }
        books.fees += self.all::<Keeper>().iter().map(|(_, k)| k.due).sum::<u64>();
        for (address, lease) in self.all::<Lease>() {
            let held = lease.escrowed - lease.paid - lease.fee - lease.refunded;
            assert!(lease.status != Lease::SETTLED || held == 0, "a settled lease keeps nothing: {address}");
            books.escrowed += held + lease.refunded - lease.withdrawn;
            books.staked += lease.compensation - lease.compensation_withdrawn;
        }
        books.accrual_taken = self.all::<Case>().iter().map(|(_, c)| c.accrual_taken).sum();
        books
    }

    /// Checks every conservation law, and that counters agree with what they count.
    #[track_caller]
    pub fn check_books(&self) {
        let books = self.books();
        if !self.forgetful {
            assert_eq!(
                books.credited,
                books.held + books.claimed + books.accrual_taken,
                "credited = held + claimed + taken"
            );
        }
        for name in Vault::ALL {
            let ledger = self.ledger(name);
            let held = self.balance(&addresses::vault(name));
            assert!(held >= ledger.balance, "{name:?}: the vault holds {held}, booked are {}", ledger.balance);
            assert!(ledger.balance >= ledger.liabilities, "{name:?}: more is promised than booked");
            assert_eq!(ledger.total_in - ledger.total_out, ledger.balance, "{name:?}: in - out");
        }
        assert_eq!(
            self.ledger(Vault::Rewards).liabilities,
            books.reserved + books.held + books.granted + books.fees,
            "rewards promised = reserved + held + granted + fees"
        );
        assert_eq!(self.ledger(Vault::Stake).liabilities, books.staked, "stake promised = stakes");
        assert_eq!(self.ledger(Vault::Escrow).liabilities, books.escrowed, "escrow promised = leases");
        self.check_counters();
        self.check_set();
        self.check_containers();
    }

    fn check_containers(&self) {
        let containers = self.all::<Container>();
        for (_, provider) in self.all::<Provider>() {
            let own: Vec<_> = containers.iter().filter(|(_, c)| c.provider == provider.id).collect();
            assert_eq!(provider.containers as usize, own.len(), "containers of {}", provider.id);
            assert_eq!(provider.locked, own.iter().map(|(_, c)| c.locked_stake).sum::<u64>(), "locked of {}", provider.id);
        }
        let leases = self.all::<Lease>();
        for (address, container) in containers {
            let row = self.block(container.block).rows[usize::from(container.row)];
            assert_eq!(row.provider, container.provider, "{address} and its row");
            assert_eq!(row.flags & Row::HALTED != 0, container.status == 1, "{address} is halted with its row");
            let ended = leases.iter().filter(|(_, l)| l.container == address && l.status == Lease::ENDED).count();
            assert_eq!(container.unsettled as usize, ended, "unsettled leases of {address}");
            let running: Vec<_> =
                leases.iter().filter(|(_, l)| l.container == address && l.status < Lease::ENDED).map(|(a, _)| *a).collect();
            assert!(running.len() <= 1, "{address} has one lease at a time");
            assert_eq!(running.first().copied().unwrap_or_default(), container.lease, "the lease of {address}");
        }
        for (_, indexer) in self.all::<Indexer>() {
            let open = leases.iter().filter(|(_, l)| l.indexer == indexer.id && l.status != Lease::SETTLED).count();
            assert_eq!(indexer.open_leases as usize, open, "open leases of indexer {}", indexer.id);
        }
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
            // One that is falling back earns up to its epoch, and is no part of the next one's nominal.
            nominal += live.iter().filter(|r| r.is_live()).map(|r| nominal_weight(r.unit_weight, r.gpus)).sum::<u64>();
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
        let count = |status: &[u8]| tickets.iter().filter(|t| status.contains(&t.status)).count() as u32;
        assert_eq!(set.live, count(&[Ticket::LIVE, Ticket::LEAVING, Ticket::RETIRING]), "seated tickets");
        assert_eq!(set.free, count(&[Ticket::FREE]), "free slots");
        let order: HashSet<u32> = tickets[..set.live as usize].iter().map(|t| t.order).collect();
        assert_eq!(order.len(), set.live as usize, "no ticket is in the order twice");
        for (position, entry) in tickets[..set.live as usize].iter().enumerate() {
            let ticket = &tickets[entry.order as usize];
            assert!(ticket.is_seated() && ticket.position == position as u32, "the order and the tickets agree");
        }
        for (name, status, length, head, tail) in [
            ("waiting", Ticket::WAITING, set.pending, set.pending_head, set.pending_tail),
            ("leaving", Ticket::LEAVING, set.leaving, set.leaving_head, set.leaving_tail),
            ("retiring", Ticket::RETIRING, set.retiring, set.retiring_head, set.retiring_tail),
            ("free", Ticket::FREE, set.free, set.free_head, NONE),
        ] {
            let (mut seen, mut slot, mut last) = (0, head, NONE);
            while slot != NONE {
                assert_eq!(tickets[slot as usize].status, status, "a ticket in the {name} list");
                (seen, last, slot) = (seen + 1, slot, tickets[slot as usize].next);
                assert!(seen <= length, "the {name} list has an end");
            }
            assert_eq!(seen, count(&[status]), "the {name} list holds all of them");
            assert_eq!(seen, length, "the {name} list is counted");
            assert!(status == Ticket::FREE || last == tail, "the end of the {name} list");
        }
        for (_, checker) in self.all::<Checker>() {
            let held: Vec<_> = tickets.iter().filter(|t| t.status != Ticket::FREE && t.checker == checker.id).collect();
            assert_eq!(checker.tickets as usize, held.len(), "tickets of checker {}", checker.id);
            assert_eq!(checker.staked, held.iter().map(|t| t.price).sum::<u64>(), "stake of checker {}", checker.id);
        }
    }
}

fn books_of(provider: &Provider) -> u64 {
    provider.claimed - provider.taken - provider.withdrawn
}
