//! `initialize_network`, `create_class`, `fund_rewards`.

use datagalax::{
    constants::{MAX_AMOUNT, NONE},
    instructions::InitializeNetworkArgs,
    math::Rate,
    state::{Parameters, VERSION},
};
use datagalax_program_tests::{
    Settings, World,
    actors::class_args,
    addresses::{self, TOKEN_PROGRAM, Vault},
    instructions::{self, Initialize},
    settings::{ATH, GENESIS_HASH},
    tokens::MintData,
    world::{address_of, named_key},
};
use solana_signer::Signer;

use datagalax_program_tests::refusals::Call;

fn bare() -> World {
    World::bare(Settings::default())
}

#[test]
fn initialize_writes_the_network_its_vaults_and_its_books() {
    let world = World::with(Settings { funding: 0, ..Settings::default() });
    let network = world.network();
    assert_eq!(network.version, VERSION);
    assert_eq!(network.authority, world.authority.pubkey());
    assert_eq!(network.guardian, address_of(&[b"guardian"]));
    assert_eq!((network.mint, network.token_program), (world.mint, TOKEN_PROGRAM));
    assert_eq!(network.genesis_hash, GENESIS_HASH);
    assert_eq!((network.current_epoch, network.previous_epoch), (NONE, NONE));
    assert_eq!((network.grids[0].start, network.grids[0].length, network.grids[0].first_epoch), (world.start, 60, 0));
    assert_eq!(network.parameters, world.settings.parameters);
    assert_eq!(network.emission.amount, world.settings.emission);
    let vesting = world.settings.arguments(network.guardian, 0).vesting;
    assert_eq!(network.vesting_terms[0], vesting, "30/30/40 under id 1 from day 0");
    assert!(network.vesting_terms[1..].iter().all(|t| *t == Default::default()));
    assert_eq!((network.paused_until, network.pending_at, network.treasury_due), (0, 0, 0));
    assert_eq!((network.providers, network.checkers, network.blocks, network.free_rows, network.classes), (0, 0, 0, 0, 0));
    for (kind, name) in Vault::ALL.into_iter().enumerate() {
        let ledger = world.ledger(name);
        assert_eq!((ledger.kind as usize, ledger.vault, ledger.balance), (kind, addresses::vault(name), 0));
        let vault = world.account(&addresses::vault(name));
        assert_eq!((&vault.data[..32], &vault.data[32..64]), (world.mint.as_ref(), addresses::network().as_ref()));
    }
    assert_eq!((world.set().live, world.set().pending, world.set().pending_head), (0, 0, NONE));
    world.check_books();
}

#[test]
fn initialize_refuses_what_every_instruction_must() {
    let mut world = bare();
    let instruction = Initialize::of(&mut world).instruction();
    let authority = world.authority.clone();
    let mut call = InitCall { world, instruction, authority };
    call.check();
}

/// The shared table needs a network to check the books of; this one instruction makes it.
struct InitCall {
    world: World,
    instruction: solana_instruction::Instruction,
    authority: datagalax_program_tests::world::Key,
}

impl InitCall {
    fn refused(&mut self, what: &str, change: impl FnOnce(&mut solana_instruction::Instruction)) {
        let mut changed = self.instruction.clone();
        change(&mut changed);
        let authority = self.authority.clone();
        assert!(self.world.send(&[changed], &[&authority]).is_err(), "{what}: was done");
    }

