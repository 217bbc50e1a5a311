//! Conservation law 6: the order of permissionless calls does not change who gets what.

use datagalax::state::{Block, Case, Lease, Ticket};
use datagalax_program_tests::{
    Report, World, accounts,
    addresses::{self, Vault},
    epochs::SeatAt,
    instructions,
    send::compute_budget,
    stage::Stage,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::court::{CONDEMNING, STAKE, WINDOW, address, leased, row, salted};

/// A call that anybody may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Tally(u32, u32),
    Open(Pubkey, u32),
    Close(Pubkey, u32),
    Breach(Pubkey, u32),
}

impl Step {
    fn run(self, world: &mut World) -> Result<(), String> {
        let payer = world.payer.pubkey();
        let instruction = match self {
            Self::Tally(epoch, block) => instructions::tally_block(world, epoch, block, 256),
            Self::Open(container, epoch) => instructions::open_case(world, &payer, &container, epoch),
            Self::Close(container, epoch) => instructions::close_case(world, &container, epoch),
            Self::Breach(lease, epoch) => instructions::report_breach(world, &payer, &lease, epoch),
        };
        world.send(&[compute_budget(1_400_000)[0].clone(), instruction], &[]).map(|_| ()).map_err(|f| f.name)
    }
}

/// All orders of these.
fn orders(steps: &[Step]) -> Vec<Vec<Step>> {
    if steps.is_empty() {
        return vec![vec![]];
    }
    (0..steps.len())
        .flat_map(|i| {
            let mut rest = steps.to_vec();
            let first = rest.remove(i);
            orders(&rest).into_iter().map(move |mut order| {
                order.insert(0, first);
                order
            })
        })
        .collect()
}

/// Makes the calls in this order; one that must wait for another is made again after it.
fn play(world: &World, order: &[Step]) -> World {
    let mut world = world.clone();
    let mut left = order.to_vec();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|step| step.run(&mut world).is_err());
        assert!(left.len() < before, "{left:?} cannot be done at all");
    }
    world.check_books();
    world
}

/// Who has what.
#[derive(Debug, PartialEq)]
struct Shares {
    rows: Vec<(u64, u8, u8, u32)>,
    tickets: Vec<(u64, u32, u8)>,
    stakes: Vec<(u64, u64, u64, u64)>,
    ledgers: Vec<(u64, u64)>,
    cases: Vec<(u8, u64, u64, u64)>,
}

fn shares(world: &World) -> Shares {
    Shares {
        rows: (0..world.network().blocks)
            .flat_map(|b| world.block(b).rows)
            .filter(|r| r.status != 0)
            .map(|r| (r.accrued, r.status, r.flags, r.first_condemned))
            .collect(),
        tickets: world.tickets().iter().map(|t: &Ticket| (t.accrued, t.record.count_ones(), t.status)).collect(),
        stakes: (0..world.network().providers)
            .map(|id| world.provider(id))
            .map(|p| (p.staked, p.locked, p.claimed, p.taken))
            .collect(),
        ledgers: Vault::ALL.map(|v| (world.ledger(v).balance, world.ledger(v).liabilities)).to_vec(),
        cases: world
            .all::<Case>()
            .into_iter()
            .map(|(_, c)| (c.status, c.stake_taken, c.grants_taken, c.accrual_taken))
            .collect(),
    }
}

/// Two blocks of two rows each. In epoch 4 the first rows of both are condemned, in 6 that of block 0 once more.
fn votes(at: SeatAt) -> Option<Report> {
    let condemned = at.epoch == 4 || (at.epoch == 6 && at.block == 0);
    let report = if condemned && at.seat < CONDEMNING { Report::perfect().dishonest(0) } else { Report::perfect() };
    salted(report, at)
}

fn two_blocks() -> Stage {
    let mut stage = Stage::new(15, 2);
    let second = stage.world.grown_block_regardless();
    stage.world.containers(&stage.provider.clone(), 0, second, 2, 2);
    stage.pass_to(4, &votes)
}

#[test]
fn of_tallies_and_openings() {
    let mut stage = two_blocks();
    stage.world.reveal_all(&stage.checkers.clone(), 4, &votes);
    stage.world.advance(5);
    stage.world.set_time(stage.world.start_of(5) + 16);
    let [first, second] = [address(&stage.provider, 0), address(&stage.provider, 2)];
    let steps = [Step::Tally(4, 0), Step::Tally(4, 1), Step::Open(first, 4), Step::Open(second, 4)];
    let expected = play(&stage.world, &steps);
    assert!([0, 1].iter().all(|b| expected.block(*b).rows[0].is_accused()));
    for order in orders(&steps) {
        let world = play(&stage.world, &order);
        // All in one second, so that not even a byte differs.
        assert_eq!(world.fingerprint(), expected.fingerprint(), "{order:?}");
    }
}

