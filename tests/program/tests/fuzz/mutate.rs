//! What is done to an honest call.

use std::{collections::BTreeMap, mem::offset_of, ops::Range};

use datagalax::state::{Block, Lane, Row, Seat};
use datagalax_program_tests::{
    World,
    addresses::{CLOCK, INSTRUCTIONS, SLOT_HASHES, SYSTEM_PROGRAM, TOKEN_2022, TOKEN_PROGRAM},
    world::address_of,
};
use solana_account::Account;
use solana_instruction::{AccountMeta, Instruction};
use solana_pubkey::Pubkey;

use crate::random::Random;

/// One call, and what was put in the place of accounts before it.
#[derive(Clone)]
pub struct Case {
    /// The call that it was made from.
    pub honest: Instruction,
    /// The call.
    pub instruction: Instruction,
    /// Accounts that are not what the program wrote: stronger than any attacker, who cannot write the program's accounts.
    pub hostile: Vec<(Pubkey, Account)>,
}

/// Everything that may be put in the place of an account.
pub struct Pool {
    /// By owner and, for the program's own, kind.
    kinds: Vec<Vec<Pubkey>>,
    kind_of: BTreeMap<Pubkey, usize>,
    all: Vec<Pubkey>,
}

impl Pool {
    pub fn of(world: &World) -> Self {
        let mut by_kind: BTreeMap<(Pubkey, Vec<u8>), Vec<Pubkey>> = BTreeMap::new();
        let mut addresses: Vec<Pubkey> = world.svm.accounts_db().inner.keys().copied().collect();
        addresses.sort();
        for address in addresses {
            let account = world.account_or_empty(&address);
            let ours = account.owner == datagalax::ID;
            let kind = if ours { account.data.get(..8).unwrap_or_default().to_vec() } else { vec![] };
            by_kind.entry((account.owner, kind)).or_default().push(address);
        }
        let fresh = (0..3u8).map(|n| address_of(&[b"nobody", &[n]])).collect();
        let named = vec![
            datagalax::ID,
            SYSTEM_PROGRAM,
            TOKEN_PROGRAM,
            TOKEN_2022,
            CLOCK,
            SLOT_HASHES,
            INSTRUCTIONS,
            Pubkey::default(),
            datagalax::checked::EVENT_AUTHORITY,
        ];
        let kinds: Vec<Vec<Pubkey>> = by_kind.into_values().chain([fresh, named]).collect();
        let mut kind_of = BTreeMap::new();
        for (i, kind) in kinds.iter().enumerate() {
            for address in kind {
                kind_of.entry(*address).or_insert(i);
            }
        }
        let all = kinds.iter().flatten().copied().collect();
        Self { kinds, kind_of, all }
    }

    fn same_kind(&self, random: &mut Random, address: &Pubkey) -> Pubkey {
        match self.kind_of.get(address) {
            Some(kind) => *random.pick(&self.kinds[*kind]),
            None => *random.pick(&self.all),
        }
    }

    /// Any kind with the same chance, however many there are of it.
    fn any(&self, random: &mut Random) -> Pubkey {
        let kind = random.pick(&self.kinds);
        *random.pick(kind)
    }
}

/// How far a call may leave the honest one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Whatever anybody can send: data, accounts, flags.
    Caller,
    /// And accounts of the program with any content.
    Writer,
}

pub fn mutate(random: &mut Random, world: &World, pool: &Pool, honest: &Instruction, power: Power) -> Case {
    let mut case = Case { honest: honest.clone(), instruction: honest.clone(), hostile: vec![] };
    let choice = random.below(100);
    let all = choice >= 90;
    if choice < 20 || (all && random.percent(20)) {
        random_data(random, &mut case.instruction.data);
    } else if choice < 40 || all {
        changed_data(random, &mut case.instruction.data);
    }
    if (40..65).contains(&choice) || all {
        for _ in 0..=random.below(3) {
            change_accounts(random, pool, &mut case.instruction.accounts);
        }
    }
    if power == Power::Writer && choice >= 60 {
        for _ in 0..=random.below(3) {
            write_account(random, world, &mut case);
        }
    }
    case
}

/// Anything behind the number of the instruction.
fn random_data(random: &mut Random, data: &mut Vec<u8>) {
    let length = match random.below(4) {
        0 => data.len().saturating_sub(1),
        1 => random.below(16),
        2 => random.below(128),
        _ => random.below(1_100),
    };
    data.truncate(1);
    data.extend(random.bytes(length));
}

fn changed_data(random: &mut Random, data: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let from = usize::from(!random.percent(3)).min(data.len());
        if random.percent(85) { random.scribble(&mut data[from..]) } else { random.flip(&mut data[from..]) }
    }
    match random.below(20) {
        0 => data.truncate(random.below(data.len() + 1)),
        1 => {
            let more = random.below(40);
            data.extend(random.bytes(more));
        }
        _ => {}
    }
}

fn change_accounts(random: &mut Random, pool: &Pool, accounts: &mut Vec<AccountMeta>) {
    if accounts.is_empty() {
        return;
    }
    let (i, j) = (random.below(accounts.len()), random.below(accounts.len()));
    match random.below(12) {
        0 => accounts[i].pubkey = accounts[j].pubkey,
        1 => accounts.swap(i, j),
        2..=5 => accounts[i].pubkey = pool.same_kind(random, &accounts[i].pubkey),
        6 | 7 => accounts[i].pubkey = pool.any(random),
        8 => accounts[i].is_signer ^= true,
        9 => accounts[i].is_writable ^= true,
        10 => match random.below(3) {
            0 => drop(accounts.remove(i)),
            1 => accounts.truncate(i),
            _ => accounts.insert(i, AccountMeta::new(pool.any(random), random.percent(30))),
        },
        _ => {
            for last in (1..accounts.len()).rev() {
                accounts.swap(last, random.below(last + 1));
            }
        }
    }
}

