//! A world on a Token-2022 mint: which extensions are accepted, and the whole way of the money.

use datagalax::instructions::OpenLeaseArgs;
use datagalax::state::Network;
use datagalax_program_tests::{
    Settings, World,
    accounts::rows,
    actors::{PURSE, fingerprint},
    addresses::{self, ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022, TOKEN_PROGRAM, Vault},
    instructions::{self, Initialize},
    settings::ATH,
    stage::{Stage, perfect},
    tokens::{MINT_LEN, MintData},
    world::{address_of, named_key},
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// Where Token-2022 says what an extended account is.
const KIND_AT: usize = 165;

/// Extensions by number: what a list entry of theirs is and how long its value.
const ALLOWED: [(u16, usize, &str); 6] = [
    (18, 64, "metadata pointer"),
    (19, 80, "token metadata"),
    (20, 64, "group pointer"),
    (21, 80, "token group"),
    (22, 64, "group member pointer"),
    (23, 72, "token group member"),
];

/// Every other extension that a mint can have, and some numbers that none has yet.
const REFUSED: [(u16, usize, &str); 17] = [
    (1, 108, "transfer fee"),
    (3, 32, "mint close authority"),
    (4, 65, "confidential transfer"),
    (6, 1, "default account state"),
    (9, 0, "non-transferable"),
    (10, 52, "interest-bearing"),
    (12, 32, "permanent delegate"),
    (14, 64, "transfer hook"),
    (16, 129, "confidential transfer fee"),
    (24, 96, "confidential mint and burn"),
    (25, 56, "scaled amount"),
    (26, 33, "pausable"),
    (28, 32, "permissioned burn"),
    // Those of token accounts have no place in a mint.
    (2, 8, "transfer fee amount"),
    (7, 0, "immutable owner"),
    (29, 8, "one that is not known"),
    (u16::MAX, 8, "the last number"),
];

/// A mint with extensions, as Token-2022 lays it out: the mint padded to a token account's length, its kind, then type, length and
/// value of each.
fn mint_with(extensions: &[(u16, usize, &str)]) -> Vec<u8> {
    let mut data = MintData::default().bytes();
    assert_eq!(data.len(), MINT_LEN);
    if extensions.is_empty() {
        return data;
    }
    data.resize(KIND_AT, 0);
    data.push(1);
    for (number, length, _) in extensions {
        data.extend(number.to_le_bytes());
        data.extend(u16::try_from(*length).expect("short").to_le_bytes());
        data.resize(data.len() + length, 0);
    }
    data
}

/// A chain on which $ATH has this mint, before its network is initialised.
fn bare(mint: Vec<u8>) -> World {
    let mut world = World::bare(Settings::default());
    world.token_program = TOKEN_2022;
    world.put(world.mint, TOKEN_2022, mint);
    world
}

/// A network on this mint.
///
/// # Errors
/// The name of the refusal.
fn network(mint: Vec<u8>) -> Result<World, (String, Vec<String>)> {
    let mut world = bare(mint);
    let (instruction, authority) = (Initialize::of(&mut world).instruction(), world.authority.clone());
    world.send(&[instruction], &[&authority]).map_err(|f| (f.name, f.logs))?;
    world.fund(world.settings.funding);
    Ok(world)
}

#[test]
fn each_extension_without_power_is_accepted_alone_and_with_the_others() {
    for extension in ALLOWED {
        let world = network(mint_with(&[extension])).unwrap_or_else(|f| panic!("{}: {f:?}", extension.2));
        assert_eq!((world.network().mint, world.network().token_program), (world.mint, TOKEN_2022));
        assert_eq!(world.account(&addresses::vault(Vault::Stake)).owner, TOKEN_2022);
        world.check_books();
    }
    assert!(network(mint_with(&ALLOWED)).is_ok());
    assert!(network(mint_with(&[])).is_ok(), "a mint of 82 bytes without any");
}

#[test]
fn each_extension_with_power_is_refused_by_name_wherever_it_stands() {
    for extension in REFUSED {
        let what = extension.2;
        for list in [vec![extension], vec![ALLOWED[0], extension], vec![extension, ALLOWED[1]]] {
            let (name, logs) = network(mint_with(&list)).err().unwrap_or_else(|| panic!("{what}: was accepted"));
            assert_eq!(name, "MintExtensionRefused", "{what}");
            let number = format!("mint extension {:05}", extension.0);
            assert!(logs.iter().any(|l| l.contains(&number)), "{what}: the log names its number: {logs:?}");
        }
    }
}

#[test]
fn padding_behind_the_extensions_hides_nothing() {
    // The list ends where a type of zero stands. Token-2022 reads it no further either.
    let mut padded = mint_with(&ALLOWED[..1]);
    padded.resize(padded.len() + 40, 0);
    assert!(network(padded).is_ok());
    // A list that is cut off inside an entry.
    let mut cut = mint_with(&ALLOWED[..1]);
    cut.truncate(cut.len() - 1);
    assert!(network(cut).is_err());
    // A mint of the wrong kind byte: a token account, or nothing.
    for kind in [0, 2, 3] {
        let mut wrong = mint_with(&ALLOWED[..1]);
        wrong[KIND_AT] = kind;
        assert!(network(wrong).is_err(), "kind {kind}");
    }
}

#[test]
fn the_base_of_an_extended_mint_is_looked_at_too() {
    let extended = |base: MintData| {
        let mut data = mint_with(&ALLOWED[..1]);
        data[..MINT_LEN].copy_from_slice(&base.bytes());
        data
    };
    let freezer = Some(named_key("freezer").pubkey());
    for base in [
        MintData { decimals: 9, ..MintData::default() },
        MintData { freeze_authority: freezer, ..MintData::default() },
        MintData { initialized: false, ..MintData::default() },
    ] {
        assert_eq!(network(extended(base)).err().map(|f| f.0).as_deref(), Some("MintRefused"));
    }
    // A freeze authority by the explicit flag.
    let mut world = bare(extended(MintData { freeze_authority: freezer, ..MintData::default() }));
    let mut init = Initialize::of(&mut world);
    init.args.allow_freeze_authority = 1;
    let authority = world.authority.clone();
    world.must(&[init.instruction()], &[&authority]);
}

#[test]
fn a_mint_belongs_to_the_token_program_that_is_passed() {
    for (owner, passed) in [(TOKEN_2022, TOKEN_PROGRAM), (TOKEN_PROGRAM, TOKEN_2022)] {
        let mut world = World::bare(Settings::default());
        world.token_program = owner;
        world.put(world.mint, owner, mint_with(&[]));
        let mut init = Initialize::of(&mut world);
        init.token_program = passed;
        let authority = world.authority.clone();
        world.refused(init.instruction(), &[&authority], "MintRefused");
    }
}

/// A wallet's associated token account with the extension that says its owner never changes: 170 bytes.
fn put_immutable(world: &mut World, wallet: &Pubkey, amount: u64) -> Pubkey {
    let seeds = [wallet.as_ref(), TOKEN_2022.as_ref(), world.mint.as_ref()];
    let address = Pubkey::find_program_address(&seeds, &ASSOCIATED_TOKEN_PROGRAM).0;
    let mut data = vec![0; KIND_AT];
    data[..32].copy_from_slice(world.mint.as_ref());
    data[32..64].copy_from_slice(wallet.as_ref());
    data[64..72].copy_from_slice(&amount.to_le_bytes());
    data[108] = 1;
    data.push(2);
    data.extend([7, 0, 0, 0]);
    assert_eq!(data.len(), 170);
    world.put(address, TOKEN_2022, data);
    address
}

/// Epoch 4 of a network on this mint, every payout wallet with an account of 170 bytes or of 165.
fn at_work(mint: Vec<u8>, immutable: bool) -> Stage {
    let mut world = network(mint).expect("an acceptable mint");
    world.class_of(0, datagalax_program_tests::stage::WEIGHT);
    let checkers: Vec<_> = (0..3).map(|_| world.checker_with(1, 1_000)).collect();
    let block = world.grown_block();
    let provider = world.provider_with(1_000 * ATH);
    if immutable {
        let wallets: Vec<Pubkey> = checkers.iter().flat_map(|c| [c.payout, c.operator.pubkey()]).collect();
        for wallet in wallets.iter().chain([&provider.payout]) {
            put_immutable(&mut world, wallet, 0);
        }
    }
    world.open(0);
    world.containers(&provider, 0, block, 0, 1);
    world.check_books();
    Stage { world, checkers, provider, block }.pass_to(4, &perfect())
}

#[test]
fn the_whole_way_of_the_money_on_a_token_2022_mint() {
    for (mint, immutable) in [(mint_with(&[]), false), (mint_with(&ALLOWED), false), (mint_with(&ALLOWED), true)] {
        let Stage { mut world, checkers, provider, .. } = at_work(mint, immutable);
        let length = |world: &World, address: &Pubkey| world.account(address).data.len();
        assert_eq!(length(&world, &provider.to), if immutable { 170 } else { 165 });
        assert_eq!(world.balance(&provider.from), PURSE - 1_000 * ATH, "staked");
        assert_eq!(world.balance(&addresses::vault(Vault::Stake)), 1_300 * ATH);

        // Rewards: claimed into vesting, three tenths withdrawn at once.
        let claim = instructions::claim_rewards(&provider, 0, &rows([0]));
        world.must(&[claim], &[&provider.operator]);
        let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Rewards, &provider.to);
        world.run(pay);
        assert_eq!(world.balance(&provider.to), 225 * ATH);
        // Seat pay with its commission.
        let claim = instructions::claim_seat_pay(&world, &checkers[0], &[0]);
        world.run(claim);
        let (pay, commission) = (200 * ATH / 3, 200 * ATH / 3 / 10);
        assert_eq!(world.balance(&checkers[0].to), pay - commission);
        assert_eq!(world.balance(&checkers[0].operator_account), commission);
        // The treasury.
        let treasury = world.network().treasury;
        let pay = instructions::withdraw_treasury(&world);
        world.run(pay);
        assert_eq!(world.balance(&treasury), 150 * ATH, "5 percent of epochs 0, 1 and 2");

        // A lease: escrow, refund, the host's part, the fee swept.
        let (user, operator) = (world.user(), world.container_operator(&fingerprint(0)));
        let from = if immutable { put_immutable(&mut world, &user.key.pubkey(), PURSE / 8) } else { user.from };
        assert_eq!(from, user.from);
        let args =
            OpenLeaseArgs { nonce: 1, seconds: 600, max_price_per_hour: 2 * ATH, workload_hash: [1; 32], match_expires: 0 };
        let open = instructions::open_lease(&world, &user, &addresses::container(0, &fingerprint(0)), None, args);
        world.must(&[open], &[&user.key]);
        let lease = addresses::lease(&user.key.pubkey(), 1);
        let start = instructions::start_lease(&world, &operator.pubkey(), &lease);
        world.must(&[start], &[&operator]);
        let started = world.now();
        world.set_time(started + 600);
        let close = instructions::close_lease(&world, &user.key.pubkey(), &lease, false, 0);
        world.must(&[close], &[&user.key]);
        world.set_time(started + 3_600);
        let settle = instructions::settle_lease(&world, &lease);
        world.run(settle);
        let before = world.balance(&provider.to);
        let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Escrow, &provider.to);
        world.run(pay);
        assert_eq!(world.balance(&provider.to) - before, 333_333);
        let pay = instructions::withdraw(&world, &lease, Vault::Escrow, &user.from);
        world.run(pay);
        assert_eq!(world.balance(&user.from), PURSE / 8 - 333_333 - 66_666);
        let sweep = instructions::sweep_vault(&world, Vault::Escrow);
        world.run(sweep);
        assert_eq!(world.balance(&addresses::vault(Vault::Escrow)), 0);
        world.check_books();

        // Stake asked back.
        let ask = instructions::request_unstake(&provider, 990 * ATH);
        world.must(&[ask], &[&provider.owner]);
        let later = world.now() + 720;
        world.set_time(later);
        let before = world.balance(&provider.to);
        let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Stake, &provider.to);
        world.run(pay);
        assert_eq!(world.balance(&provider.to) - before, 990 * ATH);
        world.check_books();
    }
}

