//! The report's layout, as the program reads it.

use datagalax_protocol::{ReportValues, RowVote, report::VoteOutOfRange};
use proptest::prelude::*;

#[test]
fn an_empty_report_votes_on_nothing() {
    let report = ReportValues::new();
    assert_eq!(report.votes().count(), 0);
    assert_eq!(report.as_bytes().len(), 768);
    assert!(report.as_bytes()[..512].iter().all(|b| *b == 127));
    assert!(report.as_bytes()[512..].iter().all(|b| *b == 0));
}

#[test]
fn columns_are_where_the_program_reads_them() {
    let mut report = ReportValues::new();
    report.set(3, RowVote { availability: 100, capacity: 99, token: 7, dishonest: true }).unwrap();
    assert_eq!((report.as_bytes()[3], report.as_bytes()[256 + 3], report.as_bytes()[512 + 3]), (0x80 | 100, 99, 7));
}

#[test]
fn a_percentage_above_100_is_an_error_and_not_silence() {
    let mut report = ReportValues::new();
    let vote = RowVote { availability: 101, capacity: 0, token: 0, dishonest: false };
    assert_eq!(report.set(0, vote), Err(VoteOutOfRange { availability: 101, capacity: 0 }));
    let vote = RowVote { availability: 0, capacity: 127, token: 0, dishonest: false };
    assert_eq!(report.set(0, vote), Err(VoteOutOfRange { availability: 0, capacity: 127 }));
    assert_eq!(report, ReportValues::new());
}

proptest! {
    #[test]
    fn votes_are_read_back(
        votes in proptest::collection::btree_map(any::<u8>(), (0u8..=100, 0u8..=100, any::<u8>(), any::<bool>()), 0..256)
    ) {
        let mut report = ReportValues::new();
        for (row, (availability, capacity, token, dishonest)) in &votes {
            let vote = RowVote { availability: *availability, capacity: *capacity, token: *token, dishonest: *dishonest };
            report.set(*row, vote).unwrap();
        }
        let read: Vec<_> = ReportValues::from_bytes(*report.as_bytes()).votes().collect();
        prop_assert_eq!(read.len(), votes.len());
        for (row, vote) in read {
            prop_assert_eq!(votes[&row], (vote.availability, vote.capacity, vote.token, vote.dishonest));
        }
    }
}
