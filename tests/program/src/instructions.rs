//! One builder an instruction, with the accounts it should have. Refusals are tested by changing what these return.

use anchor_lang::{InstructionData, ToAccountMetas};
use datagalax::{
    accounts, instruction,
    instructions::{CreateClassArgs, InitializeNetworkArgs, RegisterContainerArgs},
    report::REPORT_LEN,
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{
    Checker, Provider, World,
    addresses::{self, SLOT_HASHES, SYSTEM_PROGRAM, TOKEN_PROGRAM, Vault},
};

fn build(accounts: impl ToAccountMetas, data: impl InstructionData) -> Instruction {
    Instruction { program_id: datagalax::ID, accounts: accounts.to_account_metas(None), data: data.data() }
}

/// `initialize_network`, whose parts tests change.
pub struct Initialize {
    /// Signs and pays.
    pub authority: Pubkey,
    /// The program's data account.
    pub program_data: Pubkey,
    /// The mint.
    pub mint: Pubkey,
    /// The treasury's token account.
    pub treasury: Pubkey,
    /// The arguments.
    pub args: InitializeNetworkArgs,
}

impl Initialize {
    /// The one that should succeed in a bare world.
    pub fn of(world: &mut World) -> Self {
        let (mint, authority) = (world.mint, world.authority.pubkey());
        let treasury = world.put_token_account(&mint, &authority, 0, "treasury");
        let guardian = crate::world::address_of(&[b"guardian"]);
        Self {
            authority,
            program_data: addresses::program_data(),
            mint: world.mint,
            treasury,
            args: world.settings.arguments(guardian, world.now()),
        }
    }

    /// As an instruction.
    pub fn instruction(&self) -> Instruction {
        build(
            accounts::InitializeNetwork {
                authority: self.authority,
                program_data: self.program_data,
                network: addresses::network(),
                mint: self.mint,
                treasury: self.treasury,
                checkers: addresses::checker_set(),
                stake_ledger: addresses::ledger(Vault::Stake),
                rewards_ledger: addresses::ledger(Vault::Rewards),
                escrow_ledger: addresses::ledger(Vault::Escrow),
                stake_vault: addresses::vault(Vault::Stake),
                rewards_vault: addresses::vault(Vault::Rewards),
                escrow_vault: addresses::vault(Vault::Escrow),
                token_program: TOKEN_PROGRAM,
                system_program: SYSTEM_PROGRAM,
            },
            instruction::InitializeNetwork { args: self.args },
        )
    }
}

/// `create_class` by the authority.
pub fn create_class(world: &World, args: CreateClassArgs) -> Instruction {
    build(
        accounts::CreateClass {
            authority: world.authority.pubkey(),
            network: addresses::network(),
            class: addresses::class(args.id),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::CreateClass { args },
    )
}

/// `fund_rewards` from a token account.
pub fn fund_rewards(world: &World, funder: &Pubkey, from: &Pubkey, amount: u64) -> Instruction {
    build(
        accounts::FundRewards {
            funder: *funder,
            network: addresses::network(),
            mint: world.mint,
            from: *from,
            ledger: addresses::ledger(Vault::Rewards),
            vault: addresses::vault(Vault::Rewards),
            token_program: TOKEN_PROGRAM,
        },
        instruction::FundRewards { amount },
    )
}

/// `register_provider` under an id.
pub fn register_provider(owner: &Pubkey, id: u32, operator: &Pubkey, payout: &Pubkey) -> Instruction {
    build(
        accounts::RegisterProvider {
            owner: *owner,
            network: addresses::network(),
            provider: addresses::provider(id),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::RegisterProvider { operator: *operator, payout: *payout },
    )
}

/// `stake` for a provider.
pub fn stake(world: &World, provider: &Provider, amount: u64) -> Instruction {
    build(
        accounts::Stake {
            owner: provider.owner.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            mint: world.mint,
            from: provider.from,
            ledger: addresses::ledger(Vault::Stake),
            vault: addresses::vault(Vault::Stake),
            token_program: TOKEN_PROGRAM,
        },
        instruction::Stake { amount },
    )
}

/// `create_block`.
pub fn create_block(payer: &Pubkey, index: u32) -> Instruction {
    build(
        accounts::CreateBlock {
            payer: *payer,
            network: addresses::network(),
            block: addresses::block(index),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::CreateBlock {},
    )
}

/// `grow_block`.
pub fn grow_block(payer: &Pubkey, index: u32) -> Instruction {
    build(
        accounts::GrowBlock {
            payer: *payer,
            network: addresses::network(),
            block: addresses::block(index),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::GrowBlock {},
    )
}

/// `register_container` into a block, in the epoch last advanced to.
pub fn register_container(
    world: &World,
    provider: &Provider,
    class: u16,
    block: u32,
    args: RegisterContainerArgs,
) -> Instruction {
    build(
        accounts::RegisterContainer {
            owner: provider.owner.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            class: addresses::class(class),
            block: addresses::block(block),
            creator: world.creator_of(block),
            container: addresses::container(provider.id, &args.fingerprint),
            epoch: addresses::epoch(world.network().current_epoch),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::RegisterContainer { args },
    )
}

/// `register_checker` under an id.
pub fn register_checker(owner: &Pubkey, id: u32, operator: &Pubkey, payout: &Pubkey, commission_bps: u16) -> Instruction {
    build(
        accounts::RegisterChecker {
            owner: *owner,
            network: addresses::network(),
            checker: addresses::checker(id),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::RegisterChecker { operator: *operator, payout: *payout, commission_bps },
    )
}

/// `register_tickets` for a checker.
pub fn register_tickets(world: &World, checker: &Checker, count: u16) -> Instruction {
    build(
        accounts::RegisterTickets {
            owner: checker.owner.pubkey(),
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            mint: world.mint,
            from: checker.from,
            ledger: addresses::ledger(Vault::Stake),
            vault: addresses::vault(Vault::Stake),
            token_program: TOKEN_PROGRAM,
            system_program: SYSTEM_PROGRAM,
        },
        instruction::RegisterTickets { count },
    )
}

/// `commit_report`; the first commit of a seat names its checker.
pub fn commit_report(
    operator: &Pubkey,
    block: u32,
    checker: Option<u32>,
    epoch: u32,
    seat: u8,
    commitment: [u8; 32],
) -> Instruction {
    build(
        accounts::CommitReport {
            operator: *operator,
            network: addresses::network(),
            block: addresses::block(block),
            checker: checker.map(addresses::checker),
        },
        instruction::CommitReport { epoch, seat, commitment },
    )
}

/// `reveal_report`.
pub fn reveal_report(
    operator: &Pubkey,
    block: u32,
    epoch: u32,
    seat: u8,
    salt: &[u8; 32],
    evidence_root: &[u8; 32],
    values: &[u8; REPORT_LEN],
) -> Instruction {
    build(
        accounts::RevealReport { operator: *operator, network: addresses::network(), block: addresses::block(block) },
        instruction::RevealReport { epoch, seat, salt, evidence_root, values },
    )
}

/// `advance_epoch` from the epochs that the network names.
pub fn advance_epoch(world: &World, payer: &Pubkey, number: u32) -> Instruction {
    let network = world.network();
    let named = |number: u32| (number != u32::MAX).then(|| addresses::epoch(number));
    build(
        accounts::AdvanceEpoch {
            payer: *payer,
            network: addresses::network(),
            rewards_ledger: addresses::ledger(Vault::Rewards),
            epoch: addresses::epoch(number),
            current: named(network.current_epoch),
            previous: named(network.previous_epoch),
            checkers: addresses::checker_set(),
            system_program: SYSTEM_PROGRAM,
        },
        instruction::AdvanceEpoch { number },
    )
}

/// `churn`.
pub fn churn(epoch: u32) -> Instruction {
    build(
        accounts::Churn {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
        },
        instruction::Churn {},
    )
}

/// `draw`.
pub fn draw(epoch: u32) -> Instruction {
    build(
        accounts::Draw {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
            slot_hashes: SLOT_HASHES,
        },
        instruction::Draw {},
    )
}

/// `seat_block`.
pub fn seat_block(epoch: u32, block: u32) -> Instruction {
    build(
        accounts::SeatBlock {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            checkers: addresses::checker_set(),
            block: addresses::block(block),
        },
        instruction::SeatBlock {},
    )
}

/// `tally_block`, naming the current epoch when it is another one.
pub fn tally_block(world: &World, epoch: u32, block: u32, max_rows: u16) -> Instruction {
    let current = world.network().current_epoch;
    build(
        accounts::TallyBlock {
            network: addresses::network(),
            epoch: addresses::epoch(epoch),
            current: (current != epoch).then(|| addresses::epoch(current)),
            checkers: addresses::checker_set(),
            block: addresses::block(block),
        },
        instruction::TallyBlock { max_rows },
    )
}

/// `claim_rewards` of named rows by the provider's operator.
pub fn claim_rewards(world: &World, provider: &Provider, block: u32, rows: &[u8; 32]) -> Instruction {
    build(
        accounts::ClaimRewards {
            operator: provider.operator.pubkey(),
            network: addresses::network(),
            provider: addresses::provider(provider.id),
            block: addresses::block(block),
            mint: world.mint,
            ledger: addresses::ledger(Vault::Rewards),
            vault: addresses::vault(Vault::Rewards),
            to: provider.to,
            token_program: TOKEN_PROGRAM,
        },
        instruction::ClaimRewards { rows },
    )
}

/// `claim_seat_pay` of tickets in these slots.
pub fn claim_seat_pay(world: &World, checker: &Checker, slots: &[u32]) -> Instruction {
    let slots: Vec<u8> = slots.iter().flat_map(|s| s.to_le_bytes()).collect();
    build(
        accounts::ClaimSeatPay {
            network: addresses::network(),
            checker: addresses::checker(checker.id),
            checkers: addresses::checker_set(),
            mint: world.mint,
            ledger: addresses::ledger(Vault::Rewards),
            vault: addresses::vault(Vault::Rewards),
            to: checker.to,
            operator_account: (checker.commission_bps > 0).then_some(checker.operator_account),
            token_program: TOKEN_PROGRAM,
        },
        instruction::ClaimSeatPay { slots: &slots },
    )
}
