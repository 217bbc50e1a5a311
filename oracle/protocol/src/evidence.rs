//! What a checker keeps to show for its vote: the signed messages of every exchange with one container in one epoch.
//!
//! The evidence root of a report is the Merkle root over the encoded [`RowEvidence`] of its occupied rows, by ascending row.
//! After the reveal, which puts the root on chain, a checker serves each row with its way to that root ([`Opening`]); before it
//! the evidence is as secret as the votes.

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::{
    Digest, Envelope,
    merkle::{self, MAX_PROOF, ProofError, Tree},
};

/// Longest reason in bytes; longer ones are cut at a character.
pub const MAX_REASON: usize = 200;
/// Most findings about one row: a host decides how many cards it names.
pub const MAX_FINDINGS: usize = 32;
/// Longest evidence of one row in bytes. A checker leaves out the messages that do not fit, and says so in their place.
pub const MAX_ROW_EVIDENCE: usize = 4 << 20;
/// Longest encoded [`Opening`] in bytes.
pub const MAX_OPENING: usize = MAX_ROW_EVIDENCE + 32 * MAX_PROOF + 64;

/// Path of a checker's evidence server below its address: `GET /v1/evidence/{block}/{epoch}/{seat}/{row}`, all numbers decimal;
/// answers a borsh [`Opening`].
pub fn path(block: u32, epoch: u32, seat: u8, row: u8) -> String {
    format!("/v1/evidence/{block}/{epoch}/{seat}/{row}")
}

/// One question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Exchange {
    /// The checker's clock when it asked, unix milliseconds.
    pub asked_at_ms: i64,
    /// Microseconds until the whole answer was there, or until it was given up.
    pub took_us: u64,
    /// The request as signed by the checker.
    pub request: Envelope,
    /// The answer.
    pub outcome: Outcome,
}

impl Exchange {
    /// The checker's clock when the answer was there or given up, unix milliseconds.
    pub fn ended_at_ms(&self) -> i64 {
        self.asked_at_ms.saturating_add(i64::try_from(self.took_us / 1_000).unwrap_or(i64::MAX))
    }
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outcome {
    /// Verified against key, nonce and request.
    Answered(Box<Envelope>),
    /// No answer, or one that was refused; the reason is the checker's own word, at most [`MAX_REASON`] bytes.
    Failed(String),
}

/// What became of one beacon.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BeaconEvidence {
    /// The beacon's slot.
    pub slot: u64,
    /// Its hash: with the container, the challenge.
    pub slot_hash: Digest,
    /// Microseconds from the checker's first sight of the slot to the signed root; `None` without an answer, or when the checker
    /// did not see the slot in time.
    pub elapsed_us: Option<u64>,
    /// The question for the root, the opening, and what was asked again, in order of time.
    pub exchanges: Vec<Exchange>,
}

/// Everything behind the vote on one row.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RowEvidence {
    /// Row of the block.
    pub row: u8,
    /// The container's account.
    pub container: [u8; 32],
    /// The liveness probes in order of time.
    pub liveness: Vec<Exchange>,
    /// The inspection of the epoch; `None` when none was asked for. No vote is made of it.
    pub inspection: Option<Exchange>,
    /// The beacons in order of slots.
    pub beacons: Vec<BeaconEvidence>,
    /// What was found about the container by comparing (uniqueness, plausibility, place), in words, at most [`MAX_FINDINGS`], each
    /// at most [`MAX_REASON`] bytes. Findings tell people where to look; no vote is made of them, but that a host outside its place has capacity 0.
    pub findings: Vec<String>,
}

impl RowEvidence {
    /// The bytes of the Merkle leaf. What does not fit into [`MAX_ROW_EVIDENCE`] is left out with a reason in its place: the
    /// inspection first, as no vote stands on it, then the latest exchanges.
    pub fn encode(mut self) -> Vec<u8> {
        // Writing to memory cannot fail; every part was bounded when it was received.
        let encode = |evidence: &Self| borsh::to_vec(evidence).expect("borsh to memory");
        let mut bytes = encode(&self);
        while bytes.len() > MAX_ROW_EVIDENCE {
            let beacons = self.beacons.iter_mut().flat_map(|beacon| &mut beacon.exchanges);
            let answered = |exchange: &&mut Exchange| matches!(exchange.outcome, Outcome::Answered(_));
            let exchanges = self.liveness.iter_mut().chain(beacons).chain(&mut self.inspection);
            let Some(last) = exchanges.filter(answered).last() else { break };
            last.outcome = Outcome::failed("answered; left out, the row's evidence is too long");
            bytes = encode(&self);
        }
        bytes
    }
}

impl Outcome {
    /// A failure with its reason cut to [`MAX_REASON`].
    pub fn failed(reason: impl std::fmt::Display) -> Self {
        Self::Failed(cut(reason))
    }
}

/// A text of at most [`MAX_REASON`] bytes, cut at a character.
pub fn cut(text: impl std::fmt::Display) -> String {
    let mut text = text.to_string();
    while text.len() > MAX_REASON {
        text.pop();
    }
    text
}

/// A row's evidence with its way to the evidence root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Opening {
    /// Encoded [`RowEvidence`].
    pub evidence: Vec<u8>,
    /// Which leaf it is.
    pub index: u32,
    /// Leaves of the tree: rows of the report that have evidence.
    pub leaves: u32,
    /// Siblings from the leaf to the root, at most [`MAX_PROOF`].
    pub proof: Vec<Digest>,
}

