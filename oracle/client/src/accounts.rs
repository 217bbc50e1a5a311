//! Decoding accounts: owner, discriminator, length and version are checked before a byte is believed.

use anchor_lang::Discriminator;
use bytemuck::Pod;
use datagalax::state::{
    Block, Case, Checker, CheckerSetHeader, Container, Epoch, GpuClass, Indexer, Keeper, Lease, Network, Provider, Ticket,
    VERSION, VaultLedger,
};
use solana_account::Account;
use thiserror::Error;

use crate::{Address, addresses::PROGRAM};

/// Bytes of the discriminator in front of every account of the program.
pub const DISCRIMINATOR_LEN: usize = 8;

/// Why an account's bytes are not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AccountError {
    /// Nothing lives at the address.
    #[error("there is no {what} at {address}: it was not created yet, or --url names another cluster")]
    NotFound {
        /// The type asked for.
        what: &'static str,
        /// Where.
        address: Address,
    },
    /// Another program owns the account.
    #[error("{address} is not a {what} of Datagalax: it belongs to program {owner}")]
    WrongOwner {
        /// The type asked for.
        what: &'static str,
        /// Where.
        address: Address,
        /// The owner found.
        owner: Address,
    },
    /// The account is another type of this program.
    #[error("{address} is an account of Datagalax, but not a {what}")]
    WrongType {
        /// The type asked for.
        what: &'static str,
        /// Where.
        address: Address,
    },
    /// The account is shorter than its type: a block that still grows, or a program of another version.
    #[error("the {what} at {address} has {have} of {need} bytes: a block must be grown to its full length first")]
    TooShort {
        /// The type asked for.
        what: &'static str,
        /// Where.
        address: Address,
        /// Bytes found.
        have: usize,
        /// Bytes of the type.
        need: usize,
    },
    /// The layout is of another version than this client knows.
    #[error("the {what} at {address} has layout version {version}, this program reads version {VERSION}: update it")]
    WrongVersion {
        /// The type asked for.
        what: &'static str,
        /// Where.
        address: Address,
        /// The version found.
        version: u8,
    },
}

/// A zero-copy account type of the program. All of them begin with a version byte.
pub trait AccountType: Pod + Discriminator {
    /// The name in messages.
    const NAME: &'static str;
}

