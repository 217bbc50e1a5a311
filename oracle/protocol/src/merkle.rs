//! Merkle trees over challenge rows and evidence.
//!
//! Leaves, nodes and the root are hashed with different first bytes, and the root binds the number of leaves, so that
//! neither a node nor a shorter tree passes for a leaf or another tree (second preimage). A level's odd last node moves up
//! unpaired.

use std::{num::NonZeroUsize, thread};

use thiserror::Error;

use crate::{Digest, sha256};

const LEAF: &[u8] = b"\x00datagalax:leaf:v1";
const NODE: &[u8] = b"\x01datagalax:node:v1";
const ROOT: &[u8] = b"\x02datagalax:root:v1";

/// Longest proof: a tree of 2^32 leaves.
pub const MAX_PROOF: usize = 32;

/// A tree that can open any of its leaves.
#[derive(Clone, Debug)]
pub struct Tree {
    /// From the leaves up; the last level has one node, or none in the empty tree.
    levels: Vec<Vec<Digest>>,
    root: Digest,
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("leaf {index} is outside a tree of {leaves} leaves")]
    OutOfRange {
        /// Index asked for.
        index: u32,
        /// Leaves in the tree.
        leaves: u32,
    },
    /// More or fewer siblings than the tree's shape asks for.
    #[error("the proof has the wrong number of siblings")]
    WrongLength,
    /// The path leads elsewhere.
    #[error("the proof does not lead to the root")]
    WrongRoot,
}

/// The hash of one leaf's bytes.
pub fn leaf(bytes: &[u8]) -> Digest {
    sha256(&[LEAF, bytes])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    sha256(&[NODE, left, right])
}

fn bind(leaves: u32, top: &Digest) -> Digest {
    sha256(&[ROOT, &leaves.to_le_bytes(), top])
}

/// Below so many hashes a thread costs more than it saves.
const HASHES_PER_THREAD: usize = 1 << 12;

/// `hash` of each `width` items, in order.
fn hash_parallel(
    items: &[Digest],
    width: usize,
    threads: NonZeroUsize,
    hash: impl Fn(&[Digest]) -> Digest + Sync,
) -> Vec<Digest> {
    let mut hashed = vec![[0; 32]; items.len().div_ceil(width)];
    let share = hashed.len().div_ceil(threads.get()).max(HASHES_PER_THREAD);
    let work = |out: &mut [Digest], items: &[Digest]| {
        for (out, items) in out.iter_mut().zip(items.chunks(width)) {
            *out = hash(items);
        }
    };
    if hashed.len() <= share {
        work(&mut hashed, items);
        return hashed;
    }
    thread::scope(|scope| {
        for (out, items) in hashed.chunks_mut(share).zip(items.chunks(share * width)) {
            scope.spawn(|| work(out, items));
        }
    });
    hashed
}

impl Tree {
    /// The tree over leaves given as bytes. At most `u32::MAX` of them, more are a bug of the caller.
    pub fn new<L: AsRef<[u8]>>(leaves: impl IntoIterator<Item = L>) -> Self {
        Self::of_hashed(leaves.into_iter().map(|bytes| leaf(bytes.as_ref())).collect())
    }

    /// The tree over leaves whose [`leaf`] hashes are known; the same tree as [`Tree::new`] makes of their bytes.
    pub fn of_hashed(leaves: Vec<Digest>) -> Self {
        let mut level = leaves;
        let count = u32::try_from(level.len()).expect("fewer than 2^32 leaves");
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    odd => odd[0],
                })
                .collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        let root = bind(count, level.first().unwrap_or(&[0; 32]));
        levels.push(level);
        Self { levels, root }
    }

    /// The tree over leaves given as digests, hashed on `threads` threads; the same tree as [`Tree::new`] makes. The root of
    /// a GPU's product lies between two passes of the card, so the host must not take long over it.
    pub fn of_digests(leaves: &[Digest], threads: NonZeroUsize) -> Self {
        let count = u32::try_from(leaves.len()).expect("fewer than 2^32 leaves");
        let mut level = hash_parallel(leaves, 1, threads, |leaves| leaf(&leaves[0]));
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = hash_parallel(&level, 2, threads, |pair| match pair {
                [left, right] => node(left, right),
                odd => odd[0],
            });
            levels.push(std::mem::replace(&mut level, above));
        }
        let root = bind(count, level.first().unwrap_or(&[0; 32]));
        levels.push(level);
        Self { levels, root }
    }

    /// The root; that of the empty tree is fixed and equal to no other.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Number of leaves.
    pub fn leaves(&self) -> u32 {
        // `new` refused more.
        self.levels[0].len() as u32
    }

    /// The siblings on the way from a leaf to the root; `None` outside the tree.
    pub fn proof(&self, index: u32) -> Option<Vec<Digest>> {
        if index >= self.leaves() {
            return None;
        }
        let mut index = index as usize;
        let mut proof = Vec::new();
        for level in &self.levels {
            if let Some(sibling) = level.get(index ^ 1) {
                proof.push(*sibling);
            }
            index /= 2;
        }
        Some(proof)
    }
}