#[test]
fn the_other_token_programs_accounts_are_not_this_networks() {
    let Stage { mut world, provider, .. } = at_work(mint_with(&ALLOWED), false);
    // The legacy program in the place of ours, and a legacy account of a mint of the same address.
    let stake = instructions::stake(&world, &provider, ATH);
    let mut wrong = stake.clone();
    let at = wrong.accounts.iter().position(|m| m.pubkey == TOKEN_2022).expect("the token program");
    wrong.accounts[at].pubkey = TOKEN_PROGRAM;
    world.refused(wrong, &[&provider.owner], "WrongAccount");
    let claim = instructions::claim_rewards(&provider, 0, &rows([0]));
    world.must(&[claim], &[&provider.operator]);
    let (ours, mint) = (world.token_program, world.mint);
    world.token_program = TOKEN_PROGRAM;
    let legacy = world.put_token_account(&mint, &provider.payout, 0, "");
    world.token_program = ours;
    assert_ne!(legacy, provider.to);
    let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Rewards, &legacy);
    assert!(world.send(&[pay], &[]).is_err());
    let pay = instructions::withdraw(&world, &addresses::provider(0), Vault::Rewards, &provider.to);
    world.run(pay);
    world.check_books();
}

#[test]
fn what_is_no_token_account_is_none_however_its_bytes_read() {
    let Stage { mut world, provider, .. } = at_work(mint_with(&ALLOWED), false);
    let treasury = address_of(&[b"odd treasury"]);
    let good = {
        let mut data = world.account(&provider.to).data;
        data.push(2);
        data.extend([7, 0, 0, 0]);
        data
    };
    let apply = |world: &mut World, data: Vec<u8>| {
        let mut proposal = crate::proposals::unchanged(world);
        proposal.treasury = treasury;
        crate::proposals::propose(world, proposal);
        world.put(treasury, TOKEN_2022, data);
        world.patch_as::<Network>(&addresses::network(), |n| n.pending_at = 1);
        world.send(&[instructions::apply_proposal(&treasury)], &[]).map(|_| ()).map_err(|f| f.name)
    };
    assert_eq!(apply(&mut world.clone(), good.clone()), Ok(()));
    // Without its kind, of the kind of a mint, cut between the two lengths, and not initialised.
    let mut changed: Vec<Vec<u8>> = vec![];
    for kind in [0, 1, 3] {
        changed.push(good.clone());
        changed.last_mut().expect("just pushed")[KIND_AT] = kind;
    }
    for length in [0, 82, 164] {
        changed.push(good[..length].to_vec());
    }
    changed.push(good.clone());
    changed.last_mut().expect("just pushed")[108] = 0;
    // A multisig is 355 bytes long, and its members may be chosen so that it reads as a token account.
    let mut multisig = good.clone();
    multisig.resize(355, 0);
    changed.push(multisig);
    for data in changed {
        let length = data.len();
        assert!(apply(&mut world, data).is_err(), "{length} bytes");
    }
}