macro_rules! account_types {
    ($($type:ident = $name:literal),* $(,)?) => { $(impl AccountType for $type { const NAME: &'static str = $name; })* };
}
account_types! {
    Network = "network", VaultLedger = "vault ledger", GpuClass = "class", Provider = "provider", Container = "container",
    Block = "block", Checker = "checker", Epoch = "epoch", Lease = "lease", Case = "case", Indexer = "indexer",
    Keeper = "keeper",
}
impl AccountType for CheckerSetHeader {
    const NAME: &'static str = "checker set";
}

fn check<'a, T: AccountType>(address: &Address, account: &'a Account) -> Result<&'a [u8], AccountError> {
    let (what, address) = (T::NAME, *address);
    if account.owner != PROGRAM {
        // An account that was closed or only ever received lamports belongs to the system program and holds no data.
        if account.data.is_empty() {
            return Err(AccountError::NotFound { what, address });
        }
        return Err(AccountError::WrongOwner { what, address, owner: account.owner });
    }
    let need = DISCRIMINATOR_LEN + size_of::<T>();
    let have = account.data.len();
    if have >= DISCRIMINATOR_LEN && &account.data[..DISCRIMINATOR_LEN] != T::DISCRIMINATOR {
        return Err(AccountError::WrongType { what, address });
    }
    if have < need {
        return Err(AccountError::TooShort { what, address, have, need });
    }
    let body = &account.data[DISCRIMINATOR_LEN..];
    if body[0] != VERSION {
        return Err(AccountError::WrongVersion { what, address, version: body[0] });
    }
    Ok(body)
}

/// An owned copy of an account, on the heap: a block is 41 KB.
///
/// # Errors
/// [`AccountError`] when the owner, the discriminator, the length or the version is not that of `T`.
pub fn decode<T: AccountType>(address: &Address, account: &Account) -> Result<Box<T>, AccountError> {
    let body = check::<T>(address, account)?;
    let mut value = bytemuck::allocation::zeroed_box::<T>();
    bytemuck::bytes_of_mut(&mut *value).copy_from_slice(&body[..size_of::<T>()]);
    Ok(value)
}

/// Where the entries of the checker set begin: right behind its head.
const TICKETS_AT: usize = DISCRIMINATOR_LEN + size_of::<CheckerSetHeader>();

/// The checker set's header and its entries.
///
/// # Errors
/// As [`decode`]; [`AccountError::TooShort`] also when the account is shorter than the entries it counts.
pub fn decode_checker_set(address: &Address, account: &Account) -> Result<(CheckerSetHeader, Vec<Ticket>), AccountError> {
    let header = *decode::<CheckerSetHeader>(address, account)?;
    let data = &account.data;
    let too_short =
        |need| AccountError::TooShort { what: CheckerSetHeader::NAME, address: *address, have: data.len(), need };
    let end = (header.slots as usize).saturating_mul(size_of::<Ticket>()).saturating_add(TICKETS_AT);
    let entries = data.get(TICKETS_AT..end).ok_or(too_short(end))?;
    Ok((header, entries.chunks_exact(size_of::<Ticket>()).map(bytemuck::pod_read_unaligned).collect()))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use proptest::prelude::*;

    use super::*;
    use crate::addresses;

    fn account_of<T: AccountType>(value: &T) -> Account {
        let mut data = T::DISCRIMINATOR.to_vec();
        data.extend_from_slice(bytemuck::bytes_of(value));
        data[DISCRIMINATOR_LEN] = VERSION;
        Account { lamports: 1, data, owner: PROGRAM, executable: false, rent_epoch: 0 }
    }

    #[test]
    fn reads_back_what_was_written() {
        let at = addresses::block(7);
        let mut block = bytemuck::allocation::zeroed_box::<Block>();
        block.index = 7;
        block.rows[255].accrued = 42;
        let read = decode::<Block>(&at, &account_of(&*block)).unwrap();
        assert_eq!((read.index, read.rows[255].accrued), (7, 42));
    }

    #[test]
    fn every_wrong_account_is_named() {
        let at = addresses::epoch(1);
        let good = account_of(&Epoch::zeroed());
        let foreign = Account { owner: Address::new_from_array([9; 32]), ..good.clone() };
        assert!(matches!(decode::<Epoch>(&at, &foreign), Err(AccountError::WrongOwner { .. })));
        let closed = Account { owner: Address::default(), data: vec![], ..good.clone() };
        assert!(matches!(decode::<Epoch>(&at, &closed), Err(AccountError::NotFound { .. })));
        assert!(matches!(decode::<Network>(&at, &good), Err(AccountError::WrongType { .. })));
        let mut cut = good.clone();
        cut.data.pop();
        assert!(matches!(decode::<Epoch>(&at, &cut), Err(AccountError::TooShort { .. })));
        let mut newer = good.clone();
        newer.data[DISCRIMINATOR_LEN] = 99;
        assert!(matches!(decode::<Epoch>(&at, &newer), Err(AccountError::WrongVersion { version: 99, .. })));
        assert!(decode::<Epoch>(&at, &good).is_ok());
    }

    #[test]
    fn tickets_lie_where_the_program_puts_them() {
        let mut account = account_of(&CheckerSetHeader { slots: 2, ..CheckerSetHeader::zeroed() });
        for id in [5, 6] {
            account.data.extend_from_slice(bytemuck::bytes_of(&Ticket::waiting(id, 1)));
        }
        let at = addresses::checker_set();
        let (_, tickets) = decode_checker_set(&at, &account).unwrap();
        assert_eq!(tickets.iter().map(|t| t.checker).collect::<Vec<_>>(), [5, 6]);
        // Whoever reads the head alone has to know where it ends.
        assert_eq!(TICKETS_AT, <CheckerSetHeader as datagalax::checked::Kind>::SPACE);
        account.data.pop();
        assert!(matches!(decode_checker_set(&at, &account), Err(AccountError::TooShort { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(data in prop::collection::vec(any::<u8>(), 0..200), typed in any::<bool>()) {
            let mut data = data;
            if typed && data.len() >= DISCRIMINATOR_LEN {
                data[..DISCRIMINATOR_LEN].copy_from_slice(CheckerSetHeader::DISCRIMINATOR);
            }
            let account = Account { lamports: 1, data, owner: PROGRAM, executable: false, rent_epoch: 0 };
            let _ = decode::<GpuClass>(&addresses::class(0), &account);
            let _ = decode_checker_set(&addresses::checker_set(), &account);
        }
    }
}
