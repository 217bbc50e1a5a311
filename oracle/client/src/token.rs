//! The $ATH mint and wallets' token accounts: instructions and reads. A mint made here is of the legacy token program; a
//! network's may also be of Token-2022, so whatever concerns an existing network goes by the program that it names.

use datagalax::{constants::MINT_DECIMALS, state::Network};
use solana_account::Account;
use solana_instruction::{AccountMeta, Instruction};
use solana_system_interface::instruction::create_account;

use crate::{Address, accounts::AccountError};

/// The legacy SPL token program.
pub const TOKEN_PROGRAM: Address = spl_token_interface::ID;
/// Token-2022.
pub const TOKEN_2022_PROGRAM: Address = datagalax::checked::TOKEN_2022;
/// The program that names each wallet's token account.
pub const ASSOCIATED_TOKEN_PROGRAM: Address = Address::from_str_const("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
/// The system program.
pub const SYSTEM_PROGRAM: Address = Address::from_str_const("11111111111111111111111111111111");
/// Bytes of a mint account.
pub const MINT_LEN: usize = 82;
/// Bytes of a token account.
const ACCOUNT_LEN: usize = 165;

/// Where a wallet keeps its tokens of a mint of a token program.
pub fn associated_account_of(wallet: &Address, mint: &Address, token_program: &Address) -> Address {
    let seeds = [wallet.as_ref(), token_program.as_ref(), mint.as_ref()];
    Address::find_program_address(&seeds, &ASSOCIATED_TOKEN_PROGRAM).0
}

/// Creates a wallet's token account of a mint of a token program unless it exists. The payer signs.
pub fn create_associated_account_of(
    payer: &Address,
    wallet: &Address,
    mint: &Address,
    token_program: &Address,
) -> Instruction {
    let accounts = vec![
        AccountMeta::new(*payer, true),
        AccountMeta::new(associated_account_of(wallet, mint, token_program), false),
        AccountMeta::new_readonly(*wallet, false),
        AccountMeta::new_readonly(*mint, false),
        AccountMeta::new_readonly(SYSTEM_PROGRAM, false),
        AccountMeta::new_readonly(*token_program, false),
    ];
    // 1 is CreateIdempotent.
    Instruction { program_id: ASSOCIATED_TOKEN_PROGRAM, accounts, data: vec![1] }
}

/// Where a wallet keeps its $ATH.
pub fn home(wallet: &Address, network: &Network) -> Address {
    associated_account_of(wallet, &network.mint, &network.token_program)
}

/// Creates a wallet's [`home`] unless it exists. The payer signs.
pub fn create_home(payer: &Address, wallet: &Address, network: &Network) -> Instruction {
    create_associated_account_of(payer, wallet, &network.mint, &network.token_program)
}

/// Where a wallet keeps its tokens of a mint of the legacy program.
pub fn associated_account(wallet: &Address, mint: &Address) -> Address {
    associated_account_of(wallet, mint, &TOKEN_PROGRAM)
}

/// Creates a wallet's token account of a mint of the legacy program unless it exists. The payer signs.
pub fn create_associated_account(payer: &Address, wallet: &Address, mint: &Address) -> Instruction {
    create_associated_account_of(payer, wallet, mint, &TOKEN_PROGRAM)
}

/// Creates a mint with 6 decimals and no freeze authority. Payer and mint sign; `rent` is for [`MINT_LEN`] bytes.
pub fn create_mint(payer: &Address, mint: &Address, mint_authority: &Address, rent: u64) -> [Instruction; 2] {
    let initialise =
        spl_token_interface::instruction::initialize_mint2(&TOKEN_PROGRAM, mint, mint_authority, None, MINT_DECIMALS);
    [
        create_account(payer, mint, rent, MINT_LEN as u64, &TOKEN_PROGRAM),
        initialise.expect("the program id is the token program's own"),
    ]
}

/// Mints base units into a token account. The mint authority signs.
pub fn mint_to(mint: &Address, token_account: &Address, mint_authority: &Address, amount: u64) -> Instruction {
    spl_token_interface::instruction::mint_to(&TOKEN_PROGRAM, mint, token_account, mint_authority, &[], amount)
        .expect("the program id is the token program's own")
}

/// Base units in a token account of the legacy program or of Token-2022.
///
/// # Errors
/// [`AccountError`] when the account is not a token account.
pub fn balance(address: &Address, account: &Account) -> Result<u64, AccountError> {
    let (what, address) = ("token account", *address);
    if account.owner != TOKEN_PROGRAM && account.owner != TOKEN_2022_PROGRAM {
        return Err(AccountError::WrongOwner { what, address, owner: account.owner });
    }
    let have = account.data.len();
    if have < ACCOUNT_LEN {
        return Err(AccountError::TooShort { what, address, have, need: ACCOUNT_LEN });
    }
    // Mint, owner, then the amount.
    let amount = account.data[64..72].try_into().expect("eight bytes");
    Ok(u64::from_le_bytes(amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_associated_account_is_where_the_token_crates_put_it() {
        let (wallet, mint) = (Address::new_from_array([1; 32]), Address::new_from_array([2; 32]));
        let expected = anchor_spl::associated_token::get_associated_token_address(&wallet, &mint);
        assert_eq!(associated_account(&wallet, &mint), expected);
    }

    #[test]
    fn a_balance_is_read_only_from_a_token_account() {
        let at = Address::new_from_array([3; 32]);
        let mut account =
            Account { lamports: 1, data: vec![0; ACCOUNT_LEN], owner: TOKEN_PROGRAM, executable: false, rent_epoch: 0 };
        account.data[64..72].copy_from_slice(&77u64.to_le_bytes());
        assert_eq!(balance(&at, &account), Ok(77));
        assert_eq!(balance(&at, &Account { owner: TOKEN_2022_PROGRAM, ..account.clone() }), Ok(77));
        let mint = Account { data: vec![0; MINT_LEN], ..account.clone() };
        assert!(matches!(balance(&at, &mint), Err(AccountError::TooShort { .. })));
        let foreign = Account { owner: SYSTEM_PROGRAM, ..account };
        assert!(matches!(balance(&at, &foreign), Err(AccountError::WrongOwner { .. })));
    }
}
