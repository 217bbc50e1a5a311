//! Typed reads of the chain.

use std::{mem::offset_of, sync::Arc};

use anchor_lang::Discriminator;
use datagalax::state::{
    Block, Checker, CheckerSetHeader, Container, Epoch, GpuClass, Indexer, Lease, Network, Provider, Ticket, VaultLedger,
};
use thiserror::Error;

use crate::{
    Address,
    accounts::{AccountError, AccountType, DISCRIMINATOR_LEN, decode, decode_checker_set},
    addresses::{self, PROGRAM, Vault},
    rpc::{Rpc, RpcError},
    token,
};

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The node.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The account.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl ReadError {
    /// Whether nothing lives at the address.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Account(AccountError::NotFound { .. }))
    }

    /// Whether trying again later may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Rpc(e) if e.is_transient())
    }
}

/// All tickets: the header and its entries, slot by slot.
#[derive(Clone)]
pub struct CheckerSet {
    /// Counts and lists.
    pub header: CheckerSetHeader,
    /// Entry i is the ticket in slot i and the slot at position i of the order.
    pub tickets: Vec<Ticket>,
}

impl CheckerSet {
    /// The slots that a checker holds, ascending.
    pub fn slots_of(&self, checker: u32) -> Vec<u32> {
        let held = |t: &Ticket| t.checker == checker && t.status != 0;
        (0u32..).zip(&self.tickets).filter(|(_, t)| held(t)).map(|(slot, _)| slot).collect()
    }
}

/// Reads accounts of the program, typed and checked.
#[derive(Clone)]
pub struct Reader {
    rpc: Arc<dyn Rpc>,
}

impl Reader {
    /// Reads from this node.
    pub fn new(rpc: Arc<dyn Rpc>) -> Self {
        Self { rpc }
    }

    /// The node.
    pub fn rpc(&self) -> &Arc<dyn Rpc> {
        &self.rpc
    }

    /// Any account by address.
    ///
    /// # Errors
    /// [`ReadError`] when the node does not answer or the account is not a `T`.
    pub async fn get<T: AccountType>(&self, address: &Address) -> Result<Box<T>, ReadError> {
        self.find(address).await?.ok_or_else(|| AccountError::NotFound { what: T::NAME, address: *address }.into())
    }

    /// Any account by address, `None` when nothing lives there.
    ///
    /// # Errors
    /// As [`Self::get`], less [`AccountError::NotFound`].
    pub async fn find<T: AccountType>(&self, address: &Address) -> Result<Option<Box<T>>, ReadError> {
        Ok(self.many::<T>(&[*address]).await?.pop().flatten())
    }

    /// Accounts by address, in one request for each hundred; `None` where nothing lives.
    ///
    /// # Errors
    /// As [`Self::find`], for the first that fails.
    pub async fn many<T: AccountType>(&self, addresses: &[Address]) -> Result<Vec<Option<Box<T>>>, ReadError> {
        let read = self.rpc.accounts(addresses).await?;
        addresses
            .iter()
            .zip(read)
            .map(|(address, account)| match account.map(|a| decode::<T>(address, &a)) {
                None | Some(Err(AccountError::NotFound { .. })) => Ok(None),
                Some(Ok(value)) => Ok(Some(value)),
                Some(Err(e)) => Err(e.into()),
            })
            .collect()
    }

