use anchor_lang::prelude::*;

use crate::{
    checked::{
        EventAuthority, Mint, New, TOKEN_ACCOUNT_LEN, TokenAccount, TokenProgram, create_owned_by, initialize_token_account,
    },
    clock::now,
    constants::{DAY, NONE, seed},
    error::DatagalaxError,
    events::NetworkInitialized,
    state::{CheckerSetHeader, Emission, Grid, Network, Parameters, VERSION, VaultLedger, VestingTerms},
};

/// The loader that owns upgradeable programs.
const UPGRADEABLE_LOADER: Address = Address::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");
/// The furthest the first epoch may lie ahead, seconds.
const FURTHEST_START: i64 = 30 * DAY;

/// What the network starts with.
#[derive(Clone, Copy, AnchorSerialize, AnchorDeserialize, IdlType)]
pub struct InitializeNetworkArgs {
    /// Genesis hash of this cluster.
    pub genesis_hash: [u8; 32],
    /// Key that may pause.
    pub guardian: Address,
    /// Start of epoch 0, seconds of the chain's clock; not in the past.
    pub first_epoch_start: i64,
    /// Seconds an epoch lasts, 20 to 86,400.
    pub epoch_length: u32,
    /// Parameters, checked by [`Parameters::validate`].
    pub parameters: Parameters,
    /// Emission of an epoch at the start, base units.
    pub emission: u64,
    /// What each decay takes off, bps.
    pub decay_bps: u32,
    /// Epochs between decays; 0: never.
    pub decay_every: u32,
    /// First vesting terms; the parts must add up to 10,000 bps. Id and day are set by the program.
    pub vesting: VestingTerms,
    /// Accept a mint whose tokens can be frozen.
    pub allow_freeze_authority: u8,
}

#[derive(Accounts)]
pub struct InitializeNetwork {
    #[account(mut)]
    pub authority: Signer,
    /// The program's data account, whose upgrade authority must sign.
    pub program_data: UncheckedAccount,
    #[account(mut)]
    pub network: New<Network>,
    pub mint: Mint,
    pub treasury: TokenAccount,
    #[account(mut)]
    pub checkers: New<CheckerSetHeader>,
    #[account(mut)]
    pub stake_ledger: New<VaultLedger>,
    #[account(mut)]
    pub rewards_ledger: New<VaultLedger>,
    #[account(mut)]
    pub escrow_ledger: New<VaultLedger>,
    /// Created here as a token account of the network.
    #[account(mut)]
    pub stake_vault: UncheckedAccount,
    /// Created here as a token account of the network.
    #[account(mut)]
    pub rewards_vault: UncheckedAccount,
    /// Created here as a token account of the network.
    #[account(mut)]
    pub escrow_vault: UncheckedAccount,
    pub token_program: TokenProgram,
    pub system_program: Program<System>,
    pub event_authority: EventAuthority,
    pub program: UncheckedAccount,
}

