//! The eleven classes of Sealevel attacks, on every call that succeeds in the populated network.

use std::collections::BTreeSet;

use anchor_lang::{Discriminator, event::EVENT_IX_TAG_LE};
use datagalax::state::{
    Block, Case, Checker, CheckerSetHeader, Container, Epoch, GpuClass, Indexer, Keeper, Lease, Network, Provider,
    VaultLedger,
};
use datagalax_program_tests::{
    World,
    actors::fingerprint,
    addresses::{
        self, ASSOCIATED_TOKEN_PROGRAM, CLOCK, EVENT_AUTHORITY, SLOT_HASHES, SYSTEM_PROGRAM, TOKEN_2022, TOKEN_PROGRAM,
        Vault,
    },
    instructions::{self, Initialize},
    world::address_of,
};
use solana_account::Account;
use solana_instruction::{AccountMeta, Instruction};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{SUCCESSES, Success, at, attempt, calls::calls, is_ours, kind_of, verdict::Verdict};

/// Numbers of instructions.
mod number {
    pub const CLOSE_ACCOUNT: u8 = 65;
}

/// Names under which calls were refused.
type Names = BTreeSet<String>;

fn names_of(all: &[&str]) -> Names {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn refused(names: &mut Names, world: &World, call: &Instruction, what: &str) {
    match attempt(world, std::slice::from_ref(call)) {
        Verdict::Refused(name) => drop(names.insert(name)),
        other => panic!("instruction {}: {what}: {other:?}", call.data[0]),
    }
}

#[track_caller]
fn refused_as(world: &World, call: &Instruction, name: &str) {
    assert_eq!(attempt(world, std::slice::from_ref(call)), Verdict::Refused(name.into()), "instruction {}", call.data[0]);
}

/// Every success, with what is tried in it for one of its accounts.
fn each_account(mut tried: impl FnMut(&Success, usize, &AccountMeta)) {
    for success in SUCCESSES.iter() {
        for (i, meta) in success.call.accounts.iter().enumerate() {
            tried(success, i, meta);
        }
    }
}

/// The world with an account replaced.
fn with(world: &World, address: &Pubkey, account: Account) -> World {
    let mut world = world.clone();
    world.put_account(*address, account);
    world
}

fn all_are_tried() -> BTreeSet<u8> {
    SUCCESSES.iter().map(|s| s.call.data[0]).collect()
}

#[test]
fn every_instruction_is_among_the_calls_attacked() {
    assert_eq!(all_are_tried(), crate::calls::NUMBERS.into_iter().collect());
}

/// 1. Signer authorization: nothing that asks for a signature goes without it, or with a stranger's.
#[test]
fn signer_authorization() {
    let mut names = Names::new();
    each_account(|s, i, meta| {
        if meta.is_signer && meta.pubkey != s.moment.world.payer.pubkey() {
            let mut call = s.call.clone();
            call.accounts[i].is_signer = false;
            refused(&mut names, &s.moment.world, &call, "without its signature");
        }
    });
    let mut by_anybody = BTreeSet::new();
    each_account(|s, i, meta| {
        if meta.is_signer {
            let mut world = s.moment.world.clone();
            let stranger = world.actor("stranger").pubkey();
            let mut call = s.call.clone();
            call.accounts[i].pubkey = stranger;
            if attempt(&world, &[call]) == Verdict::Done {
                by_anybody.insert(s.call.data[0]);
            }
        }
    });
    // Whoever pays rent may register, create, advance, accuse and report; and what is over anybody may close, whose rent goes to
    // who paid it.
    let expected = BTreeSet::from([10, 20, 21, 30, 40, 45, 65, 80, 82]);
    assert_eq!(by_anybody, expected);
    assert_eq!(names, names_of(&["InstructionError(1, MissingRequiredSignature)"]));
}

/// 2. Account data matching: no account stands for another of its kind. What may be chosen is listed.
#[test]
fn account_data_matching() {
    let mut chosen: BTreeSet<(u8, usize)> = BTreeSet::new();
    each_account(|s, i, meta| {
        let world = &s.moment.world;
        if !is_ours(world, &meta.pubkey) {
            return;
        }
        let kind = kind_of(world, &meta.pubkey);
        let mut others: Vec<Pubkey> = world.svm.accounts_db().inner.keys().copied().collect();
        others.sort();
        others.retain(|a| *a != meta.pubkey && kind_of(world, a) == kind);
        for other in others {
            let mut call = s.call.clone();
            call.accounts[i].pubkey = other;
            if attempt(world, &[call]) == Verdict::Done {
                chosen.insert((s.call.data[0], i));
            }
        }
    });
    // What a call is about, its signer chooses among its own: a container (update, rotate, maintenance, deregister) or a lease (top
    // up); a user chooses what to rent. A seat that has committed before does not look at the checker any more.
    let subjects = BTreeSet::from([(23, 2), (24, 2), (25, 2), (26, 3), (70, 2), (74, 3)]);
    let ignored = BTreeSet::from([(32, 3)]);
    assert_eq!(chosen, &subjects | &ignored);
}

/// 3. Owner checks: the same bytes under another program's name are nothing.
#[test]
fn owner_checks() {
    let mut names = Names::new();
    let mut tried = 0;
    each_account(|s, _, meta| {
        let account = s.moment.world.account_or_empty(&meta.pubkey);
        if account.owner == datagalax::ID || (account.owner == TOKEN_PROGRAM && account.data.len() > 100) {
            for owner in [address_of(&[b"another program"]), SYSTEM_PROGRAM] {
                let world = with(&s.moment.world, &meta.pubkey, Account { owner, ..account.clone() });
                refused(&mut names, &world, &s.call, "an account of another program");
                tried += 1;
            }
        }
    });
    assert!(tried > 200, "{tried}");
    assert_eq!(names, names_of(&["ForeignAccount", "WrongAccount"]));
}

/// 4. Type cosplay: a kind of the same length and content is another kind.
#[test]
fn type_cosplay() {
    let mut names = Names::new();
    let kinds: [&[u8]; 13] = [
        Block::DISCRIMINATOR,
        Case::DISCRIMINATOR,
        Checker::DISCRIMINATOR,
        CheckerSetHeader::DISCRIMINATOR,
        Container::DISCRIMINATOR,
        Epoch::DISCRIMINATOR,
        GpuClass::DISCRIMINATOR,
        Indexer::DISCRIMINATOR,
        Keeper::DISCRIMINATOR,
        Lease::DISCRIMINATOR,
        Network::DISCRIMINATOR,
        Provider::DISCRIMINATOR,
        VaultLedger::DISCRIMINATOR,
    ];
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "no two kinds share a discriminator");
    each_account(|s, _, meta| {
        if !is_ours(&s.moment.world, &meta.pubkey) {
            return;
        }
        let account = s.moment.world.account(&meta.pubkey);
        for kind in kinds.iter().filter(|k| account.data[..8] != ***k) {
            let mut other = account.clone();
            other.data[..8].copy_from_slice(kind);
            refused(&mut names, &with(&s.moment.world, &meta.pubkey, other), &s.call, "an account of another kind");
        }
    });
    assert_eq!(names, names_of(&["WrongAccount", "WrongAccountKind", "WrongAccountLength"]));
}

