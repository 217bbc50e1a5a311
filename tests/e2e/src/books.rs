//! Auditing the books from the chain alone: every conservation law that the accounts of a whole network let one check
//! (protocol section 13), at one slot.

use anyhow::{Context, Result, ensure};
use datagalax::{
    constants::NONE,
    math::nominal_weight,
    state::{Block, Case, Checker, Container, Epoch, Indexer, Keeper, Lease, Network, Provider, Row, Ticket, VaultLedger},
};
use datagalax_client::{
    Address, Reader,
    accounts::{AccountType, decode, decode_checker_set},
    addresses,
    addresses::Vault,
    token,
};
use solana_account::Account;

/// Accounts a node hands out in one answer, that is at one slot.
const ONE_ANSWER: usize = 100;
/// Attempts to read while nothing new is created.
const ATTEMPTS: usize = 5;

/// The sums, all in base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Reserved by all epochs ever.
    pub pools: u64,
    /// Credited to rows and tickets by all epochs ever.
    pub credited: u64,
    /// Credited to rows and tickets and not yet claimed.
    pub held: u64,
    /// Claimed: by providers into vesting, by checkers.
    pub claimed: u64,
    /// Taken from rows by cases.
    pub taken: u64,
    /// Granted to providers, vested or not, not withdrawn and not taken.
    pub granted: u64,
    /// Owed to keepers and the treasury.
    pub fees: u64,
    /// Reserved by epochs that are not released, and not credited.
    pub reserved: u64,
    /// Stake of providers, checkers and indexers, and what users are owed out of stake.
    pub staked: u64,
    /// Escrowed and owed: held by leases, refunds, shares of providers and indexers.
    pub escrowed: u64,
    /// By vault: token balance, booked balance, liabilities.
    pub vaults: [(u64, u64, u64); 3],
}

impl Books {
    /// Reads every account at one slot and checks the laws.
    ///
    /// # Errors
    /// The law that does not hold, with its numbers; or the chain cannot be read.
    pub async fn audit(reader: &Reader) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match Snapshot::take(reader).await? {
                Some(snapshot) => return snapshot.check(),
                // Something was created between listing and reading: list again.
                None => last = Some("accounts kept being created while they were read"),
            }
        }
        anyhow::bail!("the books cannot be read at one slot: {}", last.unwrap_or_default())
    }
}

struct Snapshot {
    network: Box<Network>,
    epochs: Vec<Epoch>,
    blocks: Vec<Box<Block>>,
    providers: Vec<Box<Provider>>,
    checkers: Vec<Checker>,
    containers: Vec<Container>,
    leases: Vec<Lease>,
    cases: Vec<Case>,
    indexers: Vec<Indexer>,
    keepers: Vec<Keeper>,
    tickets: Vec<Ticket>,
    ledgers: [(Box<VaultLedger>, u64); 3],
}

/// Addresses of all accounts of a type.
async fn list<T: AccountType>(reader: &Reader) -> Result<Vec<Address>> {
    Ok(reader.list::<T>().await?.into_iter().map(|(address, _)| address).collect())
}

/// What was read at one slot.
struct Answer {
    addresses: Vec<Address>,
    accounts: Vec<Option<Account>>,
}

impl Answer {
    fn find(&self, address: &Address) -> Option<&Account> {
        let at = self.addresses.iter().position(|a| a == address)?;
        self.accounts.get(at)?.as_ref()
    }

    /// `None` when it vanished since it was listed.
    fn one<T: AccountType>(&self, address: &Address) -> Result<Option<Box<T>>> {
        Ok(self.find(address).map(|account| decode::<T>(address, account)).transpose()?)
    }

    fn all<T: AccountType>(&self, addresses: &[Address]) -> Result<Option<Vec<Box<T>>>> {
        addresses.iter().map(|address| self.one::<T>(address)).collect()
    }

    /// [`Self::all`] of a type that is small enough to lie side by side.
    fn copies<T: AccountType>(&self, addresses: &[Address]) -> Result<Option<Vec<T>>> {
        Ok(self.all::<T>(addresses)?.map(|all| all.into_iter().map(|one| *one).collect()))
    }
}

