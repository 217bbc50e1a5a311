//! The tally's arithmetic once more, written from the protocol's text in the plainest way (lists, sorting, wide integers), and
//! compared with the program's over random blocks.

use std::cell::Cell;

use bytemuck::Zeroable;
use datagalax::{
    committee::seats_for,
    constants::{NONE, ROWS, SEATS, VOID},
    math::Rate,
    report::Vote,
    state::{Block, Epoch, Parameters, Row, Thresholds},
    tally::{self, Outcome, Rules},
};
use datagalax_program_tests::settings::parameters;
use proptest::{prelude::*, test_runner::TestRunner};

/// What a tally of one row leads to.
struct Verdict {
    row: Row,
    credited: i128,
    went_live: bool,
    fell_back: bool,
    /// Three leases were missed in a row, some time before.
    missed: bool,
    /// Whether it judges the seats, and who is right then.
    judges: bool,
    right: [bool; SEATS],
    /// What a lease, a lack of stake or a case came to.
    unusual: Unusual,
}

/// The rare parts of a verdict.
#[derive(Clone, Copy, Debug, Default)]
struct Unusual {
    /// A lease's fees bounded the pay.
    capped: bool,
    /// A leased row's last full measurement was too old.
    stale: bool,
    /// A lack of stake took the pay.
    halted: bool,
    /// The first verdict of a case.
    accused: bool,
    /// One more in its window.
    condemned: bool,
    /// That one because the row hid.
    hid: bool,
    /// A clean one in its window.
    cleared: bool,
    /// One that came after the window.
    late: bool,
}

/// A lease of a row that started and has ended, or will: the epochs it touches and what it pays in fees in each.
#[derive(Clone, Copy, Debug)]
struct Leased {
    from: u32,
    until: u32,
    /// Fees of the first epoch, which it need not cover.
    head: u64,
    /// Fees of a whole epoch.
    cap: u64,
    /// Part of the last epoch that it covers, bps.
    tail: u16,
}

impl Leased {
    /// Fees in an epoch, `None` where it does not touch it.
    fn fees(&self, epoch: u32) -> Option<u64> {
        let last = u64::try_from(u128::from(self.cap) * u128::from(self.tail) / 10_000).expect("64 bits");
        (self.from <= epoch && epoch <= self.until).then(|| {
            let first = if epoch == self.from { self.head } else { self.cap };
            if epoch == self.until { first.min(last) } else { first }
        })
    }
}