/// 5. Initialization: nothing is initialised twice, and lamports sent ahead to an address do not keep its account from being made.
#[test]
fn initialization() {
    let mut names = Names::new();
    let mut world = at("3, commits").world;
    let again = Initialize::of(&mut world).instruction();
    refused_as(&world, &again, "AlreadyExists");
    // Before anybody: only the upgrade authority.
    let mut bare = at("before the network").world;
    let mut first = Initialize::of(&mut bare);
    first.authority = bare.actor("first in line").pubkey();
    refused_as(&bare, &first.instruction(), "NotUpgradeAuthority");

    let mut made = BTreeSet::new();
    each_account(|s, _, meta| {
        if s.moment.world.try_account(&meta.pubkey).is_some() || !meta.is_writable || meta.is_signer {
            return;
        }
        // An account to be made.
        let mut world = s.moment.world.clone();
        world.svm.airdrop(&meta.pubkey, 1_000_000).expect("an airdrop");
        assert_eq!(
            attempt(&world, std::slice::from_ref(&s.call)),
            Verdict::Done,
            "instruction {} sent lamports",
            s.call.data[0]
        );
        // And made already, by the program or by anybody.
        for owner in [datagalax::ID, SYSTEM_PROGRAM] {
            let made = Account { lamports: 1 << 40, data: vec![0; 64], owner, executable: false, rent_epoch: u64::MAX };
            refused(&mut names, &with(&s.moment.world, &meta.pubkey, made), &s.call, "an account that is there already");
        }
        made.insert(s.call.data[0]);
    });
    let makers = BTreeSet::from([0, 1, 10, 20, 22, 30, 40, 45, 70, 80, 82, 90]);
    assert_eq!(made, makers);
    assert_eq!(names, names_of(&["AlreadyExists"]));
}

