use anchor_lang::{
    pinocchio::{
        cpi::{CpiAccount, Seed, Signer as CpiSigner, invoke_signed_unchecked},
        instruction::{InstructionAccount, InstructionView},
    },
    prelude::*,
};

use super::view_of;
use crate::constants::{MINT_DECIMALS, seed};

/// The legacy token program.
pub const TOKEN: Address = Address::from_str_const("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
/// Token-2022.
pub const TOKEN_2022: Address = Address::from_str_const("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
/// The program of associated token accounts.
pub const ASSOCIATED_TOKEN: Address = Address::from_str_const("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");

/// One of the two token programs.
pub struct TokenProgram {
    view: AccountView,
}

view_of!(TokenProgram);

/// Whether an address is one of the two token programs.
#[inline(never)]
pub(super) fn is_token_program(address: &Address) -> bool {
    *address == TOKEN || *address == TOKEN_2022
}

impl AnchorAccount for TokenProgram {
    type Data = AccountView;

    #[inline(always)]
    fn load(view: AccountView) -> Result<Self> {
        // Attack: a program of one's own that says yes to every transfer.
        require!(is_token_program(view.address()), ProgramError::IncorrectProgramId);
        Ok(Self { view })
    }

    #[inline(always)]
    fn account(&self) -> &AccountView {
        &self.view
    }
}

/// `TransferChecked` of both token programs: instruction 12, amount, decimals.
const TRANSFER_CHECKED: u8 = 12;
/// `InitializeAccount3` of both token programs: instruction 18, owner.
const INITIALIZE_ACCOUNT: u8 = 18;

/// The accounts of a transfer.
pub struct Transfer<'a> {
    /// The token program.
    pub program: &'a AccountView,
    /// Pays.
    pub from: &'a AccountView,
    /// The mint of both.
    pub mint: &'a AccountView,
    /// Receives.
    pub to: &'a AccountView,
    /// Owner of `from`: a signer of the transaction, or the network, which signs by its bump.
    pub authority: &'a AccountView,
}

impl Transfer<'_> {
    /// Moves base units; `network_bump` when the network is the authority. A refusal of the token program ends the transaction.
    #[inline(never)]
    pub fn run(&self, amount: u64, network_bump: Option<u8>) {
        let mut data = [0u8; 10];
        data[0] = TRANSFER_CHECKED;
        data[1..9].copy_from_slice(&amount.to_le_bytes());
        data[9] = MINT_DECIMALS;
        let accounts = [
            InstructionAccount::writable(self.from.address()),
            InstructionAccount::readonly(self.mint.address()),
            InstructionAccount::writable(self.to.address()),
            InstructionAccount::readonly_signer(self.authority.address()),
        ];
        let views = [
            CpiAccount::from(self.from),
            CpiAccount::from(self.mint),
            CpiAccount::from(self.to),
            CpiAccount::from(self.authority),
        ];
        let instruction = InstructionView { program_id: self.program.address(), accounts: &accounts, data: &data };
        let bump = [network_bump.unwrap_or_default()];
        let seeds = [Seed::from(seed::NETWORK), Seed::from(&bump)];
        let signers = [CpiSigner::from(&seeds)];
        let signers = if network_bump.is_some() { &signers[..] } else { &[] };
        // SAFETY: token accounts are read through short borrows only (`TokenAccount::amount`), none is alive here; the network
        // is passed read-only, and the token program changes no account but the two token accounts.
        unsafe { invoke_signed_unchecked(&instruction, &views, signers) };
    }
}

/// Makes a fresh account of 165 bytes a token account of `mint` that `owner` holds.
#[inline(never)]
pub fn initialize_token_account(program: &AccountView, account: &AccountView, mint: &AccountView, owner: &Address) {
    let mut data = [0u8; 33];
    data[0] = INITIALIZE_ACCOUNT;
    data[1..].copy_from_slice(owner.as_ref());
    let accounts = [InstructionAccount::writable(account.address()), InstructionAccount::readonly(mint.address())];
    let views = [CpiAccount::from(account), CpiAccount::from(mint)];
    let instruction = InstructionView { program_id: program.address(), accounts: &accounts, data: &data };
    // SAFETY: the account was created just now and the mint is not borrowed.
    unsafe { invoke_signed_unchecked(&instruction, &views, &[]) };
}
