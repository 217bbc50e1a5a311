//! The signed match: an indexer is named, and paid, only with its signature on exactly this lease.

use datagalax::{
    instructions::{Match, OpenLeaseArgs},
    state::Indexer as IndexerAccount,
};
use datagalax_program_tests::{
    Indexer, User,
    actors::fingerprint,
    addresses::{self, INSTRUCTIONS},
    instructions::{self, ed25519},
    refusals::Call,
    send::compute_budget,
    settings::GENESIS_HASH,
    world::{Key, address_of},
};
use solana_instruction::Instruction;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::Scene;

/// Seconds for which the tests' signatures are good.
const GOOD_FOR: i64 = 60;

struct Matched {
    scene: Scene,
    indexer: Indexer,
    user: User,
    expires: i64,
}

impl Matched {
    fn new() -> Self {
        let mut scene = Scene::of(Default::default(), 2);
        let (indexer, user) = (scene.world().indexer(), scene.user.clone());
        let expires = scene.stage.world.now() + GOOD_FOR;
        Self { scene, indexer, user, expires }
    }

    /// The call of a user with a nonce, for the first container.
    fn open_of(&self, user: &User, container: &Pubkey, nonce: u64, match_expires: i64) -> Instruction {
        let args = OpenLeaseArgs { match_expires, ..Scene::args(nonce, 600) };
        instructions::open_lease(&self.scene.stage.world, user, container, Some(self.indexer.id), args)
    }

    fn open(&self) -> Instruction {
        self.open_of(&self.user, &self.scene.container, 0, self.expires)
    }

    /// What the indexer is to sign.
    fn message(&self) -> Vec<u8> {
        let (user, container) = (self.user.key.pubkey(), self.scene.container);
        let (id, expires) = (self.indexer.id, self.expires);
        Match { genesis_hash: &GENESIS_HASH, indexer: id, user: &user, container: &container, nonce: 0, expires }.message()
    }

    fn signed(&self, key: &Key, message: &[u8]) -> Instruction {
        ed25519(&key.pubkey().to_bytes(), key.sign_message(message).as_ref(), message)
    }

    /// The indexer's own signature on this match.
    fn sign(&self) -> Instruction {
        self.signed(&self.indexer.operator, &self.message())
    }

    #[track_caller]
    fn refused(&mut self, all: &[Instruction], name: &str) {
        let before = self.scene.stage.world.fingerprint();
        let user = self.user.key.clone();
        match self.scene.world().send(all, &[&user]) {
            Ok(done) => panic!("{name} was expected, but it was done: {:#?}", done.logs),
            Err(failure) => assert_eq!(failure.name, name, "{:#?}", failure.logs),
        }
        assert_eq!(self.scene.stage.world.fingerprint(), before);
    }

    #[track_caller]
    fn done(&mut self, all: &[Instruction]) {
        let user = self.user.key.clone();
        self.scene.world().must(all, &[&user]);
        self.scene.stage.world.check_books();
    }

    fn indexer_account(&self) -> IndexerAccount {
        self.scene.stage.world.read(&addresses::indexer(self.indexer.id))
    }
}

/// The native program's head for one signature: where signature, key and message lie, and in which instruction.
fn head(signature: [u16; 2], key: [u16; 2], message: [u16; 3]) -> Vec<u8> {
    let fields = [signature[0], signature[1], key[0], key[1], message[0], message[1], message[2]];
    let mut head = vec![1, 0];
    head.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
    head
}

fn native(data: Vec<u8>) -> Instruction {
    Instruction { program_id: datagalax::instructions::ED25519_ID, accounts: vec![], data }
}

const HERE: u16 = u16::MAX;

#[test]
fn a_signed_match_names_the_indexer() {
    let mut matched = Matched::new();
    let (sign, open) = (matched.sign(), matched.open());
    // Anything may come before the two, and after them.
    let budget = compute_budget(200_000);
    matched.done(&[budget[0].clone(), sign, open, budget[1].clone()]);
    let lease = matched.scene.lease(&addresses::lease(&matched.user.key.pubkey(), 0));
    assert_eq!((lease.indexer, lease.indexer_share_bps), (matched.indexer.id, 1_000));
    let account = matched.indexer_account();
    assert_eq!((account.open_leases, account.matched, account.due), (1, 1, 0));
    // Rejected, nothing is open any more; the match still counts.
    let (operator, address) = (matched.scene.operator.clone(), addresses::lease(&matched.user.key.pubkey(), 0));
    let mut without = instructions::reject_lease(matched.scene.world(), &operator.pubkey(), &address, 0);
    let reject = without.clone();
    without.accounts[3].pubkey = datagalax::ID;
    without.accounts[3].is_writable = false;
    matched.scene.world().refused(without, &[&operator], "WrongAccount");
    matched.scene.world().must(&[reject], &[&operator]);
    assert_eq!((matched.indexer_account().open_leases, matched.indexer_account().matched), (0, 1));
    matched.scene.stage.world.check_books();
}