/// 6. Arbitrary CPI: tokens and lamports are moved by the programs that own them, and events are recorded by this program alone.
#[test]
fn arbitrary_cpi() {
    let mut names = Names::new();
    let mut tried = 0;
    each_account(|s, i, meta| {
        if ![TOKEN_PROGRAM, SYSTEM_PROGRAM].contains(&meta.pubkey) {
            return;
        }
        for other in [datagalax::ID, TOKEN_2022, TOKEN_PROGRAM, SYSTEM_PROGRAM, ASSOCIATED_TOKEN_PROGRAM, CLOCK] {
            if other != meta.pubkey {
                let mut call = s.call.clone();
                call.accounts[i].pubkey = other;
                refused(&mut names, &s.moment.world, &call, "another program");
                tried += 1;
            }
        }
    });
    assert!(tried > 50, "{tried}");

    // An event that never happened: the program's call of itself, made by somebody else.
    let world = at("3, commits").world;
    let data = [EVENT_IX_TAG_LE, &[0; 40]].concat();
    for (account, signer, name) in [
        (EVENT_AUTHORITY, false, "InstructionError(1, MissingRequiredSignature)"),
        (world.payer.pubkey(), true, "InstructionError(1, InvalidSeeds)"),
    ] {
        let accounts = vec![AccountMeta::new_readonly(account, signer)];
        refused_as(&world, &Instruction { program_id: datagalax::ID, accounts, data: data.clone() }, name);
    }
    // Nobody named is the system program's address, which signs nothing outside a simulation: another is not the one named.
    let programs = ["InstructionError(1, IncorrectProgramId)", "InstructionError(1, Custom(2007))", "WrongAccount"];
    assert_eq!(names, names_of(&[&programs[..], &["MintRefused", "NotNamed"]].concat()));
}

/// 7. Duplicate mutable accounts: no two names of a call mean one account that it changes.
#[test]
fn duplicate_mutable_accounts() {
    let mut harmless = BTreeSet::new();
    let mut tried = 0;
    each_account(|s, i, meta| {
        let world = &s.moment.world;
        for (j, other) in s.call.accounts.iter().enumerate() {
            let same = i != j && meta.is_writable && other.is_writable && meta.pubkey != other.pubkey;
            if !same || kind_of(world, &meta.pubkey) != kind_of(world, &other.pubkey) || meta.is_signer {
                continue;
            }
            let mut call = s.call.clone();
            call.accounts[i].pubkey = other.pubkey;
            tried += 1;
            if attempt(world, &[call]) == Verdict::Done {
                harmless.insert((s.call.data[0], i, j));
            }
        }
    });
    assert!(tried > 20, "{tried}");
    assert_eq!(harmless, BTreeSet::new());
}

/// 8. Bump seed canonicalization: an address of the same seeds with another bump is not the account.
#[test]
fn bump_seed_canonicalization() {
    let mut moment = at("3, commits");
    let world = &mut moment.world;
    let owner = world.actor("owner").pubkey();
    let id = world.network().providers;
    let shadow = |seeds: &[&[u8]]| {
        let (_, canonical) = Pubkey::find_program_address(seeds, &datagalax::ID);
        (0..canonical)
            .rev()
            .find_map(|bump| Pubkey::create_program_address(&[seeds, &[&[bump]]].concat(), &datagalax::ID).ok())
    };
    let mut register = instructions::register_provider(&owner, id, &owner, &owner);
    register.accounts[2].pubkey = shadow(&[b"provider", &id.to_le_bytes()]).expect("another bump that is off the curve");
    refused_as(world, &register, "InstructionError(1, InvalidSeeds)");
    let wallet = moment.cast.user.key.pubkey();
    let mut register = instructions::register_keeper(&world.payer.pubkey(), &wallet);
    register.accounts[1].pubkey = shadow(&[b"keeper", wallet.as_ref()]).expect("another bump that is off the curve");
    refused_as(world, &register, "InstructionError(1, InvalidSeeds)");
    // A second network beside the network, with a treasury of one's own.
    let mut bare = at("before the network").world;
    let mut second = Initialize::of(&mut bare).instruction();
    second.accounts[2].pubkey = shadow(&[b"network"]).expect("another bump that is off the curve");
    refused_as(&bare, &second, "InstructionError(1, InvalidSeeds)");
}

