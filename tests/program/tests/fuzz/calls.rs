//! Calls as honest callers make them, for whatever there is at a moment. Not all are in time: that is another moment's.

use datagalax::{
    instructions::UpdateContainerArgs,
    state::{Case, Checker, Container, Epoch, GpuClass, Indexer, Keeper, Lease, Provider, Row},
};
use datagalax_program_tests::{
    World,
    accounts::rows,
    actors::{class_args, container_args, fingerprint},
    addresses::{self, Vault},
    instructions::{self, Initialize},
    settings::ATH,
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::cast::{Moment, lease_args, leases, proposal, votes};

/// Every number of an instruction.
pub const NUMBERS: [u8; 60] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25, 26, 27, 30, 31, 32, 33, 34, 35, 40, 41, 42, 43,
    44, 45, 50, 51, 60, 61, 62, 63, 64, 65, 66, 67, 68, 70, 71, 72, 73, 74, 75, 76, 77, 80, 81, 82, 83, 90, 91, 92,
];

/// One or more calls of every instruction.
pub fn calls(moment: &Moment) -> Vec<Instruction> {
    let mut world = moment.world.clone();
    if world.try_account(&addresses::network()).is_none() {
        return vec![Initialize::of(&mut world).instruction()];
    }
    let mut all = vec![Initialize::of(&mut world).instruction()];
    government(&world, moment, &mut all);
    if world.network().providers == 0 {
        // Nobody is there yet.
        let payer = world.payer.pubkey();
        all.extend([instructions::create_block(&payer, world.network().blocks), instructions::grow_block(&payer, 0)]);
        return all;
    }
    providers(&world, moment, &mut all);
    checkers(&world, moment, &mut all);
    epochs(&world, moment, &mut all);
    containers(&world, moment, &mut all);
    leasing(&world, moment, &mut all);
    ends(&world, &mut all);
    all
}

fn government(world: &World, moment: &Moment, all: &mut Vec<Instruction>) {
    let (cast, authority) = (&moment.cast, world.authority.pubkey());
    all.extend([
        instructions::create_class(world, class_args(9, 50)),
        instructions::fund_rewards(world, &cast.user.key.pubkey(), &cast.user.from, ATH),
        instructions::propose(world, proposal(world)),
        instructions::apply_proposal(&world.network().treasury),
        instructions::cancel_proposal(world),
        instructions::propose_authority(world, &cast.keeper),
        instructions::accept_authority(&world.network().pending_authority),
        instructions::pause(&authority),
        instructions::pause(&world.network().guardian),
        instructions::unpause(world),
        instructions::withdraw_treasury(world),
        instructions::sweep_vault(world, Vault::Stake),
        instructions::sweep_vault(world, Vault::Escrow),
    ]);
    for (_, class) in world.all::<GpuClass>() {
        all.push(instructions::update_class(world, class.id, class_args(0, 80).terms));
        all.push(instructions::apply_class(class.id));
    }
}

fn providers(world: &World, moment: &Moment, all: &mut Vec<Instruction>) {
    let (cast, network) = (&moment.cast, world.network());
    let stranger = cast.user.key.pubkey();
    all.push(instructions::register_provider(&stranger, network.providers, &stranger, &stranger));
    for provider in [&cast.provider, &cast.idle] {
        let account = addresses::provider(provider.id);
        if world.try_account(&account).is_none() {
            continue;
        }
        all.extend([
            instructions::stake(world, provider, ATH),
            instructions::request_unstake(provider, ATH),
            instructions::withdraw(world, &account, Vault::Stake, &provider.to),
            instructions::withdraw(world, &account, Vault::Rewards, &provider.to),
            instructions::withdraw(world, &account, Vault::Escrow, &provider.to),
            instructions::rotate_keys(&provider.owner.pubkey(), &account, &stranger, &provider.payout),
            instructions::propose_owner(&provider.owner.pubkey(), &account, &stranger),
            instructions::accept_owner(&world.provider(provider.id).pending_owner, &account),
        ]);
        for block in 0..network.blocks {
            all.push(instructions::claim_rewards(provider, block, &rows([0, 1, 2])));
        }
    }
    let indexer = addresses::indexer(cast.indexer.id);
    let mut next = cast.indexer.clone();
    next.id = network.indexers;
    all.extend([
        instructions::register_indexer(world, &next, "https://next.example"),
        instructions::update_indexer(&cast.indexer, "https://other.example"),
        instructions::leave_indexer(&cast.indexer),
        instructions::withdraw(world, &indexer, Vault::Stake, &cast.indexer.to),
        instructions::withdraw(world, &indexer, Vault::Escrow, &cast.indexer.to),
        instructions::rotate_keys(&cast.indexer.owner.pubkey(), &indexer, &stranger, &stranger),
    ]);
}