impl Snapshot {
    /// `None` when the lists changed while they were read.
    async fn take(reader: &Reader) -> Result<Option<Self>> {
        let network = reader.network().await?;
        let (epochs, containers) = (list::<Epoch>(reader).await?, list::<Container>(reader).await?);
        let (leases, cases, keepers) =
            (list::<Lease>(reader).await?, list::<Case>(reader).await?, list::<Keeper>(reader).await?);
        let (providers, checkers) = (list::<Provider>(reader).await?, list::<Checker>(reader).await?);
        let indexers = list::<Indexer>(reader).await?;
        let blocks: Vec<Address> = (0..network.blocks).map(addresses::block).collect();
        let mut all = vec![addresses::network(), addresses::checker_set()];
        for vault in Vault::ALL {
            all.extend([addresses::ledger(vault), addresses::vault(vault)]);
        }
        for part in [&epochs, &containers, &leases, &cases, &keepers, &providers, &checkers, &indexers, &blocks] {
            all.extend(part);
        }
        ensure!(
            all.len() <= ONE_ANSWER,
            "{} accounts do not fit one answer of a node: this audit is for small networks",
            all.len()
        );
        let answer = Answer { accounts: reader.rpc().accounts(&all).await?, addresses: all };

        let now = answer.one::<Network>(&addresses::network())?.context("the network is gone")?;
        let created = |n: &Network| (n.current_epoch, n.blocks, n.providers, n.checkers, n.indexers, n.free_rows);
        if created(&now) != created(&network) {
            return Ok(None);
        }
        let set = answer.find(&addresses::checker_set()).context("the checker set is gone")?;
        let (_, tickets) = decode_checker_set(&addresses::checker_set(), set)?;
        let ledgers = Vault::ALL.map(|vault| -> Result<_> {
            let address = addresses::vault(vault);
            let held = token::balance(&address, answer.find(&address).context("a vault is gone")?)?;
            Ok((answer.one::<VaultLedger>(&addresses::ledger(vault))?.context("a ledger is gone")?, held))
        });
        let [stake, rewards, escrow] = ledgers;
        macro_rules! read {
            ($read:ident, $list:ident) => {
                match answer.$read(&$list)? {
                    Some(read) => read,
                    None => return Ok(None),
                }
            };
        }
        Ok(Some(Self {
            network: now,
            epochs: read!(copies, epochs),
            blocks: read!(all, blocks),
            providers: read!(all, providers),
            checkers: read!(copies, checkers),
            containers: read!(copies, containers),
            leases: read!(copies, leases),
            cases: read!(copies, cases),
            indexers: read!(copies, indexers),
            keepers: read!(copies, keepers),
            tickets,
            ledgers: [stake?, rewards?, escrow?],
        }))
    }

    fn check(&self) -> Result<Books> {
        let mut books = self.sums()?;
        ensure!(
            books.credited == books.held + books.claimed + books.taken,
            "credited {} is not held {} + claimed {} + taken {}",
            books.credited,
            books.held,
            books.claimed,
            books.taken
        );
        for ((ledger, held), (vault, sums)) in self.ledgers.iter().zip(Vault::ALL.iter().zip(&mut books.vaults)) {
            *sums = (*held, ledger.balance, ledger.liabilities);
            let name = vault.name();
            ensure!(*held >= ledger.balance, "the {name} vault holds {held}, its books say {}", ledger.balance);
            ensure!(
                ledger.balance >= ledger.liabilities,
                "the {name} vault owes {} and has {}",
                ledger.liabilities,
                ledger.balance
            );
            ensure!(
                ledger.total_in.checked_sub(ledger.total_out) == Some(ledger.balance),
                "the {name} vault took in {} and gave out {}, its books say {}",
                ledger.total_in,
                ledger.total_out,
                ledger.balance
            );
        }
        let [(stake, _), (rewards, _), (escrow, _)] = &self.ledgers;
        ensure!(
            rewards.liabilities == books.reserved + books.held + books.granted + books.fees,
            "the rewards vault owes {}, which is not reserved {} + held {} + granted {} + fees {}",
            rewards.liabilities,
            books.reserved,
            books.held,
            books.granted,
            books.fees
        );
        ensure!(
            books.staked == stake.liabilities,
            "staked {} is not what the stake vault owes, {}",
            books.staked,
            stake.liabilities
        );
        ensure!(
            books.escrowed == escrow.liabilities,
            "escrowed {} is not what the escrow vault owes, {}",
            books.escrowed,
            escrow.liabilities
        );
        self.check_owners()?;
        self.check_counters()?;
        Ok(books)
    }

