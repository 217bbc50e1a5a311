//! The envelope around every message: who says what to whom, about which container, in which epoch, on which cluster.

use borsh::{BorshDeserialize, BorshSerialize};
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_signer::{Signer, SignerError};
use thiserror::Error;

use crate::{Digest, sha256};

/// Version of the envelope and of every payload.
pub const VERSION: u8 = 1;
/// Longest encoded message in bytes, in both directions. Senders and receivers refuse more before they decode anything.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Oldest message accepted, in seconds by the receiver's clock.
pub const MAX_AGE: u32 = 30;
/// Furthest in the future that a message may be dated, in seconds by the receiver's clock.
pub const MAX_AHEAD: u32 = 30;

/// First bytes of everything that is signed. 0xff cannot begin a Solana transaction (it would be version 127), so no message
/// can ever be taken for a transaction of the same key, nor the other way round.
const PREFIX: &[u8] = b"\xffdatagalax:message:v1";

/// A number the asker chose at random and used once; the answer repeats it.
pub type Nonce = [u8; 16];

/// What kind of message an envelope holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Domain {
    /// [`crate::LivenessRequest`]
    LivenessRequest = 1,
    /// [`crate::LivenessAnswer`]
    LivenessAnswer = 2,
    // 3 to 6 were the challenge of one product, before beacons. They are never given to another kind, so that what was signed
    // under them cannot be taken for it.
    /// [`crate::BeaconRequest`]
    BeaconRequest = 7,
    /// [`crate::BeaconAnswer`]
    BeaconAnswer = 8,
    /// [`crate::SampleRequest`]
    SampleRequest = 9,
    /// [`crate::SampleAnswer`]
    SampleAnswer = 10,
    /// [`crate::InspectionRequest`]
    InspectionRequest = 11,
    /// [`crate::InspectionAnswer`]
    InspectionAnswer = 12,
    /// [`crate::RelayHello`]
    RelayHello = 13,
    /// [`crate::ReachableRequest`]
    ReachableRequest = 14,
    /// [`crate::ReachableAnswer`]
    ReachableAnswer = 15,
    /// [`crate::lease::WorkloadRequest`]
    WorkloadRequest = 16,
    /// [`crate::lease::WorkloadAnswer`]
    WorkloadAnswer = 17,
    /// [`crate::lease::SessionRequest`]
    SessionRequest = 18,
    /// [`crate::lease::SessionAnswer`]
    SessionAnswer = 19,
}

/// A message that an envelope can carry.
pub trait Payload: BorshSerialize + BorshDeserialize {
    /// Separates this message from every other kind.
    const DOMAIN: Domain;

    /// Refuses values out of the documented ranges. Called before signing and after verifying.
    ///
    /// # Errors
    /// [`Malformed::OutOfRange`] with the name of the field.
    fn check(&self) -> Result<(), Malformed> {
        Ok(())
    }
}

/// What a message is about; asker and answerer must agree on all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The cluster.
    pub genesis_hash: Digest,
    /// The on-chain program.
    pub program: Pubkey,
    /// The container's account.
    pub subject: Pubkey,
    /// The epoch.
    pub epoch: u32,
}

/// Why bytes are no message at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Longer than [`MAX_MESSAGE`].
    #[error("the message has {0} bytes, more than the {MAX_MESSAGE} allowed")]
    TooLong(usize),
    /// No bytes.
    #[error("the message is empty")]
    Empty,
    /// Another version; the sender and the receiver run different releases.
    #[error("the message has version {0}, this release speaks version {VERSION}: update the older side")]
    Version(u8),
    /// Not borsh of the expected type, or bytes were left over.
    #[error("the message does not decode: {0}")]
    Encoding(String),
    /// A field is out of its documented range.
    #[error("field {0} is out of range")]
    OutOfRange(&'static str),
}

/// Why a decoded message is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Another kind of message.
    #[error("the message is of kind {found}, expected {expected:?}")]
    WrongDomain {
        /// The number in the message.
        found: u8,
        /// The kind that belongs here.
        expected: Domain,
    },
    /// Another cluster.
    #[error("the message is for another cluster (genesis hash)")]
    WrongCluster,
    /// Another program.
    #[error("the message is for program {0}")]
    WrongProgram(Pubkey),
    /// Another container.
    #[error("the message is about container {0}")]
    WrongSubject(Pubkey),
    /// Another epoch.
    #[error("the message is of epoch {found}, expected {expected}")]
    WrongEpoch {
        /// The epoch in the message.
        found: u32,
        /// The current one.
        expected: u32,
    },
    /// An answer to another question.
    #[error("the answer does not repeat the nonce of the request")]
    WrongNonce,
    /// Older than allowed.
    #[error("the message is {0} seconds old: check both clocks")]
    TooOld(i64),
    /// Dated in the future.
    #[error("the message is dated {0} seconds in the future: check both clocks")]
    TooNew(i64),
    /// Signed by somebody who has no say here.
    #[error("key {0} has no say here")]
    WrongKey(Pubkey),
    /// The signature does not belong to this message and key.
    #[error("the signature is wrong")]
    WrongSignature,
    /// An answer to another request of the same checker.
    #[error("the answer is to another request")]
    WrongRequest,
}