fn checkers(world: &World, moment: &Moment, all: &mut Vec<Instruction>) {
    let (cast, network) = (&moment.cast, world.network());
    let stranger = cast.user.key.pubkey();
    all.push(instructions::register_checker(&stranger, network.checkers, &stranger, &stranger, 500));
    let tickets = world.tickets();
    for checker in &cast.checkers[..3] {
        let of_it = |t: &(usize, &datagalax::state::Ticket)| t.1.checker == checker.id;
        let slots: Vec<u32> = tickets.iter().enumerate().filter(of_it).map(|(i, _)| i as u32).collect();
        if slots.is_empty() {
            continue;
        }
        all.extend([
            instructions::register_tickets(world, checker, 2),
            instructions::leave_tickets(checker, &slots[..1]),
            instructions::leave_tickets(checker, &slots),
            instructions::withdraw_tickets(world, checker, &slots[..1]),
            instructions::claim_seat_pay(world, checker, &slots),
            instructions::rotate_keys(&checker.owner.pubkey(), &addresses::checker(checker.id), &stranger, &stranger),
        ]);
    }
    for block in (0..network.blocks).filter(|b| world.is_full(*b)) {
        for epoch in [network.current_epoch, network.current_epoch.wrapping_sub(1)] {
            for at in world.seats(epoch, block) {
                let (Some(report), Some(checker)) = (votes(at), cast.checkers.get(at.checker as usize)) else { continue };
                let operator = checker.operator.pubkey();
                let commitment = report.commitment(at.epoch, at.block, at.seat, at.checker);
                let by = Some(at.checker);
                all.push(instructions::commit_report(&operator, block, by, epoch, at.seat, commitment));
                all.push(world.reveal_of(&cast.checkers, at, &report));
            }
        }
    }
}

fn epochs(world: &World, moment: &Moment, all: &mut Vec<Instruction>) {
    let (network, payer) = (world.network(), world.payer.pubkey());
    let current = network.current_epoch;
    let number = network.epoch_at(world.now()).unwrap_or_default();
    all.push(instructions::advance_epoch(world, &payer, number));
    all.push(instructions::churn(current));
    let mut draw = instructions::draw(current);
    draw.accounts[4].pubkey = addresses::keeper(&moment.cast.keeper);
    draw.accounts[4].is_writable = true;
    all.push(draw);
    all.push(instructions::create_block(&payer, network.blocks));
    for block in 0..network.blocks {
        all.extend([
            instructions::grow_block(&payer, block),
            instructions::seat_block(current, block),
            instructions::tally_block(world, current, block, 256),
        ]);
        if current > 0 {
            all.push(instructions::tally_block(world, current - 1, block, 256));
            all.push(instructions::tally_block(world, current - 1, block, 3));
        }
    }
    all.push(instructions::register_keeper(&payer, &moment.cast.user.key.pubkey()));
    let (_, to) = (payer, world_home(world, &moment.cast.keeper));
    all.push(instructions::withdraw(world, &addresses::keeper(&moment.cast.keeper), Vault::Rewards, &to));
}