/// What indexers in other languages sign: tag, genesis hash, program, indexer, user, container, nonce, expiry.
#[test]
fn the_message_is_what_the_protocol_says() {
    let matched = Matched::new();
    let user = matched.user.key.pubkey();
    let expected = [
        b"datagalax:match:v1".as_slice(),
        &GENESIS_HASH,
        datagalax::ID.as_ref(),
        &matched.indexer.id.to_le_bytes(),
        user.as_ref(),
        matched.scene.container.as_ref(),
        &0u64.to_le_bytes(),
        &matched.expires.to_le_bytes(),
    ];
    assert_eq!(matched.message(), expected.concat());
}

#[test]
fn the_native_program_checks_the_signature() {
    let mut matched = Matched::new();
    let message = matched.message();
    let thief = matched.scene.world().actor("thief");
    // The indexer's key beside another's signature: the network refuses the whole transaction.
    let forged = ed25519(&matched.indexer.operator.pubkey().to_bytes(), thief.sign_message(&message).as_ref(), &message);
    let open = matched.open();
    let user = matched.user.key.clone();
    let failure = matched.scene.world().send(&[forged, open], &[&user]).expect_err("a forged signature");
    let program = datagalax::ID.to_string();
    assert!(failure.logs.iter().all(|line| !line.contains(&program)), "the program never ran: {:?}", failure.logs);
    assert!(matched.scene.stage.world.try_account(&addresses::lease(&user.pubkey(), 0)).is_none());
}

#[test]
fn the_signature_must_come_directly_before() {
    let mut matched = Matched::new();
    let (sign, open) = (matched.sign(), matched.open());
    let between = compute_budget(200_000)[0].clone();
    matched.refused(std::slice::from_ref(&open), "MatchMissing");
    matched.refused(&[sign.clone(), between, open.clone()], "MatchMissing");
    matched.refused(&[open.clone(), sign.clone()], "MatchMissing");
    matched.done(&[sign, open]);
}

#[test]
fn the_list_of_instructions_is_the_sysvar_and_no_forgery() {
    let mut matched = Matched::new();
    let (sign, open) = (matched.sign(), matched.open());
    // A list that says that the signature was checked: two instructions, ours the second.
    let mut list = vec![2, 0, 6, 0, 0, 0];
    list.extend(0u16.to_le_bytes());
    list.extend(datagalax::instructions::ED25519_ID.as_ref());
    list.extend((sign.data.len() as u16).to_le_bytes());
    list.extend(&sign.data);
    list.extend(1u16.to_le_bytes());
    let forged = address_of(&[b"forged sysvar"]);
    for owner in [datagalax::ID, address_of(&[b"a program"]), INSTRUCTIONS] {
        matched.scene.world().put(forged, owner, list.clone());
        let mut with_forged = open.clone();
        with_forged.accounts[6].pubkey = forged;
        matched.refused(std::slice::from_ref(&with_forged), "WrongAccount");
        matched.refused(&[sign.clone(), with_forged], "WrongAccount");
    }
    let mut without = open.clone();
    without.accounts[6].pubkey = datagalax::ID;
    matched.refused(&[sign.clone(), without], "MatchMissing");
    matched.done(&[sign, open]);
}

#[test]
fn a_signature_is_good_for_an_hour_at_most_and_until_it_expires() {
    for (ahead, name) in [
        (-1, Some("MatchMismatch")),
        (0, None),
        (3_600, None),
        (3_601, Some("MatchMismatch")),
        (i64::MAX / 2, Some("MatchMismatch")),
    ] {
        let mut matched = Matched::new();
        matched.expires = matched.scene.stage.world.now() + ahead;
        let all = [matched.sign(), matched.open()];
        match name {
            Some(name) => matched.refused(&all, name),
            None => matched.done(&all),
        }
    }
    // Signed in time, used a second too late.
    let mut matched = Matched::new();
    let all = [matched.sign(), matched.open()];
    let expires = matched.expires;
    matched.scene.world().set_time(expires + 1);
    matched.refused(&all, "MatchMismatch");
    matched.scene.world().set_time(expires);
    matched.done(&all);
}