    /// Every account of a type, by address ascending.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list<T: AccountType>(&self) -> Result<Vec<(Address, Box<T>)>, ReadError> {
        self.matching(&[]).await
    }

    /// Every account of a type whose bytes behind the discriminator hold each of these at its offset (`offset_of!` of a field), by
    /// address ascending. The node looks for them: nothing else is transferred.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn matching<T: AccountType>(&self, fields: &[(usize, &[u8])]) -> Result<Vec<(Address, Box<T>)>, ReadError> {
        let mut holding = vec![(0, <T as Discriminator>::DISCRIMINATOR.to_vec())];
        holding.extend(fields.iter().map(|(at, bytes)| (DISCRIMINATOR_LEN + at, bytes.to_vec())));
        let read = self.rpc.program_accounts(&PROGRAM, &holding).await?;
        let mut all = read
            .into_iter()
            .map(|(address, account)| Ok((address, decode::<T>(&address, &account)?)))
            .collect::<Result<Vec<_>, AccountError>>()?;
        all.sort_by_key(|(address, _)| *address);
        Ok(all)
    }

    /// The network.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn network(&self) -> Result<Box<Network>, ReadError> {
        self.get(&addresses::network()).await
    }

    /// A class by id.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn class(&self, id: u16) -> Result<Box<GpuClass>, ReadError> {
        self.get(&addresses::class(id)).await
    }

    /// All classes, by id.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn classes(&self) -> Result<Vec<Box<GpuClass>>, ReadError> {
        let mut all: Vec<_> = self.list::<GpuClass>().await?.into_iter().map(|(_, class)| class).collect();
        all.sort_by_key(|class| class.id);
        Ok(all)
    }

    /// A provider by id.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn provider(&self, id: u32) -> Result<Box<Provider>, ReadError> {
        self.get(&addresses::provider(id)).await
    }

    /// A container by address.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn container(&self, address: &Address) -> Result<Box<Container>, ReadError> {
        self.get(address).await
    }

    /// All containers, by block and row.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn containers(&self) -> Result<Vec<(Address, Box<Container>)>, ReadError> {
        let mut all = self.list::<Container>().await?;
        all.sort_by_key(|(_, c)| (c.block, c.row));
        Ok(all)
    }

    /// The container in a row of a block, with its address; `None` when there is none.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn container_at(&self, block: u32, row: u8) -> Result<Option<(Address, Box<Container>)>, ReadError> {
        let fields: [(usize, &[u8]); 2] =
            [(offset_of!(Container, block), &block.to_le_bytes()), (offset_of!(Container, row), &[row])];
        Ok(self.matching::<Container>(&fields).await?.pop())
    }

    /// All leases in a state ([`Lease::OPEN`] to [`Lease::SETTLED`]).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn leases_in(&self, status: u8) -> Result<Vec<(Address, Box<Lease>)>, ReadError> {
        self.matching(&[(offset_of!(Lease, status), &[status])]).await
    }

    /// All leases of a user.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn leases_of(&self, user: &Address) -> Result<Vec<(Address, Box<Lease>)>, ReadError> {
        self.matching(&[(offset_of!(Lease, user), user.as_ref())]).await
    }

    /// An indexer by id.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn indexer(&self, id: u32) -> Result<Box<Indexer>, ReadError> {
        self.get(&addresses::indexer(id)).await
    }

    /// A block by index.
    ///
    /// # Errors
    /// As [`Self::get`]; [`AccountError::TooShort`] while it still grows.
    pub async fn block(&self, index: u32) -> Result<Box<Block>, ReadError> {
        self.get(&addresses::block(index)).await
    }

    /// Bytes of a block's account: less than its full length while it grows, `None` when it was not created.
    ///
    /// # Errors
    /// [`ReadError::Rpc`].
    pub async fn block_len(&self, index: u32) -> Result<Option<usize>, ReadError> {
        let read = self.rpc.accounts(&[addresses::block(index)]).await?;
        Ok(read.into_iter().next().flatten().filter(|a| a.owner == PROGRAM).map(|a| a.data.len()))
    }

    /// The blocks below `count` that have their full length. One that still grows holds no container, so it is left out.
    ///
    /// # Errors
    /// As [`Self::get`], but for a block that grows or was not created.
    pub async fn blocks(&self, count: u32) -> Result<Vec<Box<Block>>, ReadError> {
        let addresses: Vec<Address> = (0..count).map(addresses::block).collect();
        let mut blocks = Vec::with_capacity(addresses.len());
        // 41 KB each: a hundred a request would be answers of 5 MB.
        for part in addresses.chunks(25) {
            for (address, account) in part.iter().zip(self.rpc.accounts(part).await?) {
                match account.map(|a| decode::<Block>(address, &a)) {
                    None | Some(Err(AccountError::NotFound { .. } | AccountError::TooShort { .. })) => {}
                    Some(Ok(block)) => blocks.push(block),
                    Some(Err(e)) => return Err(e.into()),
                }
            }
        }
        Ok(blocks)
    }

    /// A checker by id.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn checker(&self, id: u32) -> Result<Box<Checker>, ReadError> {
        self.get(&addresses::checker(id)).await
    }

    /// All tickets.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn checker_set(&self) -> Result<CheckerSet, ReadError> {
        let address = addresses::checker_set();
        let account = self.rpc.accounts(&[address]).await?.into_iter().next().flatten();
        let account = account.ok_or(AccountError::NotFound { what: CheckerSetHeader::NAME, address })?;
        let (header, tickets) = decode_checker_set(&address, &account)?;
        Ok(CheckerSet { header, tickets })
    }

    /// The checker set's counts, without its entries.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn checker_set_header(&self) -> Result<CheckerSetHeader, ReadError> {
        let address = addresses::checker_set();
        let bytes = DISCRIMINATOR_LEN + size_of::<CheckerSetHeader>();
        let account = self.rpc.heads(&[address], bytes).await?.into_iter().next().flatten();
        let account = account.ok_or(AccountError::NotFound { what: CheckerSetHeader::NAME, address })?;
        Ok(*decode::<CheckerSetHeader>(&address, &account)?)
    }

    /// An epoch by number.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn epoch(&self, number: u32) -> Result<Box<Epoch>, ReadError> {
        self.get(&addresses::epoch(number)).await
    }

    /// The books of a vault.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn ledger(&self, vault: Vault) -> Result<Box<VaultLedger>, ReadError> {
        self.get(&addresses::ledger(vault)).await
    }

    /// Base units that a token account holds, `None` when it does not exist.
    ///
    /// # Errors
    /// [`ReadError::Account`] when it is not a token account.
    pub async fn token_balance(&self, token_account: &Address) -> Result<Option<u64>, ReadError> {
        let read = self.rpc.accounts(&[*token_account]).await?.into_iter().next().flatten();
        Ok(read.map(|account| token::balance(token_account, &account)).transpose()?)
    }
}
