//! The capacity challenge as a property: what is honest passes, whatever else is refused by name.

use std::num::NonZeroUsize;

use datagalax_gpu::{
    Bounds, ChallengeError, OpenError, Product,
    challenge::{CPU_SIZE, verify},
};
use datagalax_protocol::{
    WorkSize,
    merkle::{ProofError, Tree},
};
use proptest::prelude::*;

fn threads(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn compute(seed: &[u8; 32], size: &WorkSize, n: usize) -> Product {
    Product::compute(seed, size, threads(n), &Bounds::default()).unwrap()
}

fn sizes() -> impl Strategy<Value = WorkSize> {
    (1u32..40, 1u32..70, 1u32..40).prop_map(|(rows, inner, columns)| WorkSize { rows, inner, columns })
}

/// A product whose every row under the (honestly built) tree is made up.
fn forged(size: &WorkSize, at: u32) -> (datagalax_protocol::Digest, datagalax_protocol::OpenedRow) {
    let digests: Vec<[u8; 32]> = (0..size.rows).map(|i| [i as u8; 32]).collect();
    let tree = Tree::new(&digests);
    let row = datagalax_protocol::OpenedRow { index: at, digest: digests[at as usize], proof: tree.proof(at).unwrap() };
    (tree.root(), row)
}

#[test]
fn the_digests_are_the_committed_ones() {
    // Another backend, or another release, must get exactly these.
    let size = WorkSize { rows: 3, inner: 11, columns: 5 };
    let product = compute(&[42; 32], &size, 1);
    assert_eq!(
        product.digests().iter().map(hex::encode).collect::<Vec<_>>(),
        [
            "7aeea70b5b19b9afee3a14e86c051cfa43adec18cac7a85d4a204f6c56ac5e2e",
            "1cfa424655f689909ae8cd214e662c0a43afe061a7722a34bc07945811da4804",
            "f889e9f2cb0643d6165ef757c946325060963676b444bcfbac3ba8c44da3a8f0"
        ]
    );
    assert_eq!(hex::encode(product.root()), "e783951668b110811876d1b78378e54d049a0a62b4bec8895591644eb0090fda");
}

#[test]
fn the_default_size_is_within_the_default_bounds() {
    Bounds::default().check(&CPU_SIZE).unwrap();
    let product = compute(&[1; 32], &CPU_SIZE, 2);
    let asked = [0, 100, 511];
    verify(&[1; 32], &CPU_SIZE, &product.root(), &asked, &product.open(&asked).unwrap()).unwrap();
}

#[test]
fn bounds_are_checked_before_anything_is_allocated() {
    let huge = WorkSize { rows: u32::MAX, inner: u32::MAX, columns: u32::MAX };
    let refused = Product::compute(&[0; 32], &huge, threads(1), &Bounds::default()).unwrap_err();
    assert_eq!(refused, ChallengeError::TooMuchWork { asked: u64::MAX, allowed: 1 << 34 });
    let wide = WorkSize { rows: 1, inner: 1 << 16, columns: 1 << 14 };
    let refused = Product::compute(&[0; 32], &wide, threads(1), &Bounds::default()).unwrap_err();
    assert!(matches!(refused, ChallengeError::TooMuchMemory { .. }), "{refused}");
    for empty in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
        let size = WorkSize { rows: empty.0, inner: empty.1, columns: empty.2 };
        let refused = Product::compute(&[0; 32], &size, threads(1), &Bounds::default()).unwrap_err();
        assert_eq!(refused, ChallengeError::Empty);
    }
}

proptest! {
    #[test]
    fn threads_do_not_change_the_digests(seed in any::<[u8; 32]>(), size in sizes(), n in 2usize..9) {
        let (one, many) = (compute(&seed, &size, 1), compute(&seed, &size, n));
        prop_assert_eq!(one.digests(), many.digests());
        prop_assert_eq!(one.root(), many.root());
    }

    #[test]
    fn honest_openings_hold_and_others_do_not(seed in any::<[u8; 32]>(), size in sizes(), at in any::<u32>()) {
        let product = compute(&seed, &size, 2);
        let (root, at) = (product.root(), at % size.rows);
        let opened = product.open(&[at]).unwrap();
        let check = |asked: &[u32], opened: &[_]| verify(&seed, &size, &root, asked, opened);
        prop_assert_eq!(check(&[at], &opened), Ok(()));

        // Wrong length, wrong index.
        prop_assert_eq!(check(&[], &[]), Err(OpenError::WrongRows));
        prop_assert_eq!(check(&[at], &[]), Err(OpenError::WrongRows));
        prop_assert_eq!(check(&[at], &[opened[0].clone(), opened[0].clone()]), Err(OpenError::WrongRows));
        let other = (at + 1) % size.rows;
        if other != at {
            prop_assert_eq!(check(&[other], &opened), Err(OpenError::WrongRows));
            let mut relabelled = opened.clone();
            relabelled[0].index = other;
            let refused = check(&[other], &relabelled);
            prop_assert!(matches!(refused, Err(OpenError::Proof { .. })), "{:?}", refused);
        }
        prop_assert!(product.open(&[size.rows]).is_none());

        // A wrong digest, a cut proof.
        let mut wrong = opened.clone();
        wrong[0].digest[5] ^= 1;
        prop_assert_eq!(check(&[at], &wrong), Err(OpenError::Proof { row: at, error: ProofError::WrongRoot }));
        let mut long = opened.clone();
        long[0].proof.push([0; 32]);
        prop_assert_eq!(check(&[at], &long), Err(OpenError::Proof { row: at, error: ProofError::WrongLength }));

        // A root over made-up rows opens well and is caught by the recomputation.
        let (root, row) = forged(&size, at);
        prop_assert_eq!(verify(&seed, &size, &root, &[at], &[row]), Err(OpenError::WrongValue(at)));

        // Yesterday's answer.
        let mut yesterday = seed;
        yesterday[0] ^= 1;
        let stale = compute(&yesterday, &size, 1);
        let opened = stale.open(&[at]).unwrap();
        prop_assert_eq!(verify(&seed, &size, &stale.root(), &[at], &opened), Err(OpenError::WrongValue(at)));
    }
}