/// Why served evidence is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Longer than [`MAX_OPENING`].
    #[error("the evidence has {0} bytes, more than the {MAX_OPENING} allowed")]
    TooLong(usize),
    /// Not the encoding of evidence.
    #[error("the evidence does not decode: {0}")]
    Encoding(String),
    /// Not under the root that the checker revealed.
    #[error("the evidence is not what the checker revealed: {0}")]
    Proof(#[from] ProofError),
    /// Evidence of another row.
    #[error("the evidence is of row {found}, asked was row {asked}")]
    WrongRow {
        /// The row in the evidence.
        found: u8,
        /// The row asked for.
        asked: u8,
    },
}

impl Opening {
    /// Opens leaf `index`, whose bytes are `evidence`, `None` when the tree has no such leaf.
    pub fn new(tree: &Tree, leaves: u32, index: u32, evidence: Vec<u8>) -> Option<Self> {
        Some(Self { evidence, index, leaves, proof: tree.proof(index)? })
    }

    /// The encoding that is served.
    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("borsh to memory")
    }

    /// Reads what a checker served and checks that it is the evidence for `row` under `root`, the evidence root in the checker's
    /// seat on chain.
    ///
    /// That the messages in it hold is for who judges them: each carries its signature.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(bytes: &[u8], root: &Digest, row: u8) -> Result<RowEvidence, EvidenceError> {
        if bytes.len() > MAX_OPENING {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        let encoding = |error: std::io::Error| EvidenceError::Encoding(error.to_string());
        let opening: Self = borsh::from_slice(bytes).map_err(encoding)?;
        merkle::verify(root, opening.leaves, opening.index, &opening.evidence, &opening.proof)?;
        let evidence: RowEvidence = borsh::from_slice(&opening.evidence).map_err(encoding)?;
        if evidence.row != row {
            return Err(EvidenceError::WrongRow { found: evidence.row, asked: row });
        }
        Ok(evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<RowEvidence> {
        let row = |row| RowEvidence {
            row,
            container: [row; 32],
            liveness: Vec::new(),
            inspection: None,
            beacons: vec![BeaconEvidence { slot: 7, slot_hash: [3; 32], elapsed_us: None, exchanges: Vec::new() }],
            findings: vec!["a finding".into()],
        };
        [0, 3, 200].map(row).to_vec()
    }

    fn envelope(payload: usize) -> Envelope {
        Envelope {
            version: 1,
            domain: 2,
            genesis_hash: [0; 32],
            program: [0; 32],
            subject: [0; 32],
            epoch: 0,
            nonce: [0; 16],
            issued_at: 0,
            payload: vec![0; payload],
            signer: [0; 32],
            signature: [0; 64],
        }
    }

    #[test]
    fn every_row_opens_and_nothing_else_does() {
        let encoded: Vec<_> = rows().into_iter().map(RowEvidence::encode).collect();
        let tree = Tree::new(&encoded);
        let opening = |index: u32| Opening::new(&tree, 3, index, encoded[index as usize].clone()).unwrap();
        for (index, row) in rows().into_iter().enumerate() {
            let bytes = opening(index as u32).encode();
            assert_eq!(Opening::verify(&bytes, &tree.root(), row.row), Ok(row));
        }
        let bytes = opening(1).encode();
        assert_eq!(
            Opening::verify(&bytes, &tree.root(), 4),
            Err(EvidenceError::WrongRow { found: 3, asked: 4 }),
            "no row is shown for another"
        );
        assert!(matches!(Opening::verify(&bytes, &[0; 32], 3), Err(EvidenceError::Proof(_))));
        let forged = Opening { evidence: encoded[2].clone(), ..opening(1) }.encode();
        assert!(matches!(Opening::verify(&forged, &tree.root(), 200), Err(EvidenceError::Proof(_))));
        assert!(matches!(Opening::verify(&bytes[1..], &tree.root(), 3), Err(EvidenceError::Encoding(_))));
        let long = vec![0; MAX_OPENING + 1];
        assert_eq!(Opening::verify(&long, &tree.root(), 3), Err(EvidenceError::TooLong(MAX_OPENING + 1)));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let exchange = || Exchange {
            asked_at_ms: 0,
            took_us: 0,
            request: envelope(0),
            outcome: Outcome::Answered(Box::new(envelope(60_000))),
        };
        let liveness: Vec<_> = (0..80).map(|_| exchange()).collect();
        let bytes = RowEvidence { liveness, inspection: Some(exchange()), ..rows().remove(0) }.encode();
        assert!(bytes.len() <= MAX_ROW_EVIDENCE && bytes.len() > MAX_ROW_EVIDENCE - 61_000, "{}", bytes.len());
        let kept: RowEvidence = borsh::from_slice(&bytes).unwrap();
        assert_eq!(kept.liveness.len(), 80, "the question stays");
        assert!(matches!(&kept.liveness[79].outcome, Outcome::Failed(reason) if reason.contains("left out")));
        assert!(matches!(kept.liveness[0].outcome, Outcome::Answered(_)));
        let left_out = |exchange: &Exchange| matches!(exchange.outcome, Outcome::Failed(_));
        assert!(kept.inspection.as_ref().is_some_and(left_out), "what no vote stands on goes first");
        // One message too many costs the inspection alone.
        let liveness: Vec<_> = (0..69).map(|_| exchange()).collect();
        let bytes = RowEvidence { liveness, inspection: Some(exchange()), ..rows().remove(0) }.encode();
        let kept: RowEvidence = borsh::from_slice(&bytes).unwrap();
        assert!(kept.inspection.as_ref().is_some_and(left_out) && !kept.liveness.iter().any(left_out));
    }

    #[test]
    fn reasons_are_cut_at_a_character() {
        let Outcome::Failed(reason) = Outcome::failed("ä".repeat(150)) else { panic!() };
        assert_eq!(reason.len(), 200);
    }
}