fn containers(world: &World, moment: &Moment, all: &mut Vec<Instruction>) {
    let (provider, network, payer) = (&moment.cast.provider, world.network(), world.payer.pubkey());
    for block in (0..network.blocks).filter(|b| world.is_full(*b)) {
        all.push(instructions::register_container(world, provider, 0, block, container_args(fingerprint(77), 2)));
    }
    for (address, container) in world.all::<Container>().into_iter().filter(|(_, c)| c.provider == provider.id) {
        let mark = container.fingerprint;
        let args = UpdateContainerArgs {
            spec_hash: [4; 32],
            price_per_hour: 3 * ATH,
            minimum_lease: 900,
            accepting: 1,
            endpoint: "https://moved.example".into(),
        };
        let day = world.now() + 2 * 86_400;
        all.extend([
            instructions::update_container(provider, &mark, args),
            instructions::announce_maintenance(provider, &mark, day, day + 3_600),
            instructions::rotate_container_operator(provider, &mark, &payer),
            instructions::deregister_container(world, provider, &mark),
            instructions::vacate_row(world, provider.id, &mark),
            instructions::restore_stake(world, provider, &mark),
        ]);
        let row = world.block(container.block).rows[usize::from(container.row)];
        if row.flags & Row::ACCUSED != 0 {
            all.extend([
                instructions::open_case(world, &payer, &address, row.first_condemned),
                instructions::close_case(world, &address, row.first_condemned),
                instructions::release_row(world, &address, row.first_condemned),
            ]);
        }
    }
}

fn leasing(world: &World, moment: &Moment, all: &mut Vec<Instruction>) {
    let (cast, payer) = (&moment.cast, world.payer.pubkey());
    let user = cast.user.key.pubkey();
    let expires = world.now() + 600;
    for (address, _) in world.all::<Container>() {
        all.push(instructions::open_lease(world, &cast.user, &address, None, lease_args(90, 600, 0)));
        let id = Some(cast.indexer.id);
        all.push(instructions::open_lease(world, &cast.user, &address, id, lease_args(91, 600, expires)));
    }
    for (address, lease) in leases(world) {
        let Some(container) = world.try_account(&lease.container) else { continue };
        let container: Container = bytemuck::pod_read_unaligned(&container.data[8..]);
        let operator = container.operator;
        all.extend([
            instructions::start_lease(world, &operator, &address),
            instructions::reject_lease(world, &operator, &address, 5),
            instructions::cancel_lease(world, &address),
            instructions::top_up_lease(world, &cast.user, &address, 600),
            instructions::record_usage(world, &operator, &address, 5, 6, 7),
            instructions::settle_lease(world, &address),
            instructions::close_lease(world, &user, &address, false, 1),
            instructions::close_lease(world, &user, &address, true, 1),
            instructions::close_lease(world, &operator, &address, false, 1),
            instructions::report_breach(world, &payer, &address, 4),
            instructions::withdraw(world, &address, Vault::Escrow, &cast.user.from),
            instructions::withdraw(world, &address, Vault::Stake, &cast.user.from),
        ]);
    }
}

/// `close_account` of everything that can be closed.
fn ends(world: &World, all: &mut Vec<Instruction>) {
    let mut end = |signer: &Pubkey, account: &Pubkey, recipient: &Pubkey| {
        all.push(instructions::close_account(signer, account, recipient));
    };
    for (address, a) in world.all::<Provider>() {
        end(&a.owner, &address, &a.rent_payer);
    }
    for (address, a) in world.all::<Checker>().into_iter().take(2) {
        end(&a.owner, &address, &a.rent_payer);
    }
    for (address, a) in world.all::<Indexer>() {
        end(&a.owner, &address, &a.rent_payer);
    }
    for (address, a) in world.all::<Keeper>() {
        end(&a.wallet, &address, &a.rent_payer);
    }
    for (address, a) in world.all::<Lease>() {
        end(&a.user, &address, &a.user);
    }
    for (address, a) in world.all::<Case>() {
        end(&a.rent_payer, &address, &a.rent_payer);
    }
    for (address, a) in world.all::<Epoch>().into_iter().take(3) {
        end(&a.rent_payer, &address, &a.rent_payer);
    }
}

fn world_home(world: &World, wallet: &Pubkey) -> Pubkey {
    let program = addresses::ASSOCIATED_TOKEN_PROGRAM;
    let seeds = [wallet.as_ref(), world.token_program.as_ref(), world.mint.as_ref()];
    Pubkey::find_program_address(&seeds, &program).0
}
