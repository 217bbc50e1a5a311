//! What the modules share: committees that accuse, leases that run, and a look at rows and tickets.

use datagalax::{
    instructions::OpenLeaseArgs,
    state::{Container, Row, Ticket},
};
use datagalax_program_tests::{
    Provider, Report, User, World,
    accounts::TICKETS_OFFSET,
    actors::fingerprint,
    addresses,
    epochs::{SeatAt, Votes},
    instructions,
    settings::ATH,
    stage::Stage,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// Base units that rows earn together in an epoch: the containers' share of the emission.
pub const FULL: u64 = 750 * ATH;
/// Stake that a container locks.
pub const STAKE: u64 = 10 * ATH;
/// Price of a ticket.
pub const PRICE: u64 = 100 * ATH;
/// Votes of a full committee that condemn, and that make a breach.
pub const CONDEMNING: u8 = 4;
/// Epochs of a case's window with the default settings: 480 s of 60 s.
pub const WINDOW: u32 = 8;

/// A report, salted for its seat.
pub fn salted(report: Report, at: SeatAt) -> Option<Report> {
    Some(report.salted(at.epoch, at.block, at.seat))
}

/// In these epochs, the first `seats` seats call these rows of block 0 dishonest; else everything is perfect.
pub fn accusing<'a>(epochs: &'a [u32], rows: &'a [usize], seats: u8) -> impl Fn(SeatAt) -> Option<Report> + 'a {
    move |at| {
        let mut report = Report::perfect();
        if epochs.contains(&at.epoch) && at.seat < seats && at.block == 0 {
            for row in rows {
                report = report.dishonest(*row);
            }
        }
        salted(report, at)
    }
}

/// In these epochs, the first `seats` seats measure this availability of row 0; else everything is perfect.
pub fn measuring<'a>(epochs: &'a [u32], availability: u8, seats: u8) -> impl Fn(SeatAt) -> Option<Report> + 'a {
    move |at| {
        let mut report = Report::perfect();
        if epochs.contains(&at.epoch) && at.seat < seats {
            report = report.row(0, availability, 100, 9);
        }
        salted(report, at)
    }
}

/// Passes the epochs that follow, up to and with this one.
#[track_caller]
pub fn pass_to(stage: &mut Stage, epoch: u32, votes: Votes) {
    for number in stage.world.network().current_epoch + 1..=epoch {
        stage.pass(number, votes);
    }
}

/// A row of block 0.
pub fn row(world: &World, index: usize) -> Row {
    world.block(0).rows[index]
}

/// Address of the container with this number.
pub fn address(provider: &Provider, number: u32) -> Pubkey {
    addresses::container(provider.id, &fingerprint(number))
}

/// The container with this number.
pub fn container(stage: &Stage, number: u32) -> Container {
    stage.world.container(stage.provider.id, &fingerprint(number))
}

/// Changes a ticket behind the program's back.
pub fn patch_ticket(world: &mut World, slot: u32, change: impl FnOnce(&mut Ticket)) {
    let size = size_of::<Ticket>();
    let from = TICKETS_OFFSET + slot as usize * size;
    world.patch(&addresses::checker_set(), |data| {
        let mut ticket: Ticket = bytemuck::pod_read_unaligned(&data[from..from + size]);
        change(&mut ticket);
        data[from..from + size].copy_from_slice(bytemuck::bytes_of(&ticket));
    });
}

/// Opens and starts a lease of 600 seconds of the container with this number, at its price.
#[track_caller]
pub fn leased(stage: &mut Stage, number: u32) -> (User, Pubkey) {
    let user = stage.world.user();
    let lease = open(stage, &user, number, 1);
    start(stage, number, &lease);
    (user, lease)
}

/// Opens a lease of 600 seconds.
#[track_caller]
pub fn open(stage: &mut Stage, user: &User, number: u32, nonce: u64) -> Pubkey {
    let args = OpenLeaseArgs { nonce, seconds: 600, max_price_per_hour: 1 << 50, workload_hash: [3; 32], match_expires: 0 };
    let container = address(&stage.provider, number);
    let instruction = instructions::open_lease(&stage.world, user, &container, None, args);
    stage.world.must(&[instruction], &[&user.key]);
    addresses::lease(&user.key.pubkey(), nonce)
}

/// Starts a lease.
#[track_caller]
pub fn start(stage: &mut Stage, number: u32, lease: &Pubkey) {
    let operator = stage.world.container_operator(&fingerprint(number));
    let instruction = instructions::start_lease(&stage.world, &operator.pubkey(), lease);
    stage.world.must(&[instruction], &[&operator]);
}