    fn check(&mut self) {
        let count = self.instruction.accounts.len();
        self.refused("unsigned", |c| c.accounts[0].is_signer = false);
        for i in 0..count {
            if self.instruction.accounts[i].is_writable {
                self.refused(&format!("account {i} is read-only"), |c| c.accounts[i].is_writable = false);
            }
            for j in (0..count).filter(|j| *j != i && i + 1 < count) {
                self.refused(&format!("account {i} is account {j}"), |c| c.accounts[i].pubkey = c.accounts[j].pubkey);
            }
            // The last account only brings the program along, which a transaction that calls it does anyway.
            let elsewhere = address_of(&[b"elsewhere"]);
            if i + 1 < count {
                self.refused(&format!("account {i} lies elsewhere"), |c| c.accounts[i].pubkey = elsewhere);
            }
            self.refused(&format!("{i} accounts"), |c| c.accounts.truncate(i));
        }
        for length in 0..self.instruction.data.len() {
            self.refused(&format!("{length} bytes of data"), |c| c.data.truncate(length));
        }
        let (instruction, authority) = (self.instruction.clone(), self.authority.clone());
        self.world.must(&[instruction], &[&authority]);
    }
}

#[test]
fn only_the_upgrade_authority_initializes() {
    let mut world = bare();
    let stranger = world.actor("stranger");
    let mut init = Initialize::of(&mut world);
    init.authority = stranger.pubkey();
    world.refused(init.instruction(), &[&stranger], "NotUpgradeAuthority");

    // Program data that the stranger wrote itself: the right bytes in the wrong place or of the wrong owner.
    let mut data = world.account(&addresses::program_data()).data;
    data[13..45].copy_from_slice(stranger.pubkey().as_ref());
    let forged = address_of(&[b"forged program data"]);
    world.put(forged, addresses::UPGRADEABLE_LOADER, data[..45].to_vec());
    init.program_data = forged;
    world.refused(init.instruction(), &[&stranger], "NotUpgradeAuthority");

    // An immutable program has no upgrade authority: nobody can initialise.
    let authority = world.authority.clone();
    world.set_upgrade_authority(None);
    let own = Initialize::of(&mut world).instruction();
    world.refused(own, &[&authority], "NotUpgradeAuthority");
}

#[test]
fn initialize_happens_once() {
    let mut world = World::new();
    let authority = world.authority.clone();
    let again = Initialize::of(&mut world).instruction();
    let before = world.fingerprint();
    assert!(world.send(&[again], &[&authority]).is_err());
    assert_eq!(world.fingerprint(), before);
}

#[test]
fn mints_that_could_hurt_are_refused() {
    let freezer = Some(named_key("freezer").pubkey());
    for (mint, allow, name) in [
        (MintData { decimals: 9, ..MintData::default() }, 0, "MintRefused"),
        (MintData { decimals: 0, ..MintData::default() }, 1, "MintRefused"),
        (MintData { freeze_authority: freezer, ..MintData::default() }, 0, "MintRefused"),
    ] {
        let mut world = bare();
        world.put_mint(world.mint, mint);
        let mut init = Initialize::of(&mut world);
        init.args.allow_freeze_authority = allow;
        let authority = world.authority.clone();
        world.refused(init.instruction(), &[&authority], name);
    }
    // Allowed on purpose.
    let mut world = bare();
    world.put_mint(world.mint, MintData { freeze_authority: freezer, ..MintData::default() });
    let mut init = Initialize::of(&mut world);
    init.args.allow_freeze_authority = 1;
    let authority = world.authority.clone();
    world.must(&[init.instruction()], &[&authority]);
    assert_eq!(world.network().freeze_allowed, 1);
}

#[test]
fn an_unborn_mint_and_a_treasury_of_another_mint_are_refused() {
    let mut world = bare();
    let authority = world.authority.clone();
    world.put_mint(world.mint, MintData { initialized: false, ..MintData::default() });
    let init = Initialize::of(&mut world).instruction();
    assert!(world.send(&[init], &[&authority]).is_err(), "a mint that is not initialised");

    let mut world = bare();
    let other = address_of(&[b"other mint"]);
    world.put_mint(other, MintData::default());
    let mut init = Initialize::of(&mut world);
    init.treasury = world.put_token_account(&other, &authority.pubkey(), 0, "treasury");
    assert!(world.send(&[init.instruction()], &[&authority]).is_err(), "a treasury of another mint");
}

/// One change of the arguments that must be refused.
type Change = fn(&mut InitializeNetworkArgs);

