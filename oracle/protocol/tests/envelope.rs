//! Signing and refusing, one refusal at a time.

use datagalax_protocol::{
    Context, Envelope, Expected, LivenessRequest, Malformed, Refusal, SampleRequest,
    beacon::{MAX_SAMPLED_ROWS, RowAt, WalkAt},
    envelope::{MAX_AGE, MAX_AHEAD, MAX_MESSAGE, SignError},
};
use proptest::prelude::*;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

const NOW: i64 = 1_700_000_000;

fn key() -> Keypair {
    Keypair::new_from_array([7; 32])
}

fn context() -> Context {
    Context { genesis_hash: [1; 32], program: Pubkey::from([2; 32]), subject: Pubkey::from([3; 32]), epoch: 4 }
}

fn sample_request() -> SampleRequest {
    SampleRequest { root: [9; 32], rows: rows([1, 5]), walks: vec![WalkAt { device: 0, walker: 3 }] }
}

fn rows(rows: impl IntoIterator<Item = u32>) -> Vec<RowAt> {
    rows.into_iter().map(|row| RowAt { device: 0, pass: 0, row }).collect()
}

fn sealed() -> Envelope {
    Envelope::sign(&context(), &sample_request(), [5; 16], NOW, &key()).unwrap()
}

fn check(envelope: &Envelope, context: Context, now: i64, nonce: Option<[u8; 16]>) -> Result<SampleRequest, Refusal> {
    envelope.verify(&Expected { context, nonce, signers: &[Pubkey::from([8; 32]), key().pubkey()], now })
}

#[test]
fn what_was_signed_is_read_back() {
    let envelope = Envelope::decode(&sealed().encode()).unwrap();
    assert_eq!(check(&envelope, context(), NOW, None), Ok(sample_request()));
    assert_eq!(check(&envelope, context(), NOW, Some([5; 16])), Ok(sample_request()));
    assert_eq!(check(&envelope, context(), NOW + i64::from(MAX_AGE), None), Ok(sample_request()));
    assert_eq!(check(&envelope, context(), NOW - i64::from(MAX_AHEAD), None), Ok(sample_request()));
}

#[test]
fn every_mismatch_has_its_own_name() {
    let e = sealed();
    let c = context();
    let refusal = |context| check(&e, context, NOW, None).unwrap_err();
    assert_eq!(refusal(Context { genesis_hash: [0; 32], ..c }), Refusal::WrongCluster);
    assert_eq!(refusal(Context { program: Pubkey::default(), ..c }), Refusal::WrongProgram(c.program));
    assert_eq!(refusal(Context { subject: Pubkey::default(), ..c }), Refusal::WrongSubject(c.subject));
    assert_eq!(refusal(Context { epoch: 5, ..c }), Refusal::WrongEpoch { found: 4, expected: 5 });
    assert_eq!(check(&e, c, NOW, Some([6; 16])), Err(Refusal::WrongNonce));
    assert_eq!(check(&e, c, NOW + 31, None), Err(Refusal::TooOld(31)));
    assert_eq!(check(&e, c, NOW - 31, None), Err(Refusal::TooNew(31)));
    let stranger = Expected { context: c, nonce: None, signers: &[Pubkey::default()], now: NOW };
    assert_eq!(e.verify::<SampleRequest>(&stranger), Err(Refusal::WrongKey(key().pubkey())));
    let domain = e.verify::<LivenessRequest>(&Expected { signers: &[key().pubkey()], ..stranger });
    assert!(matches!(domain, Err(Refusal::WrongDomain { found: 9, .. })), "{domain:?}");
    let version = Envelope { version: 2, ..e };
    assert_eq!(check(&version, c, NOW, None), Err(Refusal::Malformed(Malformed::Version(2))));
}

#[test]
fn clocks_at_the_ends_of_time_do_not_overflow() {
    for (issued_at, now) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN, 0), (0, i64::MIN)] {
        let e = Envelope::sign(&context(), &sample_request(), [5; 16], issued_at, &key()).unwrap();
        let result = check(&e, context(), now, None);
        assert!(matches!(result, Err(Refusal::TooOld(_) | Refusal::TooNew(_))), "{result:?}");
    }
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    assert_eq!(Envelope::decode(&[]), Err(Malformed::Empty));
    assert_eq!(Envelope::decode(&[9; 40]), Err(Malformed::Version(9)));
    assert_eq!(Envelope::decode(&vec![1; MAX_MESSAGE + 1]), Err(Malformed::TooLong(MAX_MESSAGE + 1)));
    let mut long = sealed().encode();
    long.push(0);
    assert!(matches!(Envelope::decode(&long), Err(Malformed::Encoding(_))));
    // A payload that claims four gigabytes allocates nothing and fails.
    let mut claims = sealed().encode();
    let at = 1 + 1 + 32 + 32 + 32 + 4 + 16 + 8;
    claims[at..at + 4].fill(0xff);
    assert!(matches!(Envelope::decode(&claims), Err(Malformed::Encoding(_))));
}

#[test]
fn payloads_out_of_range_are_neither_signed_nor_accepted() {
    for bad in [rows([]), rows([2, 1]), rows([1, 1]), rows(0..=MAX_SAMPLED_ROWS as u32)] {
        let bad = SampleRequest { rows: bad, ..sample_request() };
        let signed = Envelope::sign(&context(), &bad, [0; 16], NOW, &key());
        assert!(matches!(signed, Err(SignError::Malformed(Malformed::OutOfRange("rows")))), "{signed:?}");
        // A sender that does not check.
        let mut forged = sealed();
        forged.payload = borsh::to_vec(&bad).unwrap();
        forged.signature = key().sign_message(&forged.signed_bytes()).into();
        assert_eq!(check(&forged, context(), NOW, None), Err(Malformed::OutOfRange("rows").into()));
    }
}

#[test]
fn a_signed_message_is_no_transaction() {
    // The first byte of a transaction message is its version with the top bit set, or a count of signatures below 128.
    assert_eq!(sealed().signed_bytes()[0], 0xff);
}

proptest! {
    #[test]
    fn any_changed_bit_is_refused(bit in 0usize..8 * 320) {
        let mut bytes = sealed().encode();
        let bit = bit % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        let accepted = Envelope::decode(&bytes).map_err(Refusal::from).and_then(|e| check(&e, context(), NOW, Some([5; 16])));
        prop_assert!(accepted.is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), first in 0u8..3) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert_eq!(envelope.encode(), bytes, "canonical");
            prop_assert!(check(&envelope, context(), NOW, None).is_err());
        }
    }

    #[test]
    fn an_answer_names_one_request(a in any::<[u8; 16]>(), b in any::<[u8; 16]>()) {
        prop_assume!(a != b);
        let sign = |nonce| Envelope::sign(&context(), &LivenessRequest, nonce, NOW, &key()).unwrap().digest();
        prop_assert_ne!(sign(a), sign(b));
    }
}
