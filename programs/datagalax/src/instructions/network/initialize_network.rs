use anchor_lang::prelude::*;
use anchor_spl::{mint::Mint, token, token::TokenAccount};

use crate::{
    constants::{BPS, MAX_AMOUNT, MINT_DECIMALS, NONE, seed},
    error::DatagalaxError,
    state::{CheckerSet, Emission, Grid, Network, Parameters, VERSION, VaultLedger, VestingTerms},
};

/// The loader that owns upgradeable programs.
const UPGRADEABLE_LOADER: Address = Address::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");
/// The furthest the first epoch may lie ahead, seconds.
const FURTHEST_START: i64 = 30 * 86_400;

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
    /// Largest net outflow of any vault in 24 h, base units.
    pub breaker_limit: u64,
    /// First vesting terms; the parts must add up to 10,000 bps.
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
    #[account(init, payer = authority, seeds = [seed::NETWORK], bump)]
    pub network: Account<Network>,
    pub mint: Account<Mint>,
    #[account(token::mint = mint)]
    pub treasury: Account<TokenAccount>,
    #[account(init, payer = authority, seeds = [seed::CHECKERS], bump)]
    pub checkers: CheckerSet,
    #[account(init, payer = authority, seeds = [seed::LEDGER, seed::STAKE], bump)]
    pub stake_ledger: Account<VaultLedger>,
    #[account(init, payer = authority, seeds = [seed::LEDGER, seed::REWARDS], bump)]
    pub rewards_ledger: Account<VaultLedger>,
    #[account(init, payer = authority, seeds = [seed::LEDGER, seed::ESCROW], bump)]
    pub escrow_ledger: Account<VaultLedger>,
    #[account(init, payer = authority, seeds = [seed::VAULT, seed::STAKE], bump, token::mint = mint, token::authority = network)]
    pub stake_vault: Account<TokenAccount>,
    #[account(init, payer = authority, seeds = [seed::VAULT, seed::REWARDS], bump, token::mint = mint, token::authority = network)]
    pub rewards_vault: Account<TokenAccount>,
    #[account(init, payer = authority, seeds = [seed::VAULT, seed::ESCROW], bump, token::mint = mint, token::authority = network)]
    pub escrow_vault: Account<TokenAccount>,
    pub token_program: Program<Token>,
    pub system_program: Program<System>,
}

/// Specification
/// 1. The signer is the program's upgrade authority.
/// 2. The mint has six decimals, exists, and cannot freeze unless that was allowed.
/// 3. Parameters are within bounds, the first epoch lies ahead, the vesting parts add up.
/// 4. Write the network, the three ledgers and the empty checker set.
#[inline(never)]
pub fn initialize_network(ctx: &mut Context<InitializeNetwork>, args: &InitializeNetworkArgs) -> Result<()> {
    // 1. Attack: whoever sees the deployment first initialises it with keys of their own.
    require_upgrade_authority(ctx.program_id, ctx.accounts.program_data.account(), ctx.accounts.authority.address())?;

    // 2. Attack: a mint that can freeze the vaults, or one of another precision.
    let mint = &ctx.accounts.mint;
    require!(
        mint.decimals() == MINT_DECIMALS
            && mint.is_initialized()
            && (args.allow_freeze_authority == 1 || mint.freeze_authority().is_none()),
        DatagalaxError::MintRefused
    );

    // 3.
    args.parameters.validate(args.epoch_length)?;
    let now = Clock::get()?.unix_timestamp;
    let vesting = &args.vesting;
    let parts = u64::from(vesting.immediate_bps) + u64::from(vesting.short_bps) + u64::from(vesting.long_bps);
    require!(
        args.first_epoch_start >= now
            && args.first_epoch_start <= now.saturating_add(FURTHEST_START)
            && args.emission <= MAX_AMOUNT
            && args.breaker_limit <= MAX_AMOUNT
            && u64::from(args.decay_bps) <= BPS
            && args.allow_freeze_authority <= 1
            && vesting.id != 0
            && parts == BPS,
        DatagalaxError::ParameterOutOfBounds
    );

    // 4.
    let bumps = &ctx.bumps;
    let grid = Grid { start: args.first_epoch_start, first_epoch: 0, length: args.epoch_length };
    let network = &mut *ctx.accounts.network;
    network.version = VERSION;
    network.bump = bumps.network;
    network.vault_bumps = [bumps.stake_vault, bumps.rewards_vault, bumps.escrow_vault];
    network.freeze_allowed = args.allow_freeze_authority;
    network.authority = *ctx.accounts.authority.address();
    network.guardian = args.guardian;
    network.mint = *ctx.accounts.mint.address();
    network.token_program = *ctx.accounts.token_program.address();
    network.treasury = *ctx.accounts.treasury.address();
    network.genesis_hash = args.genesis_hash;
    network.grids = [grid, grid];
    network.current_epoch = NONE;
    network.previous_epoch = NONE;
    network.emission = Emission {
        amount: args.emission,
        decay_bps: args.decay_bps,
        decay_every: args.decay_every,
        next_decay: args.decay_every,
        reserved: 0,
    };
    network.parameters = args.parameters;
    network.vesting_terms[0] = args.vesting;
    network.invariant()?;

    let limit = args.breaker_limit;
    let stake_vault = *ctx.accounts.stake_vault.address();
    let rewards_vault = *ctx.accounts.rewards_vault.address();
    let escrow_vault = *ctx.accounts.escrow_vault.address();
    open_ledger(&mut ctx.accounts.stake_ledger, bumps.stake_ledger, VaultLedger::STAKE, stake_vault, limit)?;
    open_ledger(&mut ctx.accounts.rewards_ledger, bumps.rewards_ledger, VaultLedger::REWARDS, rewards_vault, limit)?;
    open_ledger(&mut ctx.accounts.escrow_ledger, bumps.escrow_ledger, VaultLedger::ESCROW, escrow_vault, limit)?;

    let checkers = &mut ctx.accounts.checkers;
    checkers.version = VERSION;
    checkers.bump = bumps.checkers;
    checkers.pending_head = NONE;
    checkers.pending_tail = NONE;
    checkers.free_head = NONE;
    checkers.invariant(0)
}

fn open_ledger(ledger: &mut VaultLedger, bump: u8, kind: u8, vault: Address, breaker_limit: u64) -> Result<()> {
    ledger.version = VERSION;
    ledger.bump = bump;
    ledger.kind = kind;
    ledger.vault = vault;
    ledger.breaker_limit = breaker_limit;
    ledger.invariant(0)
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