/// A signed message.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Envelope {
    /// [`VERSION`]; the first byte of the encoding, in this and every later version.
    pub version: u8,
    /// The kind of message, a [`Domain`].
    pub domain: u8,
    /// The cluster's genesis hash.
    pub genesis_hash: Digest,
    /// The on-chain program's address.
    pub program: [u8; 32],
    /// The container account's address.
    pub subject: [u8; 32],
    /// The epoch.
    pub epoch: u32,
    /// Random in a request, repeated in its answer.
    pub nonce: Nonce,
    /// The sender's clock when it signed, unix seconds.
    pub issued_at: i64,
    /// Borsh of the payload, read only after the signature was checked.
    pub payload: Vec<u8>,
    /// The sender's operator key.
    pub signer: [u8; 32],
    /// ed25519 by `signer` over [`Envelope::signed_bytes`].
    pub signature: [u8; 64],
}

/// What the receiver of a message insists on.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// What the message must be about.
    pub context: Context,
    /// The nonce that must be repeated; `None` for a request, whose nonce is the asker's to choose.
    pub nonce: Option<Nonce>,
    /// The keys that have a say.
    pub signers: &'a [Pubkey],
    /// The receiver's clock, unix seconds.
    pub now: i64,
}

impl Envelope {
    /// Signs a payload.
    ///
    /// # Errors
    /// The payload is out of range, or too long.
    pub fn sign<P: Payload>(
        context: &Context,
        payload: &P,
        nonce: Nonce,
        issued_at: i64,
        key: &dyn Signer,
    ) -> Result<Self, SignError> {
        payload.check()?;
        let payload = borsh::to_vec(payload).map_err(|e| Malformed::Encoding(e.to_string()))?;
        let mut envelope = Self {
            version: VERSION,
            domain: P::DOMAIN as u8,
            genesis_hash: context.genesis_hash,
            program: context.program.to_bytes(),
            subject: context.subject.to_bytes(),
            epoch: context.epoch,
            nonce,
            issued_at,
            payload,
            signer: key.try_pubkey()?.to_bytes(),
            signature: [0; 64],
        };
        envelope.signature = key.try_sign_message(&envelope.signed_bytes())?.into();
        let length = envelope.encode().len();
        if length > MAX_MESSAGE {
            return Err(Malformed::TooLong(length).into());
        }
        Ok(envelope)
    }

    /// Checks everything the receiver insists on, cheapest first, and the payload only once it is known to be the signer's.
    ///
    /// # Errors
    /// The first thing that is wrong, by name.
    pub fn verify<P: Payload>(&self, expected: &Expected<'_>) -> Result<P, Refusal> {
        let Expected { context, nonce, signers, now } = expected;
        if self.version != VERSION {
            return Err(Malformed::Version(self.version).into());
        }
        if self.domain != P::DOMAIN as u8 {
            return Err(Refusal::WrongDomain { found: self.domain, expected: P::DOMAIN });
        }
        if self.genesis_hash != context.genesis_hash {
            return Err(Refusal::WrongCluster);
        }
        if self.program != context.program.to_bytes() {
            return Err(Refusal::WrongProgram(self.program.into()));
        }
        if self.subject != context.subject.to_bytes() {
            return Err(Refusal::WrongSubject(self.subject.into()));
        }
        if self.epoch != context.epoch {
            return Err(Refusal::WrongEpoch { found: self.epoch, expected: context.epoch });
        }
        if nonce.is_some_and(|nonce| nonce != self.nonce) {
            return Err(Refusal::WrongNonce);
        }
        let age = now.saturating_sub(self.issued_at);
        if age > i64::from(MAX_AGE) {
            return Err(Refusal::TooOld(age));
        }
        if age < -i64::from(MAX_AHEAD) {
            return Err(Refusal::TooNew(age.saturating_neg()));
        }
        let signer = self.signer();
        if !signers.contains(&signer) {
            return Err(Refusal::WrongKey(signer));
        }
        if !self.signature_holds() {
            return Err(Refusal::WrongSignature);
        }
        let payload = P::try_from_slice(&self.payload).map_err(|e| Malformed::Encoding(e.to_string()))?;
        payload.check()?;
        Ok(payload)
    }

    /// Whether the signature is the signer's over this message (strict: no malleable or small-order encodings).
    pub fn signature_holds(&self) -> bool {
        Signature::from(self.signature).verify(&self.signer, &self.signed_bytes())
    }

    /// The key that claims to have signed.
    pub fn signer(&self) -> Pubkey {
        self.signer.into()
    }

    /// The bytes under the signature: the prefix, then everything in the envelope but the signature itself.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let encoded = self.encode();
        let body = &encoded[..encoded.len() - self.signature.len()];
        [PREFIX, body].concat()
    }

    /// What an answer names as its request: sha256 of the signed bytes. Binds the answer to this very question.
    pub fn digest(&self) -> Digest {
        sha256(&[&self.signed_bytes()])
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        // Writing to a Vec cannot fail, and a payload over 4 GiB cannot be built: `sign` and `decode` bound it.
        borsh::to_vec(self).expect("borsh to memory")
    }

    /// Reads an envelope; nothing in it is trusted before [`Envelope::verify`].
    ///
    /// # Errors
    /// Too long, another version, not an envelope, or bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Malformed::TooLong(bytes.len()));
        }
        match bytes.first() {
            None => Err(Malformed::Empty),
            Some(&VERSION) => Self::try_from_slice(bytes).map_err(|e| Malformed::Encoding(e.to_string())),
            Some(&other) => Err(Malformed::Version(other)),
        }
    }
}

/// Why a message could not be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The payload breaks its own rules.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The key refused (a hardware or remote signer).
    #[error("the key could not sign: {0}")]
    Signer(#[from] SignerError),
}