#[test]
fn arguments_have_bounds() {
    const OUT: &str = "ParameterOutOfBounds";
    const FIT: &str = "WindowsDoNotFit";
    let changes: &[(&str, &str, Change)] = &[
        ("epoch of 19 s", OUT, |a| a.epoch_length = 19),
        ("epoch of a day and a second", OUT, |a| a.epoch_length = 86_401),
        ("shares below one", OUT, |a| a.parameters.treasury_share_bps -= 1),
        ("shares above one", OUT, |a| a.parameters.treasury_share_bps += 1),
        ("lease fee", OUT, |a| a.parameters.lease_fee_bps = 10_001),
        ("indexer share", OUT, |a| a.parameters.indexer_share_bps = 10_001),
        ("availability threshold", OUT, |a| a.parameters.availability_threshold = 101),
        ("capacity threshold", OUT, |a| a.parameters.capacity_threshold = 101),
        ("breach threshold", OUT, |a| a.parameters.breach_threshold = 101),
        ("tolerance", OUT, |a| a.parameters.tolerance = 101),
        ("tokens required", OUT, |a| a.parameters.tokens_required = 2),
        ("no draw delay", OUT, |a| a.parameters.draw_delay = 0),
        ("long draw delay", OUT, |a| a.parameters.draw_delay = 257),
        ("beacon modulus", OUT, |a| a.parameters.beacon_modulus = 0),
        ("no reveal window", OUT, |a| a.parameters.reveal_window = 0),
        ("free tickets", OUT, |a| a.parameters.ticket_price = 0),
        ("ticket price", OUT, |a| a.parameters.ticket_price = MAX_AMOUNT + 1),
        ("seat pay", OUT, |a| a.parameters.max_seat_pay = MAX_AMOUNT + 1),
        ("rate", OUT, |a| a.parameters.max_rate = Rate { hi: MAX_AMOUNT + 1, lo: 0 }),
        ("no stake coefficient", OUT, |a| a.parameters.stake_coefficient_bps = 0),
        ("stake coefficient", OUT, |a| a.parameters.stake_coefficient_bps = 1_000_001),
        ("reserved bytes", OUT, |a| a.parameters.reserved[36] = 1),
        ("commit lead", FIT, |a| a.parameters.commit_lead = 23),
        ("commit lead at its largest", FIT, |a| a.parameters.commit_lead = u32::MAX),
        ("reveal window", FIT, |a| a.parameters.reveal_window = 30),
        ("case window", FIT, |a| a.parameters.case_window = 479),
        ("a case of 1,001 epochs", FIT, |a| a.parameters.case_window = 60_001),
        ("unbonding", FIT, |a| a.parameters.unbonding = 719),
        ("start in the past", OUT, |a| a.first_epoch_start -= 11),
        ("start beyond a month", OUT, |a| a.first_epoch_start += 30 * 86_400),
        ("start at the end of time", OUT, |a| a.first_epoch_start = i64::MAX),
        ("start before time", OUT, |a| a.first_epoch_start = i64::MIN),
        ("emission", OUT, |a| a.emission = MAX_AMOUNT + 1),
        ("breaker of the stake vault", OUT, |a| a.parameters.breaker_limits[0] = MAX_AMOUNT + 1),
        ("breaker of the escrow vault", OUT, |a| a.parameters.breaker_limits[2] = 0),
        ("keeper fee", OUT, |a| a.parameters.keeper_fee = MAX_AMOUNT + 1),
        ("indexer stake", OUT, |a| a.parameters.indexer_stake = MAX_AMOUNT + 1),
        ("time lock of a month and a second", OUT, |a| a.parameters.time_lock = 30 * 86_400 + 1),
        ("no time to start", OUT, |a| a.parameters.start_timeout = 0),
        ("a day and a second to start", OUT, |a| a.parameters.start_timeout = 86_401),
        ("decay", OUT, |a| a.decay_bps = 10_001),
        ("freeze flag", OUT, |a| a.allow_freeze_authority = 2),
        ("vesting parts above one", OUT, |a| a.vesting.long_bps += 1),
        ("vesting parts below one", OUT, |a| a.vesting.immediate_bps -= 1),
        ("no days of vesting", OUT, |a| a.vesting.short_days = 0),
        ("vesting beyond the buckets", OUT, |a| a.vesting.long_days = 181),
    ];
    let mut world = bare();
    let authority = world.authority.clone();
    for (what, name, change) in changes {
        let mut init = Initialize::of(&mut world);
        change(&mut init.args);
        match world.send(&[init.instruction()], &[&authority]) {
            Ok(_) => panic!("{what}: was done"),
            Err(failure) => assert_eq!(failure.name, *name, "{what}"),
        }
    }
    // The largest that still fit.
    let mut init = Initialize::of(&mut world);
    init.args.parameters =
        Parameters { commit_lead: 22, reveal_window: 29, draw_delay: 256, tolerance: 100, ..init.args.parameters };
    init.args.first_epoch_start = world.now() + 30 * 86_400;
    world.must(&[init.instruction()], &[&authority]);
}