#[test]
fn of_tallies_and_closings() {
    let mut stage = two_blocks();
    stage.pass(5, &votes);
    let [guilty, innocent] = [address(&stage.provider, 0), address(&stage.provider, 2)];
    for container in [guilty, innocent] {
        Step::Open(container, 4).run(&mut stage.world).expect("accused");
    }
    let last = 4 + WINDOW;
    for epoch in 6..=last {
        stage.pass(epoch, &votes);
    }
    // The tallies of the window are done; that of the epoch after it may come before or after the closing.
    stage.world.reveal_all(&stage.checkers.clone(), last, &votes);
    stage.world.advance(last + 1);
    stage.world.set_time(stage.world.start_of(last + 1) + 16);
    let steps = [Step::Tally(last, 0), Step::Tally(last, 1), Step::Close(guilty, 4), Step::Close(innocent, 4)];
    let expected = shares(&play(&stage.world, &steps[..]));
    let mut statuses: Vec<u8> = expected.cases.iter().map(|c| c.0).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [Case::UPHELD, Case::REJECTED]);
    for order in orders(&steps) {
        let mut now = shares(&play(&stage.world, &order));
        // What the guilty row accrued in the epoch after the window is lost to its owner either way: taken, or never earned. The
        // case says so, and the vault promises it to nobody.
        let case = now.cases.iter_mut().find(|c| c.0 == Case::UPHELD).expect("one is upheld");
        let taken = expected.cases.iter().find(|c| c.0 == Case::UPHELD).expect("one is upheld").3;
        if order.iter().position(|s| *s == Step::Close(guilty, 4)) < order.iter().position(|s| *s == Step::Tally(last, 0)) {
            let unearned = taken - case.3;
            case.3 += unearned;
            // Reserved until the epoch is released, instead of credited and taken.
            now.ledgers[1].1 -= unearned;
        }
        assert_eq!(now, expected, "{order:?}");
    }
}

/// Both take of one stake: together the same, whichever comes first, and the user of an accused host nothing either way.
#[test]
fn of_a_breach_and_the_end_of_a_case() {
    let votes = |at: SeatAt| {
        let report = match at.epoch {
            4 | 6 if at.seat < CONDEMNING => Report::perfect().dishonest(0),
            11 | 12 => Report::perfect().row(0, 0, 100, 9),
            _ => Report::perfect(),
        };
        salted(report, at)
    };
    let mut stage = Stage::new(15, 2).pass_to(3, &votes);
    let (_, lease) = leased(&mut stage, 0);
    for epoch in 4..=13 {
        stage.pass(epoch, &votes);
    }
    let claim = instructions::claim_rewards(&stage.provider, 0, &accounts::rows([1]));
    stage.world.must(&[claim], &[&stage.provider.operator]);
    let guilty = address(&stage.provider, 0);
    Step::Open(guilty, 4).run(&mut stage.world).expect("accused");
    let before = stage.world.provider(0);
    let steps = [Step::Close(guilty, 4), Step::Breach(lease, 11)];
    let both = orders(&steps).into_iter().map(|order| {
        let world = play(&stage.world, &order);
        let (shares, cases) = (shares(&world), world.all::<Case>());
        let sum = |of: fn(&Case) -> u64| cases.iter().map(|(_, c)| of(c)).sum::<u64>();
        assert_eq!((sum(|c| c.stake_taken), sum(|c| c.grants_taken)), (STAKE, STAKE / 3), "{order:?}");
        assert_eq!(sum(|c| c.accrual_taken), row(&stage.world, 0).accrued);
        assert_eq!(world.read::<Lease>(&lease).compensation, 0);
        assert_eq!(before.staked - world.provider(0).staked, STAKE);
        (shares.rows, shares.tickets, shares.stakes, shares.ledgers)
    });
    let both: Vec<_> = both.collect();
    assert_eq!(both[0], both[1]);
}

#[test]
fn of_the_parts_of_a_tally() {
    let mut stage = two_blocks();
    stage.world.reveal_all(&stage.checkers.clone(), 4, &votes);
    stage.world.advance(5);
    stage.world.set_time(stage.world.start_of(5) + 16);
    let whole = play(&stage.world, &[Step::Tally(4, 0), Step::Tally(4, 1)]);
    // Opened between two parts of the tally that condemns: the lane is the same.
    let mut parts = stage.world.clone();
    let part = |world: &World, block, rows| instructions::tally_block(world, 4, block, rows);
    let first = part(&parts, 0, 1);
    parts.run(first);
    Step::Open(address(&stage.provider, 0), 4).run(&mut parts).expect("its row is judged");
    for (block, rows) in [(1, 2), (0, 1), (1, 254), (0, 200), (0, 54)] {
        let next = part(&parts, block, rows);
        parts.must(&[compute_budget(1_400_000)[0].clone(), next], &[]);
    }
    let mut later = whole;
    Step::Open(address(&stage.provider, 0), 4).run(&mut later).expect("its row is judged");
    assert_eq!(parts.fingerprint(), later.fingerprint());
    let block: Box<Block> = parts.block(0);
    assert_eq!((block.last_tallied, parts.try_account(&addresses::epoch(5)).is_some()), (4, true));
}