/// 9. PDA sharing: the network signs for three vaults; none pays for another, and none pays whoever asks.
#[test]
fn pda_sharing() {
    let moment = at("21, everything is due");
    let (world, cast) = (&moment.world, &moment.cast);
    let provider = addresses::provider(cast.idle.id);
    let honest = instructions::withdraw(world, &provider, Vault::Stake, &cast.idle.to);
    assert_eq!(attempt(world, std::slice::from_ref(&honest)), Verdict::Done);
    // Stake out of the other vaults: their token account behind this ledger, their ledger before this token account.
    for other in [Vault::Rewards, Vault::Escrow] {
        for (place, account) in [(3, addresses::ledger(other)), (4, addresses::vault(other))] {
            let mut call = honest.clone();
            call.accounts[place].pubkey = account;
            refused_as(world, &call, "WrongAccount");
        }
        let mut call = honest.clone();
        call.accounts[5 + 1].pubkey = addresses::vault(other);
        refused_as(world, &call, "WrongAccount");
        // The whole other vault, which owes this provider nothing.
        refused_as(world, &instructions::withdraw(world, &provider, other, &cast.idle.to), "NothingToPay");
    }
    // To the caller, to the owner in the place of the payout wallet, to an odd account of the payout wallet.
    let mut changed = world.clone();
    let odd = changed.put_token_account(&world.mint, &cast.idle.payout, 0, "odd");
    for to in [cast.user.from, cast.idle.from, odd] {
        refused_as(&changed, &instructions::withdraw(world, &provider, Vault::Stake, &to), "WrongAccount");
    }
}

/// 10. Closing accounts: what is closed is gone in the same transaction as well, whoever sends lamports to it.
#[test]
fn closing_and_revival() {
    let moment = at("21, everything is due");
    let (world, payer) = (&moment.world, moment.world.payer.pubkey());
    let give = |to: &Pubkey, lamports: u64| Instruction {
        program_id: SYSTEM_PROGRAM,
        accounts: vec![AccountMeta::new(payer, true), AccountMeta::new(*to, false)],
        data: [&2u32.to_le_bytes()[..], &lamports.to_le_bytes()].concat(),
    };
    let all = calls(&moment);
    let done = |call: &&Instruction| attempt(world, std::slice::from_ref(*call)) == Verdict::Done;
    let (closings, others): (Vec<_>, Vec<_>) = all.iter().filter(done).partition(|c| c.data[0] == number::CLOSE_ACCOUNT);
    let mut kinds = BTreeSet::new();
    for closing in closings {
        let victim = closing.accounts[2].pubkey;
        kinds.insert(kind_of(world, &victim));
        let revive = give(&victim, 1_000_000_000);
        // Close, revive, close again: the second time there is no account of the program any more.
        let all = [closing.clone(), revive.clone(), closing.clone()];
        assert!(matches!(attempt(world, &all), Verdict::Refused(_)), "closed twice");
        // Every other call that succeeds with this account fails after its closing.
        for other in others.iter().filter(|c| c.accounts.iter().any(|m| m.pubkey == victim)) {
            let all = [closing.clone(), revive.clone(), (*other).clone()];
            assert!(matches!(attempt(world, &all), Verdict::Refused(_)), "instruction {} on the dead", other.data[0]);
        }
        // Revived, it is an empty account of nobody.
        let mut after = world.clone();
        after.send(&[closing.clone(), revive], &[]).expect("closed and revived");
        let ghost = after.account(&victim);
        assert_eq!((ghost.owner, ghost.data.len()), (SYSTEM_PROGRAM, 0));
    }
    assert!(kinds.len() >= 3, "leases, cases and epochs are closed here");
    // A container's account ends with its row.
    let leaver = addresses::container(moment.cast.provider.id, &fingerprint(crate::cast::LEAVER));
    let vacate = instructions::vacate_row(world, moment.cast.provider.id, &fingerprint(crate::cast::LEAVER));
    assert_eq!(attempt(world, std::slice::from_ref(&vacate)), Verdict::Done);
    let again = [vacate.clone(), give(&leaver, 1_000_000_000), vacate];
    assert!(matches!(attempt(world, &again), Verdict::Refused(_)), "a row is vacated once");
}

/// 11. Sysvar address checking: a list of slot hashes or of instructions of one's own is not the sysvar.
#[test]
fn sysvar_address_checking() {
    let moment = at("4, to be drawn");
    let mut world = moment.world.clone();
    let forged = address_of(&[b"slot hashes of one's own"]);
    let real = world.account(&SLOT_HASHES);
    world.put_account(forged, real);
    let honest = instructions::draw(world.network().current_epoch);
    assert_eq!(attempt(&world, std::slice::from_ref(&honest)), Verdict::Done);
    for sysvar in [forged, CLOCK] {
        let mut draw = honest.clone();
        draw.accounts[3].pubkey = sysvar;
        refused_as(&world, &draw, "WrongAccount");
    }
    // The instructions' list is tried in `mistakes`, with the signature that it is read for.
}