/// Checks that a tree of `leaves` leaves with this root has `bytes` at `index`.
///
/// # Errors
/// Which part of the proof is wrong.
pub fn verify(root: &Digest, leaves: u32, index: u32, bytes: &[u8], proof: &[Digest]) -> Result<(), ProofError> {
    if index >= leaves {
        return Err(ProofError::OutOfRange { index, leaves });
    }
    let mut hash = leaf(bytes);
    let mut siblings = proof.iter();
    let (mut index, mut width) = (index, leaves);
    while width > 1 {
        if index ^ 1 < width {
            let sibling = siblings.next().ok_or(ProofError::WrongLength)?;
            hash = if index & 1 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
        }
        index /= 2;
        width = width.div_ceil(2);
    }
    if siblings.next().is_some() {
        return Err(ProofError::WrongLength);
    }
    if bind(leaves, &hash) == *root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u32) -> Vec<[u8; 4]> {
        (0..count).map(u32::to_le_bytes).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_opens() {
        for count in 1..=67 {
            let tree = Tree::new(leaves(count));
            for index in 0..count {
                let proof = tree.proof(index).unwrap();
                verify(&tree.root(), count, index, &index.to_le_bytes(), &proof).unwrap();
            }
            assert!(tree.proof(count).is_none());
        }
    }

    #[test]
    fn threads_do_not_change_the_tree() {
        for count in [0u32, 1, 2, 3, 4_095, 4_096, 4_097, 20_001] {
            let leaves: Vec<Digest> = (0..count).map(|i| leaf(&i.to_le_bytes())).collect();
            let reference = Tree::new(&leaves);
            for threads in [1, 3, 8] {
                let tree = Tree::of_digests(&leaves, NonZeroUsize::new(threads).unwrap());
                assert_eq!(tree.root(), reference.root(), "{count} leaves, {threads} threads");
                assert_eq!(tree.levels, reference.levels);
            }
        }
    }

    #[test]
    fn a_node_is_no_leaf() {
        let tree = Tree::new(leaves(4));
        // The attacker shows the two inner nodes as the bytes of a tree of two leaves.
        let forged =
            Tree::new([[tree.levels[0][0], tree.levels[0][1]].concat(), [tree.levels[0][2], tree.levels[0][3]].concat()]);
        assert_ne!(tree.root(), forged.root());
        let inner = [tree.levels[0][0], tree.levels[0][1]].concat();
        let result = verify(&tree.root(), 2, 0, &inner, &[tree.levels[1][1]]);
        assert_eq!(result, Err(ProofError::WrongRoot));
    }

    #[test]
    fn the_root_binds_the_number_of_leaves() {
        let roots: Vec<_> = (0..40).map(|n| Tree::new(vec![b""; n]).root()).collect();
        for (i, root) in roots.iter().enumerate() {
            assert!(!roots[i + 1..].contains(root), "{i} leaves");
        }
        // The same leaves with the last one doubled: the classic collision of trees that duplicate odd nodes.
        assert_ne!(Tree::new([b"a", b"b", b"c"]).root(), Tree::new([b"a", b"b", b"c", b"c"]).root());
    }

    proptest! {
        #[test]
        fn proofs_hold_for_their_leaf_alone(count in 2u32..300, at in any::<u32>(), other in any::<u32>()) {
            let (at, other) = (at % count, other % count);
            prop_assume!(at != other);
            let tree = Tree::new(leaves(count));
            let (root, proof) = (tree.root(), tree.proof(at).unwrap());
            let bytes = at.to_le_bytes();
            prop_assert!(verify(&root, count, at, &bytes, &proof).is_ok());
            prop_assert!(verify(&root, count, other, &bytes, &proof).is_err(), "wrong index");
            prop_assert!(verify(&root, count, at, &other.to_le_bytes(), &proof).is_err(), "wrong bytes");
            prop_assert!(verify(&root, count + 1, at, &bytes, &proof).is_err(), "wrong number of leaves");
            prop_assert_eq!(
                verify(&root, count, count, &bytes, &proof),
                Err(ProofError::OutOfRange { index: count, leaves: count })
            );
            let mut long = proof.clone();
            long.push([0; 32]);
            prop_assert_eq!(verify(&root, count, at, &bytes, &long), Err(ProofError::WrongLength));
            prop_assert_eq!(
                verify(&root, count, at, &bytes, &proof[..proof.len() - 1]),
                Err(ProofError::WrongLength)
            );
            for i in 0..proof.len() {
                let mut forged = proof.clone();
                forged[i][0] ^= 1;
                prop_assert_eq!(verify(&root, count, at, &bytes, &forged), Err(ProofError::WrongRoot));
            }
        }
    }
}