#[test]
fn a_signature_is_good_for_one_lease_of_one_user_and_container() {
    let mut matched = Matched::new();
    let other = matched.scene.world().user();
    let second = addresses::container(matched.scene.provider().id, &fingerprint(1));
    let (sign, container, expires) = (matched.sign(), matched.scene.container, matched.expires);
    // Replayed for another nonce, container or expiry.
    for open in [
        matched.open_of(&matched.user, &container, 1, expires),
        matched.open_of(&matched.user, &second, 0, expires),
        matched.open_of(&matched.user, &container, 0, expires + 1),
    ] {
        matched.refused(&[sign.clone(), open], "MatchMismatch");
    }
    // By another user, who saw it.
    let open = matched.open_of(&other, &container, 0, expires);
    let failure = matched.scene.world().send(&[sign.clone(), open], &[&other.key]).expect_err("another's match");
    assert_eq!(failure.name, "MatchMismatch");

    // Twice.
    let open = matched.open();
    matched.done(&[sign.clone(), open.clone()]);
    matched.refused(&[sign.clone(), open.clone()], "ContainerLeased");
    let (operator, lease) = (matched.scene.operator.clone(), addresses::lease(&matched.user.key.pubkey(), 0));
    let reject = instructions::reject_lease(matched.scene.world(), &operator.pubkey(), &lease, 0);
    matched.scene.world().must(&[reject], &[&operator]);
    matched.refused(&[sign, open], "AlreadyExists");
}

#[test]
fn a_signature_on_anything_else_is_refused() {
    let mut matched = Matched::new();
    let (user, container, expires) = (matched.user.key.pubkey(), matched.scene.container, matched.expires);
    let id = matched.indexer.id;
    let base = Match { genesis_hash: &GENESIS_HASH, indexer: id, user: &user, container: &container, nonce: 0, expires };
    let right = base.message();
    let mut wrong: Vec<Vec<u8>> = vec![
        Match { genesis_hash: &[8; 32], ..base }.message(),
        Match { indexer: id + 1, ..base }.message(),
        Match { user: &container, ..base }.message(),
        Match { container: &user, ..base }.message(),
        Match { nonce: 1, ..base }.message(),
        Match { expires: expires - 1, ..base }.message(),
        right[..right.len() - 1].to_vec(),
        [&right[..], &[0]].concat(),
        vec![],
    ];
    // Every byte of tag and program counts as well.
    for byte in 0..18 + 64 {
        let mut changed = right.clone();
        changed[byte] ^= 1;
        wrong.push(changed);
    }
    let open = matched.open();
    for message in wrong {
        let sign = matched.signed(&matched.indexer.operator, &message);
        matched.refused(&[sign, open.clone()], "MatchMismatch");
    }

    // The right message under a key that is not the indexer's: its owner's, the user's, another indexer's.
    let other = matched.scene.world().indexer();
    for key in [matched.indexer.owner.clone(), matched.user.key.clone(), other.operator.clone()] {
        let sign = matched.signed(&key, &right);
        matched.refused(&[sign, open.clone()], "MatchMismatch");
    }
    // Another indexer named in the accounts.
    let mut named = open.clone();
    named.accounts[5].pubkey = addresses::indexer(other.id);
    let sign = matched.sign();
    matched.refused(&[sign.clone(), named], "MatchMismatch");
    // A key that was rotated away.
    let mut rotated =
        Matched { scene: matched.scene.clone(), indexer: matched.indexer.clone(), user: matched.user.clone(), expires };
    let next = rotated.scene.world().actor("next operator");
    let party = addresses::indexer(id);
    let rotate = instructions::rotate_keys(&rotated.indexer.owner.pubkey(), &party, &next.pubkey(), &rotated.indexer.payout);
    let owner = rotated.indexer.owner.clone();
    rotated.scene.world().must(&[rotate], &[&owner]);
    rotated.refused(&[sign.clone(), open.clone()], "MatchMismatch");
    let sign_anew = rotated.signed(&next, &right);
    rotated.done(&[sign_anew, open.clone()]);
    matched.done(&[sign, open]);
}