/// Where the fields lie that are read most: the head; in a block also a lane's or a seat's head, and the rows that are occupied.
fn hot_part(random: &mut Random, length: usize) -> Range<usize> {
    if length != size_of::<Block>() {
        return 0..length.min(256);
    }
    let lane = offset_of!(Block, lanes) + random.below(2) * size_of::<Lane>();
    let seat = lane + offset_of!(Lane, committee) + random.below(5) * size_of::<Seat>();
    match random.below(6) {
        0 => 0..offset_of!(Block, lanes),
        1 => lane..lane + offset_of!(Lane, committee),
        2 => seat..seat + offset_of!(Seat, availability),
        _ => {
            let row = offset_of!(Block, rows) + random.below(8) * size_of::<Row>();
            row..row + size_of::<Row>()
        }
    }
}

/// Whose accounts are written over: sysvars and programs are the runtime's, which nobody forges.
const WRITABLE: [Pubkey; 2] = [datagalax::ID, TOKEN_PROGRAM];

/// Replaces the content of one of the call's accounts.
fn write_account(random: &mut Random, world: &World, case: &mut Case) {
    let theirs: Vec<Pubkey> = case
        .instruction
        .accounts
        .iter()
        .map(|m| m.pubkey)
        .filter(|a| world.try_account(a).is_some_and(|a| WRITABLE.contains(&a.owner) && !a.data.is_empty()))
        .chain([CLOCK])
        .collect();
    let address = *random.pick(&theirs);
    // Written twice is written on top.
    let mut account = match case.hostile.iter().position(|(a, _)| *a == address) {
        Some(at) => case.hostile.remove(at).1,
        None => world.account(&address),
    };
    if address == CLOCK {
        // The clock is the validators' word: it goes on, by hours or by years, but not out of its century.
        let now = world.now() + (random.next() % (1 << (1 + random.below(31)))) as i64;
        account.data[32..40].copy_from_slice(&now.to_le_bytes());
        return case.hostile.push((address, account));
    }
    let ours = account.owner == datagalax::ID;
    let head = if ours { 8 } else { 0 }.min(account.data.len());
    let body = &mut account.data[head..];
    match random.below(20) {
        0..=9 => {
            for _ in 0..=random.below(6) {
                random.scribble(body);
            }
        }
        10..=13 => {
            let hot = hot_part(random, body.len());
            for _ in 0..=random.below(6) {
                random.scribble(&mut body[hot.clone()]);
            }
        }
        14 => (0..=random.below(16)).for_each(|_| random.flip(body)),
        15 | 16 => random.fill(body),
        17 => {
            let value = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
            body.fill(value);
        }
        18 => match random.below(3) {
            0 => account.data.truncate(random.below(account.data.len())),
            1 => {
                let more = 1 + random.below(20);
                account.data.extend(random.bytes(more));
            }
            _ => random.fill(&mut account.data[..head]),
        },
        _ => match random.below(3) {
            0 => account.owner = *random.pick(&[SYSTEM_PROGRAM, TOKEN_PROGRAM, TOKEN_2022, datagalax::ID]),
            1 => account.lamports = *random.pick(&[1, 1 << 40, 1 << 62]),
            _ => account.data.clear(),
        },
    }
    case.hostile.push((address, account));
}

/// Makes a failing case smaller for as long as `fails` says that it fails as before.
pub fn shrink(mut case: Case, honest_accounts: &dyn Fn(&Pubkey) -> Account, fails: &dyn Fn(&Case) -> bool) -> Case {
    loop {
        let before = format!("{:?}{:?}", case.instruction, case.hostile);
        for i in (0..case.hostile.len()).rev() {
            let mut without = case.clone();
            without.hostile.remove(i);
            case = if fails(&without) { without } else { case };
        }
        let mut plain = case.clone();
        plain.instruction.accounts = plain.honest.accounts.clone();
        case = if fails(&plain) { plain } else { case };
        let mut plain = case.clone();
        plain.instruction.data = plain.honest.data.clone();
        case = if fails(&plain) { plain } else { case };
        for i in 0..case.instruction.accounts.len().min(case.honest.accounts.len()) {
            let mut plain = case.clone();
            plain.instruction.accounts[i] = plain.honest.accounts[i].clone();
            case = if fails(&plain) { plain } else { case };
        }
        // Bytes, by halves down to single ones, back to what they were.
        for h in 0..case.hostile.len() {
            let honest = honest_accounts(&case.hostile[h].0);
            if honest.data.len() != case.hostile[h].1.data.len() {
                continue;
            }
            let mut step = honest.data.len().next_power_of_two();
            while step > 0 {
                for at in (0..honest.data.len()).step_by(step) {
                    let range = at..(at + step).min(honest.data.len());
                    if case.hostile[h].1.data[range.clone()] == honest.data[range.clone()] {
                        continue;
                    }
                    let mut plain = case.clone();
                    plain.hostile[h].1.data[range.clone()].copy_from_slice(&honest.data[range]);
                    case = if fails(&plain) { plain } else { case };
                }
                step /= 2;
            }
        }
        if format!("{:?}{:?}", case.instruction, case.hostile) == before {
            return case;
        }
    }
}