/// Specification
/// 1. The signer is the program's upgrade authority.
/// 2. The mint is acceptable: six decimals, no power over other people's tokens; the treasury's account holds that token.
/// 3. Parameters are within bounds, the first epoch lies ahead, the vesting parts add up.
/// 4. Write the network, the three ledgers, the three vaults and the empty checker set.
#[inline(never)]
pub fn initialize_network(ctx: &mut Context<InitializeNetwork>, args: &InitializeNetworkArgs) -> Result<()> {
    let accounts = &mut ctx.accounts;
    // 1. Attack: whoever sees the deployment first initialises it with keys of their own.
    require_upgrade_authority(ctx.program_id, accounts.program_data.account(), accounts.authority.address())?;

    // 2. A mint of one token program is moved by that program only.
    accounts.mint.require_acceptable(args.allow_freeze_authority == 1)?;
    require!(accounts.mint.owned_by(accounts.token_program.address()), DatagalaxError::MintRefused);
    require!(accounts.treasury.mint() == *accounts.mint.address(), DatagalaxError::WrongAccount);

    // 3.
    args.parameters.validate(args.epoch_length)?;
    args.vesting.validate()?;
    let emission = Emission {
        amount: args.emission,
        decay_bps: args.decay_bps,
        decay_every: args.decay_every,
        next_decay: args.decay_every,
        reserved: 0,
    };
    emission.validate()?;
    let now = now()?;
    require!(
        args.first_epoch_start >= now
            && args.first_epoch_start <= now.saturating_add(FURTHEST_START)
            && args.allow_freeze_authority <= 1,
        DatagalaxError::ParameterOutOfBounds
    );

    // 4.
    let payer = accounts.authority.account();
    let (mut network, bump) = accounts.network.create(payer, &[seed::NETWORK])?;
    let (program, mint, owner) = (&*accounts.token_program, &*accounts.mint, *network.address());
    for (i, (name, ledger, vault)) in [
        (seed::STAKE, &accounts.stake_ledger, &accounts.stake_vault),
        (seed::REWARDS, &accounts.rewards_ledger, &accounts.rewards_vault),
        (seed::ESCROW, &accounts.escrow_ledger, &accounts.escrow_vault),
    ]
    .into_iter()
    .enumerate()
    {
        let vault = vault.account();
        network.vault_bumps[i] = create_owned_by(program.address(), payer, vault, &[seed::VAULT, name], TOKEN_ACCOUNT_LEN)?;
        initialize_token_account(program, vault, mint, &owner);
        let (mut ledger, bump) = ledger.create(payer, &[seed::LEDGER, name])?;
        ledger.version = VERSION;
        ledger.bump = bump;
        // The kinds count from zero in this order.
        ledger.kind = i as u8;
        ledger.vault = *vault.address();
        ledger.books()?;
    }
    let (mut checkers, checkers_bump) = accounts.checkers.create(payer, &[seed::CHECKERS])?;
    checkers.clear(checkers_bump);
    checkers.invariant()?;

    let grid = Grid {
        start: args.first_epoch_start,
        first_epoch: 0,
        length: args.epoch_length,
        reveal_window: args.parameters.reveal_window,
        commit_lead: args.parameters.commit_lead,
    };
    network.version = VERSION;
    network.bump = bump;
    network.freeze_allowed = args.allow_freeze_authority;
    network.authority = *accounts.authority.address();
    network.guardian = args.guardian;
    network.mint = *mint.address();
    network.token_program = *program.address();
    network.treasury = *accounts.treasury.address();
    network.genesis_hash = args.genesis_hash;
    network.grids = [grid, grid];
    network.current_epoch = NONE;
    network.previous_epoch = NONE;
    network.emission = emission;
    network.parameters = args.parameters;
    network.vesting_terms[0] = VestingTerms { id: 1, from_day: 0, ..args.vesting };
    network.invariant()?;
    accounts.event_authority.emit(&NetworkInitialized {
        authority: network.authority,
        guardian: args.guardian,
        mint: network.mint,
        treasury: network.treasury,
        first_epoch_start: args.first_epoch_start,
        epoch_length: args.epoch_length,
        reserved: [0; 4],
    });
    Ok(())
}

/// The program data account of the upgradeable loader reads: u32 tag 3, u64 slot, u8 option, the authority.
#[inline(never)]
fn require_upgrade_authority(program_id: &Address, program_data: &AccountView, authority: &Address) -> Result<()> {
    let (expected, _) = find_program_address(&[program_id.as_ref()], &UPGRADEABLE_LOADER);
    require!(
        *program_data.address() == expected && program_data.owned_by(&UPGRADEABLE_LOADER),
        DatagalaxError::NotUpgradeAuthority
    );
    let data = program_data.try_borrow()?;
    let named =
        data.get(..4) == Some(&[3, 0, 0, 0]) && data.get(12) == Some(&1) && data.get(13..45) == Some(authority.as_ref());
    require!(named, DatagalaxError::NotUpgradeAuthority);
    Ok(())
}