/// Attack: leave an offset or an instruction index of the native program's head free. It then checks one signature, and the
/// bytes where ours are expected are never checked.
#[test]
fn offsets_and_indices_point_into_the_instruction_itself() {
    let mut matched = Matched::new();
    let thief = matched.scene.world().actor("thief");
    let right = matched.message();
    let length = right.len() as u16;
    let operator = matched.indexer.operator.clone();
    let open = matched.open();
    // What the program looks at: the operator's key and the right message, with a signature that is none.
    let shown = [&operator.pubkey().to_bytes()[..], &[0; 64], &right].concat();
    // What the native program is made to look at: the thief's own signature.
    let own = matched.signed(&thief, &right);
    // A signature of the operator's for another lease.
    let mut other_message = right.clone();
    other_message[18 + 64 + 4 + 64] ^= 1;
    let other = matched.signed(&operator, &other_message);

    // By index: signature, key and message lie in the first instruction, where the thief signed.
    let by_index = native([head([48, 0], [16, 0], [112, length, 0]), shown.clone()].concat());
    // Key and signature there, the message here.
    let by_key = native([head([48, 0], [16, 0], [112, length, HERE]), shown.clone()].concat());
    // The operator's own signature for another lease here, its message there.
    let operators = [&operator.pubkey().to_bytes()[..], &other.data[48..112], &right].concat();
    let by_message = native([head([48, HERE], [16, HERE], [112, length, 0]), operators].concat());
    // By index to itself: harmless, and refused all the same.
    let itself = native([head([48, 1], [16, 1], [112, length, 1]), matched.sign().data[16..].to_vec()].concat());
    for (carrier, trick) in [(&own, &by_index), (&own, &by_key), (&other, &by_message), (&own, &itself)] {
        // The native program takes it; alone it is a valid transaction.
        matched.scene.clone().world().must(&[carrier.clone(), trick.clone()], &[]);
        matched.refused(&[carrier.clone(), trick.clone(), open.clone()], "MatchMismatch");
    }

    // By offset: the thief's key, signature and message lie behind the bytes that are shown.
    let behind = 16 + shown.len() as u16;
    let by_offset = native(
        [head([behind + 32, HERE], [behind, HERE], [behind + 96, length, HERE]), shown, own.data[16..].to_vec()].concat(),
    );
    // Only a part of the message is signed.
    let part = operator.sign_message(&right[..40]);
    let by_length = native(
        [
            head([48, HERE], [16, HERE], [112, 40, HERE]),
            operator.pubkey().to_bytes().to_vec(),
            part.as_ref().to_vec(),
            right.clone(),
        ]
        .concat(),
    );
    // The byte beside the count, which the native program does not look at; two signatures.
    let mut padded = matched.sign();
    padded.data[1] = 1;
    let mut none = matched.sign();
    none.data[0] = 0;
    for trick in [by_offset, by_length, padded] {
        matched.scene.clone().world().must(std::slice::from_ref(&trick), &[]);
        matched.refused(&[trick, open.clone()], "MatchMismatch");
    }
    let user = matched.user.key.clone();
    assert!(matched.scene.world().send(&[none, open.clone()], &[&user]).is_err(), "no signature at all");
    let sign = matched.sign();
    matched.done(&[sign, open]);
}

#[test]
fn an_indexer_that_leaves_matches_nobody() {
    let mut matched = Matched::new();
    let (sign, open) = (matched.sign(), matched.open());
    let owner = matched.indexer.owner.clone();
    let leave = instructions::leave_indexer(&matched.indexer);
    matched.scene.world().must(&[leave], &[&owner]);
    matched.refused(&[sign.clone(), open], "IndexerLeaving");
    // The user opens the lease all the same, without one.
    let without = matched.scene.open_by(&matched.user, 0, 600);
    matched.done(&[sign, without]);
    let lease = matched.scene.lease(&addresses::lease(&matched.user.key.pubkey(), 0));
    assert_eq!((lease.indexer, lease.indexer_share_bps), (datagalax::constants::NONE, 0));
}

#[test]
fn open_lease_with_a_match_refuses() {
    let matched = Matched::new();
    let (before, open) = (vec![matched.sign()], matched.open());
    Call { before, ..Call::new(matched.scene.stage.world, open, &[&matched.user.key]) }.check();
}
