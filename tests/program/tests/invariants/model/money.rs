//! Vaults, their ledgers and the breaker.

use solana_pubkey::Pubkey;

use super::{Answer, Model, Money, Source, day, need};

/// A vault.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    pub balance: Money,
    pub liabilities: Money,
    pub total_in: Money,
    pub total_out: Money,
    /// Every flow from and to the outside: hour, what left (negative: what came in).
    pub flows: Vec<(i64, i128)>,
}

/// The names are those of the program's list: stake, rewards, escrow.
pub const STAKE: usize = 0;
pub const REWARDS: usize = 1;
pub const ESCROW: usize = 2;

impl Vault {
    fn room(&self, limit: Money, now: i64) -> Money {
        let hour = now / 3_600;
        let net: i128 = self.flows.iter().filter(|(h, _)| hour - h < 25).map(|(_, a)| *a).sum();
        limit.saturating_sub(net.max(0) as Money)
    }
}

impl Model {
    /// Tokens of a wallet into a vault.
    pub fn deposit(&mut self, kind: usize, from: Pubkey, amount: Money, owed: bool) -> Answer {
        need(amount > 0 && amount <= 1 << 56, "bad amount")?;
        let purse = self.wallets.get_mut(&from).ok_or("no purse")?;
        *purse = purse.checked_sub(amount).ok_or("too poor")?;
        let vault = &mut self.vaults[kind];
        vault.balance += amount;
        need(vault.balance <= 1 << 56, "too much")?;
        vault.total_in += amount;
        vault.flows.push((self.now / 3_600, -(amount as i128)));
        if owed {
            vault.liabilities += amount;
        }
        Ok(())
    }

    /// What of an amount fits into the breaker's room.
    pub fn fits(&self, kind: usize, owed: Money) -> Money {
        owed.min(self.vaults[kind].room(Money::from(self.parameters.breaker_limits[kind]), self.now))
    }

    /// Tokens of a vault to a wallet.
    pub fn pay_out(&mut self, kind: usize, to: Pubkey, amount: Money) {
        let vault = &mut self.vaults[kind];
        vault.liabilities -= amount;
        vault.balance -= amount;
        vault.total_out += amount;
        vault.flows.push((self.now / 3_600, amount as i128));
        *self.wallets.entry(to).or_default() += amount;
    }

    pub(super) fn sweep(&mut self, kind: usize) -> Answer {
        need(kind != REWARDS, "that is where it goes")?;
        let free = self.vaults[kind].balance - self.vaults[kind].liabilities;
        need(free > 0, "nothing to pay")?;
        self.vaults[kind].balance -= free;
        self.vaults[kind].total_out += free;
        self.vaults[REWARDS].balance += free;
        self.vaults[REWARDS].total_in += free;
        Ok(())
    }

    pub(super) fn withdraw_treasury(&mut self) -> Answer {
        need(self.treasury_due > 0, "nothing to pay")?;
        let amount = self.fits(REWARDS, self.treasury_due);
        need(amount > 0, "breaker")?;
        self.pay_out(REWARDS, self.treasury, amount);
        self.treasury_due -= amount;
        Ok(())
    }

    pub(super) fn withdraw(&mut self, source: Source, kind: usize) -> Answer {
        let (owed, to) = self.owed(source, kind)?;
        need(owed > 0, "nothing to pay")?;
        let amount = self.fits(kind, owed);
        need(amount > 0, "breaker")?;
        self.pay_out(kind, to, amount);
        match (source, kind) {
            (Source::Provider(id), STAKE) => {
                let now = self.now;
                let provider = self.providers.get_mut(&id).ok_or("no provider")?;
                let mut left = amount;
                for (asked, unlocks) in &mut provider.asked {
                    if *unlocks <= now {
                        let part = left.min(*asked);
                        *asked -= part;
                        left -= part;
                    }
                }
                provider.staked -= amount;
            }
            (Source::Provider(id), ESCROW) => self.providers.get_mut(&id).ok_or("no provider")?.lease_due -= amount,
            (Source::Provider(id), _) => self.providers.get_mut(&id).ok_or("no provider")?.withdrawn += amount,
            (Source::Indexer(id), STAKE) => self.indexers.get_mut(&id).ok_or("no indexer")?.staked -= amount,
            (Source::Indexer(id), _) => self.indexers.get_mut(&id).ok_or("no indexer")?.due -= amount,
            (Source::Lease(id), STAKE) => self.leases.get_mut(&id).ok_or("no lease")?.compensated += amount,
            (Source::Lease(id), _) => self.leases.get_mut(&id).ok_or("no lease")?.withdrawn += amount,
            (Source::Keeper(wallet), _) => self.keepers.get_mut(&wallet).ok_or("no keeper")?.due -= amount,
        }
        Ok(())
    }

    fn owed(&self, source: Source, kind: usize) -> Result<(Money, Pubkey), &'static str> {
        Ok(match source {
            Source::Provider(id) => {
                let provider = self.providers.get(&id).ok_or("no provider")?;
                let owed = match kind {
                    STAKE => provider.asked.iter().filter(|(_, unlocks)| *unlocks <= self.now).map(|(a, _)| *a).sum(),
                    ESCROW => provider.lease_due,
                    _ => provider.vested(day(self.now)) - provider.withdrawn,
                };
                (owed, provider.keys.payout)
            }
            Source::Indexer(id) => {
                let indexer = self.indexers.get(&id).ok_or("no indexer")?;
                let owed = match kind {
                    STAKE if indexer.unlocks.is_some_and(|at| at <= self.now) => indexer.staked,
                    ESCROW => indexer.due,
                    _ => 0,
                };
                (owed, indexer.keys.payout)
            }
            Source::Lease(id) => {
                let lease = self.leases.get(&id).ok_or("no lease")?;
                let owed = match kind {
                    STAKE => lease.compensation - lease.compensated,
                    ESCROW => lease.refunded - lease.withdrawn,
                    _ => 0,
                };
                (owed, id.0)
            }
            Source::Keeper(wallet) => {
                let keeper = self.keepers.get(&wallet).ok_or("no keeper")?;
                (if kind == REWARDS { keeper.due } else { 0 }, wallet)
            }
        })
    }
}