fn median(mut values: Vec<u8>) -> u8 {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

/// The setting of one tally.
#[derive(Clone, Copy, Debug)]
struct Setting {
    epoch: u32,
    skipped_from: u32,
    rate: Rate,
    seats: u8,
    parameters: Parameters,
    case_epochs: u32,
    capacity_epochs: u32,
}

fn judge(before: &Row, leases: &[Leased], votes: &[Option<Vote>; SEATS], setting: &Setting) -> Verdict {
    let p = &setting.parameters;
    let mut row = *before;
    let mut verdict = Verdict {
        row,
        credited: 0,
        went_live: false,
        fell_back: false,
        missed: false,
        judges: false,
        right: [false; SEATS],
        unusual: Unusual::default(),
    };
    if row.status == Row::FREE {
        return verdict;
    }
    for skipped in setting.skipped_from..setting.epoch {
        row.history[(skipped % 32) as usize] = VOID;
    }
    let here = (setting.epoch % 32) as usize;
    let present = setting.epoch >= row.live_from && setting.epoch < row.until;
    let heard: Vec<Vote> = votes.iter().flatten().copied().collect();
    let needed = usize::from(setting.seats) / 2 + 1;
    let two_thirds = (2 * usize::from(setting.seats)).div_ceil(3);
    if (row.status == Row::CHECKING && !present) || heard.len() < needed {
        row.history[here] = VOID;
        verdict.row = row;
        return verdict;
    }
    let availability = median(heard.iter().map(|v| v.availability).collect());
    let capacity = median(heard.iter().map(|v| v.capacity).collect());
    let accusers = heard.iter().filter(|v| v.dishonest).count();
    let condemned = accusers >= two_thirds;
    let contested = accusers > 0 && !condemned;
    let low = heard.iter().filter(|v| v.availability < p.breach_threshold).count();
    row.history[here] = availability + if low >= two_thirds { 128 } else { 0 };

    // A case counts the verdicts of its window; the first one opens it.
    let seen = &mut verdict.unusual;
    if row.flags & Row::ACCUSED == 0 {
        if condemned {
            seen.accused = true;
            row.flags |= Row::ACCUSED;
            (row.first_condemned, row.case_until) = (setting.epoch, setting.epoch + setting.case_epochs - 1);
            (row.condemned, row.clean) = (1, 0);
        }
    } else if setting.epoch > row.case_until {
        seen.late = true;
    } else {
        seen.hid = !condemned && row.condemned >= 2 && availability < p.availability_threshold;
        if condemned || seen.hid {
            seen.condemned = true;
            (row.condemned, row.clean) = ((u16::from(row.condemned) + 1).min(255) as u8, 0);
        } else {
            seen.cleared = true;
            row.clean = (u16::from(row.clean) + 1).min(255) as u8;
        }
    }

    // A tenant has the GPUs: the last measurement without one counts, and the least of what the leases pay bounds the pay.
    let mut bound = leases.iter().filter_map(|l| l.fees(setting.epoch)).min();
    let mut power = capacity;
    if bound.is_some() {
        power = row.full_capacity;
        if row.full_capacity_epoch == NONE || setting.epoch - row.full_capacity_epoch > setting.capacity_epochs {
            (bound, seen.stale) = (Some(0), true);
        }
    } else {
        (row.full_capacity, row.full_capacity_epoch) = (capacity, setting.epoch);
    }
    if leases.last().is_some_and(|l| l.until <= setting.epoch) {
        row.flags &= !Row::LEASED;
    }
    if row.flags & Row::HALTED != 0 && u32::from(row.halted_after) < setting.epoch {
        (bound, seen.halted) = (Some(0), true);
        row.halted_after = (setting.epoch - 1) as u16;
    }

    // The token that at least M seats share, if there is one; two cannot, M being more than half.
    let share = |token: u8| heard.iter().filter(|v| v.token == token).count();
    let agreed = heard.iter().map(|v| v.token).find(|t| share(*t) >= needed).filter(|t| *t != 0 || p.tokens_required == 0);
    if let Some(token) = agreed
        && present
        && row.status != Row::CHECKING
    {
        verdict.judges = true;
        for (right, vote) in verdict.right.iter_mut().zip(votes) {
            *right = vote.is_some_and(|v| {
                let distance = |a: u8, b: u8| (i16::from(a) - i16::from(b)).unsigned_abs();
                distance(v.availability, availability) <= u16::from(p.tolerance)
                    && distance(v.capacity, capacity) <= u16::from(p.tolerance)
                    && v.token == token
                    && (contested || v.dishonest == condemned)
            });
        }
    }

    let good = availability >= p.availability_threshold && power >= p.capacity_threshold && !condemned;
    row.bad_epochs = (row.bad_epochs << 1) | u16::from(!good);
    if row.status == Row::CHECKING {
        let cleared = row.flags & Row::PROBATION == 0 || row.bad_epochs.trailing_zeros() >= 4;
        if good && agreed.is_some() && cleared {
            (row.status, row.live_from, row.bad_epochs) = (Row::LIVE, setting.epoch + 2, 0);
            row.flags &= !Row::PROBATION;
            verdict.went_live = true;
        }
    } else if present {
        row.epochs_live += 1;
        row.availability_sum += u32::from(availability);
        if good {
            let weight = i128::from(row.unit_weight) * i128::from(row.gpus) * i128::from(availability) * i128::from(power);
            let rate = (i128::from(setting.rate.hi) << 64) + i128::from(setting.rate.lo);
            verdict.credited = (weight * rate) >> 64;
            if let Some(bound) = bound {
                let most = i128::from(bound) * i128::from(availability) / 100;
                verdict.unusual.capped = most > 0 && most < verdict.credited;
                verdict.credited = verdict.credited.min(most);
            }
            row.accrued += u64::try_from(verdict.credited).expect("64 bits");
        }
        let bad = (0..16).filter(|bit| row.bad_epochs >> bit & 1 == 1).count();
        if row.status == Row::LIVE && row.flags & Row::FALLING == 0 && bad >= 4 {
            (row.status, verdict.fell_back) = (Row::CHECKING, true);
            row.flags |= Row::PROBATION;
        }
    }
    // Three missed leases: it earned up to the epoch before `until`, and nominal lost it when they were missed.
    if row.flags & Row::FALLING != 0 && setting.epoch + 1 >= row.until {
        (row.status, row.until, row.bad_epochs, verdict.missed) = (Row::CHECKING, NONE, u16::MAX, true);
        row.flags = row.flags & !Row::FALLING | Row::PROBATION;
    }
    verdict.row = row;
    verdict
}

/// Availabilities, capacities and tokens of five seats on one row.
type Ballot = ([u8; SEATS], [u8; SEATS], [u8; SEATS]);

/// Votes near a common value, as honest checkers give them, with strays of every kind.
fn votes() -> impl Strategy<Value = Ballot> {
    let near = |centre: u8| {
        prop_oneof![
            8 => centre.saturating_sub(6)..=(centre + 6).min(100),
            1 => 0u8..=100,
            1 => prop::sample::select(vec![100u8, 101, 127, 0]),
        ]
    };
    let accused = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    (prop_oneof![2 => Just(95u8), 1 => 0u8..=94], 40u8..=94, accused, any::<[bool; SEATS]>()).prop_flat_map(
        move |(a, c, accused, strays)| {
            let tokens = prop_oneof![4 => Just(7u8), 1 => Just(0u8), 1 => prop::sample::select(vec![1u8, 254, 255])];
            let availability: [_; SEATS] = std::array::from_fn(|_| near(a));
            let capacity: [_; SEATS] = std::array::from_fn(|_| near(c));
            let token: [_; SEATS] = std::array::from_fn(|_| tokens.clone());
            (availability, capacity, token, Just((accused, strays))).prop_map(|(mut a, c, t, (accused, strays))| {
                for (seat, value) in a.iter_mut().enumerate() {
                    if accused >> seat & 1 == 1 {
                        *value |= 0x80;
                    }
                    if strays.iter().all(|s| *s) {
                        *value = 255 - *value / 2;
                    }
                }
                (a, c, t)
            })
        },
    )
}

/// A row and the leases it has had.
#[derive(Clone, Debug)]
struct Let {
    row: Row,
    leases: Vec<Leased>,
}

/// A row that leases, a lack of stake and a case may have touched, in any mixture, up to the moment of the tally.
fn let_row(epoch: u32) -> impl Strategy<Value = Let> {
    let parts = (0u64..=100, prop_oneof![Just(10_000u16), 0u16..=10_000]);
    let lease = (0u32..4, 0u32..4, 0u32..4, prop_oneof![1u64..1 << 20, 1u64..1 << 45], parts);
    let leases = prop_oneof![1 => Just(vec![]), 1 => prop::collection::vec(lease, 1..4)];
    let measured = prop_oneof![6 => (0u32..16).prop_map(Some), 1 => Just(None)];
    let case = prop_oneof![1 => Just(None), 1 => (1u32..12, 1u32..14, prop_oneof![1u8..5, 250u8..=255], any::<u8>()).prop_map(Some)];
    let halted = prop::option::weighted(0.15, epoch.saturating_sub(2)..=epoch);
    let flags = (halted, any::<bool>(), prop::bool::weighted(0.2));
    (row(epoch), leases, 0u32..8, (measured, 30u8..=100), case, flags).prop_map(
        move |(mut row, planned, back, (measured, capacity), case, (halted, forgotten, falling))| {
            let (mut leases, mut start): (Vec<Leased>, u32) = (vec![], epoch.saturating_sub(back));
            if row.status == Row::FREE {
                return Let { row, leases };
            }
            for (wait, length, early, cap, (covered, tail)) in planned {
                start += wait;
                // The epoch after is the last that a lease can start in while this one is tallied.
                if start > epoch + 1 {
                    break;
                }
                let (head, until) = (cap * covered / 100, start + length);
                row.note_lease(start, head, cap);
                row.end_lease(until + early, 10_000);
                // It ends early, and the next one may start in the same epoch.
                row.end_lease(until, tail);
                leases.push(Leased { from: start, until, head, cap, tail });
                start += length;
            }
            if forgotten && leases.last().is_some_and(|l| l.until < epoch) {
                // The tally of the epoch before has seen that it is over.
                row.flags &= !Row::LEASED;
            }
            if let Some(age) = measured.filter(|age| *age <= epoch) {
                (row.full_capacity, row.full_capacity_epoch) = (capacity, epoch - age);
            }
            if let Some(since) = halted {
                row.halt(since);
            }
            if falling && row.status == Row::LIVE {
                (row.flags, row.until) = (row.flags | Row::FALLING, epoch + u32::from(row.gpus % 3));
            }
            if let Some((age, window, condemned, clean)) = case.filter(|(age, ..)| *age <= epoch) {
                row.accuse(epoch - age, window);
                (row.condemned, row.clean) = (condemned, clean);
            }
            Let { row, leases }
        },
    )
}

fn row(epoch: u32) -> impl Strategy<Value = Row> {
    let status = prop::sample::select(vec![Row::FREE, Row::CHECKING, Row::CHECKING, Row::LIVE, Row::LIVE, Row::LEAVING]);
    let live_from = prop_oneof![6 => 0..=epoch, 1 => epoch..=epoch + 3];
    let until = prop_oneof![6 => Just(NONE), 1 => epoch.saturating_sub(1)..=epoch + 1];
    let bad = prop_oneof![Just(0u16), Just(0b111), any::<u16>(), (0u32..16).prop_map(|b| 1 << b)];
    (status, live_from, until, bad, any::<(u16, u8, bool, u32)>(), 0u64..1 << 50).prop_map(
        |(status, live_from, until, bad_epochs, (unit_weight, gpus, probation, provider), accrued)| {
            let row = Row::checking(provider, 1, unit_weight, gpus, live_from);
            let flags = if probation && status == Row::CHECKING { Row::PROBATION } else { 0 };
            Row { status, until, bad_epochs, accrued, flags, history: [9; 32], ..row }
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    let rate = (0u64..1 << 10, any::<u64>()).prop_map(|(hi, lo)| Rate { hi, lo });
    let thresholds = (0u8..=100, 0u8..=100, 0u8..=100, 0u8..=20, 0u8..=1);
    let lengths = (1u32..100, 0u32..30);
    (2u32..2_000, 0u32..40, rate, 1u32..=7, thresholds, lengths).prop_map(|(epoch, skipped, rate, tickets, t, lengths)| {
        Setting {
            epoch,
            skipped_from: epoch - skipped.min(epoch).min(31),
            rate,
            seats: seats_for(tickets),
            parameters: Parameters {
                availability_threshold: t.0.max(60),
                capacity_threshold: t.1 / 2,
                breach_threshold: t.2,
                tolerance: t.3,
                tokens_required: t.4,
                ..parameters()
            },
            case_epochs: lengths.0,
            capacity_epochs: lengths.1,
        }
    })
}

/// How often each outcome came up.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    live: u32,
    fell_back: u32,
    missed: u32,
    paid: u32,
    void: u32,
    right: u32,
    wrong: u32,
    capped: u32,
    stale: u32,
    halted: u32,
    accused: u32,
    condemned: u32,
    hid: u32,
    cleared: u32,
    late: u32,
}

/// A block of random rows with random reports, the program's judgement of it in parts, and the model's row by row.
fn compare(setting: &Setting, rows: &[Let], ballots: &[Ballot], revealed: u8, part: u16, mut seen: Seen) -> Seen {
    let mut block: Box<Block> = Box::new(Block::zeroed());
    let mut votes = [[None; SEATS]; ROWS];
    block.rows.iter_mut().zip(rows).for_each(|(place, given)| *place = given.row);
    block.live = rows.iter().filter(|r| r.row.status == Row::LIVE).count() as u16;
    let lane = &mut block.lanes[(setting.epoch & 1) as usize];
    tally::open_lane(lane, setting.epoch, setting.seats);
    for (seat, report) in lane.committee.iter_mut().enumerate().take(usize::from(setting.seats)) {
        report.slot = seat as u32;
        report.revealed = revealed >> seat & 1;
        for (r, ballot) in ballots.iter().enumerate() {
            (report.availability[r], report.capacity[r], report.token[r]) = (ballot.0[seat], ballot.1[seat], ballot.2[seat]);
            if report.revealed == 1 {
                let percent = ballot.0[seat] % 128;
                votes[r][seat] = (percent <= 100 && ballot.1[seat] <= 100).then_some(Vote {
                    availability: percent,
                    capacity: ballot.1[seat],
                    token: ballot.2[seat],
                    dishonest: ballot.0[seat] >= 128,
                });
            }
        }
    }
    let last = setting.skipped_from.checked_sub(1).unwrap_or(NONE);
    let p = &setting.parameters;
    let account = Epoch {
        number: setting.epoch,
        rate: setting.rate,
        case_epochs: setting.case_epochs,
        capacity_epochs: setting.capacity_epochs,
        thresholds: Thresholds {
            availability: p.availability_threshold,
            capacity: p.capacity_threshold,
            breach: p.breach_threshold,
            tolerance: p.tolerance,
            tokens_required: p.tokens_required,
            ..Default::default()
        },
        ..Zeroable::zeroed()
    };
    let rules = Rules::new(&account, last, 0, setting.seats);
    assert_eq!(rules.skipped_from, setting.skipped_from);

    let (live, mut sum) = (block.live, Outcome::default());
    while block.lanes[(setting.epoch & 1) as usize].cursor < ROWS as u16 {
        let outcome = tally::judge_rows(&mut block, &rules, part).expect("no overflow in this range");
        sum.credited += outcome.credited;
        sum.nominal_added += outcome.nominal_added;
        sum.nominal_removed += outcome.nominal_removed;
        sum.gone_live += outcome.gone_live;
        sum.fallen_back += outcome.fallen_back;
    }

    let (mut expected, mut judged, mut right) = (Outcome::default(), 0u16, [0u16; SEATS]);
    let mut credited = 0i128;
    for (r, Let { row: before, leases }) in rows.iter().enumerate() {
        let verdict = judge(before, leases, &votes[r], setting);
        assert_eq!(block.rows[r], verdict.row, "row {r}, {:?}, {leases:?}", votes[r]);
        let u = verdict.unusual;
        for (count, is) in [
            (&mut seen.capped, u.capped),
            (&mut seen.stale, u.stale),
            (&mut seen.halted, u.halted),
            (&mut seen.accused, u.accused),
            (&mut seen.condemned, u.condemned),
            (&mut seen.hid, u.hid),
            (&mut seen.cleared, u.cleared),
            (&mut seen.late, u.late),
        ] {
            *count += u32::from(is);
        }
        let nominal = u64::from(before.unit_weight) * u64::from(before.gpus) * 10_000;
        credited += verdict.credited;
        expected.gone_live += u16::from(verdict.went_live);
        expected.fallen_back += u16::from(verdict.fell_back || verdict.missed);
        seen.missed += u32::from(verdict.missed);
        expected.nominal_added += if verdict.went_live { nominal } else { 0 };
        expected.nominal_removed += if verdict.fell_back { nominal } else { 0 };
        seen.live += u32::from(verdict.went_live);
        seen.fell_back += u32::from(verdict.fell_back);
        seen.paid += u32::from(verdict.credited > 0);
        seen.void += u32::from(before.status != Row::FREE && verdict.row.history[(setting.epoch % 32) as usize] == VOID);
        if verdict.judges {
            judged += 1;
            let ok = verdict.right.iter().filter(|r| **r).count() as u32;
            seen.right += ok;
            seen.wrong += SEATS as u32 - ok;
            right.iter_mut().zip(verdict.right).for_each(|(sum, is)| *sum += u16::from(is));
        }
    }
    expected.credited = u64::try_from(credited).expect("64 bits");
    assert_eq!(sum, expected);
    assert_eq!(block.live, live + expected.gone_live - expected.fallen_back);
    let lane = &block.lanes[(setting.epoch & 1) as usize];
    for (seat, is) in lane.committee.iter().zip(right) {
        assert_eq!((seat.judged, seat.right), (judged, is));
    }
    seen
}

/// 32 blocks of 256 rows. A model that agrees because nothing ever happens proves nothing: every outcome must have come up.
#[test]
fn the_tally_is_what_the_protocol_says() {
    let blocks = (
        setting().prop_flat_map(|s| {
            (
                Just(s),
                prop::collection::vec(
                    prop_oneof![row(s.epoch).prop_map(|row| Let { row, leases: vec![] }), let_row(s.epoch)],
                    ROWS,
                ),
            )
        }),
        prop::collection::vec(votes(), ROWS),
        prop_oneof![3 => Just(0x1fu8), 1 => 0u8..0x20],
        1u16..=256,
        // Groups of eight rows without a container, which the tally leaves out as a whole.
        prop::collection::vec(prop::bool::weighted(0.2), ROWS / 8),
    );
    let seen = Cell::new(Seen::default());
    let mut runner = TestRunner::new(ProptestConfig { cases: 32, ..ProptestConfig::default() });
    let result = runner.run(&blocks, |((setting, mut rows), ballots, revealed, part, empty)| {
        let free = Let { row: Row::zeroed(), leases: vec![] };
        rows.chunks_mut(8).zip(empty).filter(|(_, empty)| *empty).for_each(|(group, _)| group.fill(free.clone()));
        seen.set(compare(&setting, &rows, &ballots, revealed, part, seen.get()));
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    let seen = seen.get();
    assert!(seen.live > 20 && seen.fell_back > 20 && seen.paid > 100 && seen.void > 100, "{seen:?}");
    assert!(seen.right > 500 && seen.wrong > 500, "{seen:?}");
    assert!(seen.capped > 10 && seen.stale > 50 && seen.halted > 50 && seen.accused > 50, "{seen:?}");
    assert!(seen.missed > 50, "{seen:?}");
    assert!(seen.condemned > 20 && seen.hid > 5 && seen.cleared > 50 && seen.late > 50, "{seen:?}");
}

#[test]
fn settlements_are_exact_and_marks_need_broad_evidence() {
    use datagalax::state::Seat;
    let seat = |revealed, right, judged| Seat { slot: 0, revealed, right, judged, ..Zeroable::zeroed() };
    let settle = |seat: &Seat, blocks| {
        let s = tally::settle_seat(seat, 1_000_003, blocks);
        (s.pay, s.marked)
    };
    assert_eq!(settle(&seat(0, 0, 0), 100), (0, Some(true)), "silent");
    assert_eq!(settle(&seat(1, 0, 0), 100), (0, None), "not judged");
    assert_eq!(settle(&seat(1, 1, 3), 7), (333_334, Some(false)), "rounded down, too few blocks to mark");
    assert_eq!(settle(&seat(1, 20, 31), 8), (1_000_003 * 20 / 31, Some(false)), "too few rows to mark");
    assert_eq!(settle(&seat(1, 21, 32), 8), (1_000_003 * 21 / 32, Some(true)), "under two thirds");
    assert_eq!(settle(&seat(1, 22, 33), 8), (1_000_003 * 22 / 33, Some(false)), "two thirds");
    assert_eq!(settle(&seat(1, 0, 256), 8), (0, Some(true)));
    for right in 0..=256u16 {
        let pay = u128::from(tally::settle_seat(&seat(1, right, 256), 1 << 56, 9).pay);
        assert_eq!(pay, (1u128 << 56) * u128::from(right) / 256);
    }
}