    fn sums(&self) -> Result<Books> {
        let rows = || self.blocks.iter().flat_map(|b| b.rows.iter());
        let tickets = sum(self.tickets.iter().map(|t| t.accrued))?;
        let mut books = Books {
            pools: sum(self.epochs.iter().map(|e| e.pool))?,
            credited: sum(self.epochs.iter().flat_map(|e| [e.container_credited, e.checker_credited]))?,
            held: sum(rows().map(|r| r.accrued))?.checked_add(tickets).context("overflow")?,
            claimed: sum(self.providers.iter().map(|p| p.claimed).chain(self.checkers.iter().map(|c| c.claimed)))?,
            taken: sum(self.cases.iter().map(|c| c.accrual_taken))?,
            fees: sum(self.keepers.iter().map(|k| k.due).chain([self.network.treasury_due]))?,
            ..Books::default()
        };
        for epoch in &self.epochs {
            let number = epoch.number;
            for (what, credited, pool) in [
                ("containers", epoch.container_credited, epoch.container_pool),
                ("checkers", epoch.checker_credited, epoch.checker_pool),
                ("keepers", epoch.keeper_credited, epoch.treasury_pool),
            ] {
                ensure!(credited <= pool, "epoch {number} credited {what} {credited} out of {pool}");
            }
            if epoch.released == 0 {
                books.reserved += epoch.pool - epoch.credited();
            }
        }
        for provider in &self.providers {
            let owed = provider.owed_grants().ok().context("a provider was paid more than it claimed")?;
            let ring = sum(provider.grants.iter().map(|g| g.amount.saturating_sub(g.taken)))?;
            ensure!(
                owed.checked_add(provider.withdrawn) == ring.checked_add(provider.matured),
                "provider {} is owed {owed}, and its grants hold {ring} and {} that matured",
                provider.id,
                provider.matured
            );
            books.granted += owed;
            books.staked += provider.staked;
            books.escrowed += provider.lease_due;
        }
        books.staked += sum(self.checkers.iter().map(|c| c.staked).chain(self.indexers.iter().map(|i| i.staked)))?;
        books.escrowed += sum(self.indexers.iter().map(|i| i.due))?;
        for lease in &self.leases {
            let held = lease.held().ok().context("a lease handed out more than was put in")?;
            books.escrowed += held + lease.refunded - lease.withdrawn;
            books.staked += lease.compensation - lease.compensation_withdrawn;
        }
        Ok(books)
    }

    /// What owners have is what their containers and tickets hold.
    fn check_owners(&self) -> Result<()> {
        for provider in &self.providers {
            let mine = || self.containers.iter().filter(|c| c.provider == provider.id);
            let locked = sum(mine().map(|c| c.locked_stake))?;
            ensure!(
                locked == provider.locked && provider.locked + provider.unbonding <= provider.staked,
                "provider {} has {} staked, {} locked, and containers that lock {locked}",
                provider.id,
                provider.staked,
                provider.locked
            );
            let asked = sum(provider.unbonding_entries.iter().map(|e| e.amount))?;
            ensure!(
                asked == provider.unbonding && mine().count() == provider.containers as usize,
                "provider {} asked {asked} back and counts {}, has {} containers and counts {}",
                provider.id,
                provider.unbonding,
                mine().count(),
                provider.containers
            );
        }
        for checker in &self.checkers {
            let mine = || self.tickets.iter().filter(|t| t.status != Ticket::FREE && t.checker == checker.id);
            let price = sum(mine().map(|t| t.price))?;
            ensure!(
                price == checker.staked && mine().count() == checker.tickets as usize,
                "checker {} staked {} for {} tickets, and the set holds {} of {price}",
                checker.id,
                checker.staked,
                checker.tickets,
                mine().count()
            );
        }
        Ok(())
    }

    fn check_counters(&self) -> Result<()> {
        let mut nominal = 0;
        for block in &self.blocks {
            let occupied = block.rows.iter().filter(|r| r.status != Row::FREE).count();
            let live = || block.rows.iter().filter(|r| r.status == Row::LIVE);
            ensure!(
                occupied == usize::from(block.occupied) && live().count() == usize::from(block.live),
                "block {} counts {} occupied and {} live rows, has {occupied} and {}",
                block.index,
                block.occupied,
                block.live,
                live().count()
            );
            nominal += live().map(|r| nominal_weight(r.unit_weight, r.gpus)).sum::<u64>();
        }
        let number = self.network.current_epoch;
        if number != NONE {
            let epoch = self.epochs.iter().find(|e| e.number == number).context("the current epoch has no account")?;
            let next = epoch.next_nominal().ok().context("more weight was removed than there is")?;
            ensure!(next == nominal, "the next epoch's nominal weight is {next}, that of live rows {nominal}");
        }
        Ok(())
    }
}

fn sum(mut amounts: impl Iterator<Item = u64>) -> Result<u64> {
    amounts.try_fold(0u64, u64::checked_add).context("a sum of amounts exceeds 64 bits")
}