#[test]
fn create_class_writes_a_class() {
    let mut world = World::new();
    let authority = world.authority.clone();
    let args = class_args(7, 50);
    let instruction = instructions::create_class(&world, args);
    world.must(&[instruction], &[&authority]);
    let class = world.class(7);
    assert_eq!((class.id, class.terms, class.pending_at), (7, args.terms, 0), "before the first epoch it holds at once");
    assert_eq!((class.terms.unit_weight, class.terms.active), (50, 1));
    assert_eq!(class.name(), "test");
    let network = world.network();
    assert_eq!((network.classes, network.largest_class_weight), (1, 50));
    assert_eq!(network.largest_class_throughput, args.terms.reference_throughput);
}

#[test]
fn create_class_refuses_what_every_instruction_must() {
    let mut world = World::new();
    world.class_of(0, 100);
    let (authority, instruction) = (world.authority.clone(), instructions::create_class(&world, class_args(1, 50)));
    Call::new(world, instruction, &[&authority]).check();
}

#[test]
fn create_class_has_bounds_and_an_authority() {
    let mut world = World::new();
    let authority = world.authority.clone();
    let stranger = world.actor("stranger");
    let mut instruction = instructions::create_class(&world, class_args(0, 1));
    instruction.accounts[0].pubkey = stranger.pubkey();
    world.refused(instruction, &[&stranger], "Unauthorized");

    let mut silent = class_args(0, 1);
    silent.terms.reference_throughput = 0;
    let mut dear = class_args(0, 1);
    dear.terms.stake_base = MAX_AMOUNT + 1;
    let mut garbled = class_args(0, 1);
    garbled.name[1] = 0xff;
    let mut odd = class_args(0, 1);
    odd.terms.active = 2;
    let mut reserved = class_args(0, 1);
    reserved.terms.reserved[4] = 1;
    for args in [silent, dear, garbled, odd, reserved] {
        let instruction = instructions::create_class(&world, args);
        world.refused(instruction, &[&authority], "ParameterOutOfBounds");
    }
    // The address of another id.
    let mut instruction = instructions::create_class(&world, class_args(3, 1));
    instruction.accounts[2].pubkey = addresses::class(4);
    world.refused(instruction, &[&authority], "InvalidSeeds");
    // Twice.
    let instruction = instructions::create_class(&world, class_args(3, 1));
    world.must(std::slice::from_ref(&instruction), &[&authority]);
    assert!(world.send(&[instruction], &[&authority]).is_err());
    assert_eq!(world.network().classes, 1);
}

