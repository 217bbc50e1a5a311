//! What holds for every kind of message, tried on the committed vector of each.

use std::{collections::BTreeMap, sync::LazyLock};

use borsh::{BorshDeserialize, BorshSerialize};
use datagalax_protocol::{
    BeaconAnswer, BeaconRequest, Context, Envelope, Expected, InspectionAnswer, InspectionRequest, LivenessAnswer,
    LivenessRequest, Malformed, Payload, ReachableAnswer, ReachableRequest, Refusal, RelayHello, SampleAnswer,
    SampleRequest,
    envelope::{Domain, MAX_AGE, MAX_AHEAD},
    lease::{SessionAnswer, SessionRequest, WorkloadAnswer, WorkloadRequest},
};
use proptest::prelude::*;
use serde_json::Value;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// When the vectors were signed.
const NOW: i64 = 1_700_000_000;

/// Verifies as one kind and encodes the payload anew.
type Read = fn(&Envelope, &Expected<'_>) -> Result<Vec<u8>, Refusal>;

fn read<P: Payload + BorshSerialize + BorshDeserialize>(
    envelope: &Envelope,
    expected: &Expected<'_>,
) -> Result<Vec<u8>, Refusal> {
    envelope.verify::<P>(expected).map(|payload| borsh::to_vec(&payload).unwrap())
}

/// Every kind: its name in the vectors, and how it is read. Without a wildcard: a new kind does not compile until it is here.
fn kind(domain: Domain) -> (&'static str, Read) {
    match domain {
        Domain::LivenessRequest => ("LivenessRequest", read::<LivenessRequest>),
        Domain::LivenessAnswer => ("LivenessAnswer", read::<LivenessAnswer>),
        Domain::BeaconRequest => ("BeaconRequest", read::<BeaconRequest>),
        Domain::BeaconAnswer => ("BeaconAnswer", read::<BeaconAnswer>),
        Domain::SampleRequest => ("SampleRequest", read::<SampleRequest>),
        Domain::SampleAnswer => ("SampleAnswer", read::<SampleAnswer>),
        Domain::InspectionRequest => ("InspectionRequest", read::<InspectionRequest>),
        Domain::InspectionAnswer => ("InspectionAnswer", read::<InspectionAnswer>),
        Domain::RelayHello => ("RelayHello", read::<RelayHello>),
        Domain::ReachableRequest => ("ReachableRequest", read::<ReachableRequest>),
        Domain::ReachableAnswer => ("ReachableAnswer", read::<ReachableAnswer>),
        Domain::WorkloadRequest => ("WorkloadRequest", read::<WorkloadRequest>),
        Domain::WorkloadAnswer => ("WorkloadAnswer", read::<WorkloadAnswer>),
        Domain::SessionRequest => ("SessionRequest", read::<SessionRequest>),
        Domain::SessionAnswer => ("SessionAnswer", read::<SessionAnswer>),
    }
}

const KINDS: [Domain; 15] = [
    Domain::LivenessRequest,
    Domain::LivenessAnswer,
    Domain::BeaconRequest,
    Domain::BeaconAnswer,
    Domain::SampleRequest,
    Domain::SampleAnswer,
    Domain::InspectionRequest,
    Domain::InspectionAnswer,
    Domain::RelayHello,
    Domain::ReachableRequest,
    Domain::ReachableAnswer,
    Domain::WorkloadRequest,
    Domain::WorkloadAnswer,
    Domain::SessionRequest,
    Domain::SessionAnswer,
];

fn key() -> Keypair {
    Keypair::new_from_array([7; 32])
}

fn context() -> Context {
    Context { genesis_hash: [1; 32], program: Pubkey::from([2; 32]), subject: Pubkey::from([3; 32]), epoch: 4 }
}

fn vectors() -> Vec<(Domain, Read, Envelope)> {
    static ALL: LazyLock<Vec<(Domain, Read, Envelope)>> = LazyLock::new(committed);
    ALL.clone()
}

fn committed() -> Vec<(Domain, Read, Envelope)> {
    let committed: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let encoded: BTreeMap<&str, &str> = committed["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["name"].as_str().unwrap(), message["encoded"].as_str().unwrap()))
        .collect();
    let of = |domain: Domain| {
        let (name, read) = kind(domain);
        let bytes = hex::decode(encoded.get(name).unwrap_or_else(|| panic!("{name} has no vector"))).unwrap();
        (domain, read, Envelope::decode(&bytes).unwrap())
    };
    KINDS.into_iter().map(of).collect()
}

fn signed_again(mut envelope: Envelope) -> Envelope {
    envelope.signature = key().sign_message(&envelope.signed_bytes()).into();
    envelope
}

fn accepted(read: Read, envelope: &Envelope) -> Result<Vec<u8>, Refusal> {
    read(envelope, &Expected { context: context(), nonce: Some([5; 16]), signers: &[key().pubkey()], now: NOW })
}

#[test]
fn every_kind_has_a_vector_and_a_number_of_its_own() {
    // 3 to 6 belonged to a challenge that is gone, and stay unused.
    let numbers: Vec<u8> = [1, 2].into_iter().chain(7..=19).collect();
    assert_eq!(numbers, KINDS.map(|domain| domain as u8));
    for (domain, read, envelope) in vectors() {
        assert_eq!(envelope.domain, domain as u8);
        assert_eq!(accepted(read, &envelope).as_ref(), Ok(&envelope.payload), "{domain:?}");
    }
}

#[test]
fn every_kind_is_refused_as_any_other() {
    for (domain, _, envelope) in vectors() {
        for other in KINDS.into_iter().filter(|other| *other != domain) {
            let refused = accepted(kind(other).1, &envelope);
            assert_eq!(refused, Err(Refusal::WrongDomain { found: domain as u8, expected: other }));
        }
    }
}

#[test]
fn every_kind_refuses_every_mismatch_by_name() {
    let other = Pubkey::from([9; 32]);
    for (domain, read, envelope) in vectors() {
        let signers = [key().pubkey()];
        let sound = Expected { context: context(), nonce: Some([5; 16]), signers: &signers, now: NOW };
        let refusal = |expected: Expected<'_>| read(&envelope, &expected).expect_err(&format!("{domain:?}"));
        let about = |context| refusal(Expected { context, ..sound });
        assert_eq!(about(Context { genesis_hash: [9; 32], ..context() }), Refusal::WrongCluster);
        assert_eq!(about(Context { program: other, ..context() }), Refusal::WrongProgram(context().program));
        assert_eq!(about(Context { subject: other, ..context() }), Refusal::WrongSubject(context().subject));
        assert_eq!(about(Context { epoch: 3, ..context() }), Refusal::WrongEpoch { found: 4, expected: 3 });
        assert_eq!(refusal(Expected { nonce: Some([6; 16]), ..sound }), Refusal::WrongNonce);
        let (late, early) = (i64::from(MAX_AGE) + 1, i64::from(MAX_AHEAD) + 1);
        assert_eq!(refusal(Expected { now: NOW + late, ..sound }), Refusal::TooOld(late));
        assert_eq!(refusal(Expected { now: NOW - early, ..sound }), Refusal::TooNew(early));
        assert_eq!(refusal(Expected { signers: &[other], ..sound }), Refusal::WrongKey(key().pubkey()));
        assert_eq!(refusal(Expected { signers: &[], ..sound }), Refusal::WrongKey(key().pubkey()));
        // Somebody else's signature under the right name, and none.
        let forged = Keypair::new_from_array([8; 32]).sign_message(&envelope.signed_bytes()).into();
        for signature in [forged, [0; 64]] {
            let forged = Envelope { signature, ..envelope.clone() };
            assert_eq!(accepted(read, &forged), Err(Refusal::WrongSignature), "{domain:?}");
        }
    }
}

#[test]
fn every_payload_with_bytes_too_many_or_too_few_is_refused_though_it_is_signed() {
    for (domain, read, envelope) in vectors() {
        for extra in [vec![0], vec![0xff; 9]] {
            let payload = [envelope.payload.clone(), extra].concat();
            let refused = accepted(read, &signed_again(Envelope { payload, ..envelope.clone() }));
            assert!(matches!(refused, Err(Refusal::Malformed(Malformed::Encoding(_)))), "{domain:?}: {refused:?}");
        }
        // Some two dozen lengths of each, the last one among them: signing takes its time.
        let all = envelope.payload.len();
        for length in (0..all).rev().step_by(all / 24 + 1) {
            let payload = envelope.payload[..length].to_vec();
            let refused = accepted(read, &signed_again(Envelope { payload, ..envelope.clone() }));
            assert!(matches!(refused, Err(Refusal::Malformed(_))), "{domain:?} of {length} bytes: {refused:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One value has one encoding: whatever bytes a signer puts in, they are refused or come out the same.
    #[test]
    fn every_payload_is_canonical(
        kind in 0..KINDS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (domain, read, mut envelope) = vectors().swap_remove(kind);
        if !envelope.payload.is_empty() {
            for (at, byte) in changes {
                let at = at.index(envelope.payload.len());
                envelope.payload[at] = byte;
            }
        }
        let envelope = signed_again(envelope);
        prop_assert_eq!(&Envelope::decode(&envelope.encode()).unwrap(), &envelope);
        match accepted(read, &envelope) {
            Ok(again) => prop_assert_eq!(again, envelope.payload, "{:?}", domain),
            Err(Refusal::Malformed(_)) => {}
            Err(other) => prop_assert!(false, "{domain:?}: {other}"),
        }
    }
}
