//! Auditing the books from the chain alone: every conservation law that the accounts of a whole network let one check
//! (protocol section 13), at one slot.

use anyhow::{Context, Result, ensure};
use datagalax::{
    constants::NONE,
    state::{Block, Checker, Container, Epoch, Network, Provider, Row, VaultLedger},
};
use datagalax_client::{Address, Reader, accounts::decode, addresses, addresses::Vault, token};
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
    /// Credited and not yet claimed.
    pub held: u64,
    /// Claimed.
    pub paid: u64,
    /// Reserved by epochs whose tally is not over, and not credited.
    pub reserved: u64,
    /// Stake of providers and checkers.
    pub staked: u64,
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
    providers: Vec<Provider>,
    checkers: Vec<Checker>,
    containers: Vec<Container>,
    tickets_accrued: u64,
    ledgers: [(Box<VaultLedger>, u64); 3],
}

impl Snapshot {
    /// `None` when the lists changed while they were read.
    async fn take(reader: &Reader) -> Result<Option<Self>> {
        let network = reader.network().await?;
        let epochs: Vec<Address> = reader.list::<Epoch>().await?.into_iter().map(|(a, _)| a).collect();
        let containers: Vec<Address> = reader.containers().await?.into_iter().map(|(a, _)| a).collect();
        let mut all = vec![addresses::network(), addresses::checker_set()];
        for vault in Vault::ALL {
            all.extend([addresses::ledger(vault), addresses::vault(vault)]);
        }
        all.extend(&epochs);
        all.extend((0..network.blocks).map(addresses::block));
        all.extend((0..network.providers).map(addresses::provider));
        all.extend((0..network.checkers).map(addresses::checker));
        all.extend(&containers);
        ensure!(
            all.len() <= ONE_ANSWER,
            "{} accounts do not fit one answer of a node: this audit is for small networks",
            all.len()
        );

        let read = reader.rpc().accounts(&all).await?;
        let find = |address: &Address| -> Result<&Account> {
            let at = all.iter().position(|a| a == address).context("an account that was not asked for")?;
            read.get(at).and_then(Option::as_ref).with_context(|| format!("{address} vanished"))
        };
        macro_rules! typed {
            ($type:ty, $address:expr) => {{
                let address: Address = $address;
                decode::<$type>(&address, find(&address)?)?
            }};
        }
        let now = typed!(Network, addresses::network());
        let created = |n: &Network| (n.current_epoch, n.blocks, n.providers, n.checkers, n.free_rows);
        if created(&now) != created(&network) {
            return Ok(None);
        }
        let set =
            datagalax_client::accounts::decode_checker_set(&addresses::checker_set(), find(&addresses::checker_set())?)?;
        let ledgers = Vault::ALL.map(|vault| -> Result<_> {
            let held = token::balance(&addresses::vault(vault), find(&addresses::vault(vault))?)?;
            Ok((typed!(VaultLedger, addresses::ledger(vault)), held))
        });
        let [stake, rewards, escrow] = ledgers;
        Ok(Some(Self {
            epochs: epochs.iter().map(|a| Ok(*typed!(Epoch, *a))).collect::<Result<_>>()?,
            blocks: (0..now.blocks).map(|b| Ok(typed!(Block, addresses::block(b)))).collect::<Result<_>>()?,
            providers: (0..now.providers).map(|p| Ok(*typed!(Provider, addresses::provider(p)))).collect::<Result<_>>()?,
            checkers: (0..now.checkers).map(|c| Ok(*typed!(Checker, addresses::checker(c)))).collect::<Result<_>>()?,
            containers: containers.iter().map(|a| Ok(*typed!(Container, *a))).collect::<Result<_>>()?,
            tickets_accrued: sum(set.1.iter().map(|t| t.accrued))?,
            ledgers: [stake?, rewards?, escrow?],
            network: now,
        }))
    }

    fn check(&self) -> Result<Books> {
        let rows = || self.blocks.iter().flat_map(|b| b.rows.iter());
        let [(stake, _), (rewards, _), _] = &self.ledgers;
        let mut books = Books {
            pools: sum(self.epochs.iter().map(|e| e.pool))?,
            credited: sum(self.epochs.iter().map(|e| e.credited()))?,
            held: sum(rows().map(|r| r.accrued))?.checked_add(self.tickets_accrued).context("overflow")?,
            paid: rewards.total_out,
            ..Books::default()
        };

        for epoch in &self.epochs {
            ensure!(
                epoch.credited() <= epoch.pool,
                "epoch {} credited {} out of a pool of {}",
                epoch.number,
                epoch.credited(),
                epoch.pool
            );
            if epoch.released == 0 {
                books.reserved += epoch.pool - epoch.credited();
            }
        }
        ensure!(
            books.credited == books.held + books.paid,
            "credited {} is not held {} + paid {}",
            books.credited,
            books.held,
            books.paid
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
        }
        ensure!(
            rewards.liabilities == books.held + books.reserved,
            "the rewards vault owes {}, which is not held {} + reserved {}",
            rewards.liabilities,
            books.held,
            books.reserved
        );

        let providers = sum(self.providers.iter().map(|p| p.staked))?;
        books.staked = sum(self.checkers.iter().map(|c| c.staked))? + providers;
        ensure!(
            books.staked == stake.liabilities,
            "staked {} is not what the stake vault owes, {}",
            books.staked,
            stake.liabilities
        );
        for provider in &self.providers {
            let mine = self.containers.iter().filter(|c| c.provider == provider.id);
            let locked = sum(mine.map(|c| c.locked_stake))?;
            ensure!(
                locked == provider.locked && provider.locked + provider.unbonding <= provider.staked,
                "provider {} has {} staked, {} locked, and containers that lock {locked}",
                provider.id,
                provider.staked,
                provider.locked
            );
        }
        for block in &self.blocks {
            let occupied = block.rows.iter().filter(|r| r.status != Row::FREE).count();
            let live = block.rows.iter().filter(|r| r.status == Row::LIVE).count();
            ensure!(
                occupied == usize::from(block.occupied) && live == usize::from(block.live),
                "block {} counts {} occupied and {} live rows, has {occupied} and {live}",
                block.index,
                block.occupied,
                block.live
            );
        }
        ensure!(self.network.current_epoch == NONE || !self.epochs.is_empty(), "the current epoch has no account");
        Ok(books)
    }
}

fn sum(mut amounts: impl Iterator<Item = u64>) -> Result<u64> {
    amounts.try_fold(0u64, u64::checked_add).context("a sum of amounts exceeds 64 bits")
}