#[test]
fn a_class_weighs_no_more_than_its_share_of_throughput() {
    let mut world = World::new();
    let authority = world.authority.clone();
    let class = |id, unit_weight, reference_throughput| {
        let mut args = class_args(id, unit_weight);
        args.terms.reference_throughput = reference_throughput;
        args
    };
    let mut create = |args, name: Option<&str>| {
        let instruction = instructions::create_class(&world, args);
        match name {
            None => drop(world.must(&[instruction], &[&authority])),
            Some(name) => world.refused(instruction, &[&authority], name),
        }
    };
    create(class(0, 1_000, 1_000_000), None);
    create(class(1, 11, 10_000), Some("ClassTooHeavy"));
    create(class(1, 10, 10_000), None);
    create(class(2, 0, 10_000), None);
    // A new largest class must not make the old one too heavy for its throughput.
    create(class(3, 1_999, 2_000_000), Some("ClassTooHeavy"));
    create(class(3, 3_000, 2_000_000), None);
    // The comparison does not overflow.
    create(class(4, u16::MAX, u64::MAX), Some("ClassTooHeavy"));
    assert_eq!(world.network().largest_class_weight, 3_000);
}

#[test]
fn fund_rewards_books_what_came_in() {
    let mut world = World::with(Settings { funding: 0, ..Settings::default() });
    world.fund(5 * ATH);
    world.fund(7);
    let ledger = world.ledger(Vault::Rewards);
    assert_eq!((ledger.balance, ledger.total_in, ledger.liabilities), (5 * ATH + 7, 5 * ATH + 7, 0));
    assert_eq!(world.balance(&addresses::vault(Vault::Rewards)), 5 * ATH + 7);
    world.check_books();
    world.set_paused(true);
    world.fund(1);
    world.check_books();
}

#[test]
fn a_donation_changes_nothing() {
    let mut world = World::with(Settings { funding: 0, ..Settings::default() });
    world.patch(&addresses::vault(Vault::Rewards), |data| data[64..72].copy_from_slice(&(900 * ATH).to_le_bytes()));
    world.advance(0);
    assert_eq!(world.epoch(0).pool, 0, "what was not booked is not promised");
    world.check_books();
}

#[test]
fn fund_rewards_refuses() {
    let mut world = World::new();
    let (mint, funder) = (world.mint, world.actor("funder"));
    let from = world.put_token_account(&mint, &funder.pubkey(), 100, "");
    for amount in [0, MAX_AMOUNT + 1, u64::MAX] {
        let instruction = instructions::fund_rewards(&world, &funder.pubkey(), &from, amount);
        world.refused(instruction, &[&funder], "BadAmount");
    }
    let more = instructions::fund_rewards(&world, &funder.pubkey(), &from, 101);
    world.refused(more, &[&funder], "InsufficientFunds");
    let valid = instructions::fund_rewards(&world, &funder.pubkey(), &from, 100);

    // Another vault's ledger, with its own vault and with ours.
    let mut stake = valid.clone();
    stake.accounts[4].pubkey = addresses::ledger(Vault::Stake);
    world.refused(stake.clone(), &[&funder], "WrongAccount");
    stake.accounts[5].pubkey = addresses::vault(Vault::Stake);
    world.refused(stake, &[&funder], "WrongAccount");
    let mut vault = valid.clone();
    vault.accounts[5].pubkey = addresses::vault(Vault::Escrow);
    world.refused(vault, &[&funder], "WrongAccount");

    // Another mint, and somebody else's tokens.
    let other = address_of(&[b"other mint"]);
    world.put_mint(other, MintData::default());
    let mut wrong = valid.clone();
    wrong.accounts[3].pubkey = other;
    world.refused(wrong, &[&funder], "WrongAccount");
    let mut wrong = valid.clone();
    wrong.accounts[2].pubkey = world.put_token_account(&other, &funder.pubkey(), 100, "");
    assert!(world.send(&[wrong], &[&funder]).is_err(), "tokens of another mint");
    let victim = world.actor("victim");
    let mut theft = valid.clone();
    theft.accounts[2].pubkey = world.put_token_account(&mint, &victim.pubkey(), 100, "");
    assert!(world.send(&[theft], &[&funder]).is_err(), "somebody else's tokens");
    Call::new(world, valid, &[&funder]).check();
}
