//! Why a lease ended, in sentences.

use datagalax::state::Lease;
use datagalax_client::amount::Ath;

use crate::time::utc;

/// Codes with which an agent rejects a lease (`datagalax_agent::leases::code`), in the user's words, with what to do.
const REJECTIONS: [(u16, &str, &str); 5] = [
    (1, "its host runs no workloads", "Choose another container"),
    (2, "its host found its own hardware unfit", "Choose another container"),
    (
        3,
        "its host does not take this workload",
        "Ask for what it takes: an image or a plain command, less memory or disk, or another container",
    ),
    (4, "the workload did not come up", "Check the image, the command and what it needs"),
    (5, "the workload would not have come up in time", "Hand the workload over at once, and use a smaller image"),
];

/// Why a lease ended: a sentence with what it means for the money, and what to do where there is something; `None` while it runs.
pub fn sentence(lease: &Lease) -> Option<String> {
    let at = utc(lease.ended);
    Some(match lease.reason {
        0 => return None,
        Lease::REASON_USER if lease.closed < lease.ended => {
            format!("You closed it; it is due until {at}, the least time of a lease.")
        }
        Lease::REASON_USER => "You closed it.".to_owned(),
        Lease::REASON_NOT_SERVED => {
            "You closed it as not served: only the seconds until then are due, the rest goes back.".to_owned()
        }
        Lease::REASON_PROVIDER if lease.compensation > 0 => {
            let credit = Ath(lease.compensation);
            format!(
                "Its provider closed it early: {credit} ATH of the container's stake are yours, and what was not used goes back."
            )
        }
        Lease::REASON_PROVIDER => "Its provider closed it, as it had announced: what was not used goes back.".to_owned(),
        Lease::REASON_EXHAUSTED => "What was escrowed is used up.".to_owned(),
        Lease::REASON_REJECTED => {
            let known = REJECTIONS.iter().find(|(code, ..)| *code == lease.detail);
            match known {
                Some((_, why, advice)) => format!("It was rejected: {why}. Everything was refunded. {advice}."),
                None => format!(
                    "It was rejected with its host's own code {}. Everything was refunded. Choose another container.",
                    lease.detail
                ),
            }
        }
        Lease::REASON_TIMED_OUT => {
            "Its host did not start it in time. Everything was refunded. Choose another container.".to_owned()
        }
        other => format!("It ended for reason {other}, which this command does not know: update it."),
    })
}

/// A lease's state in a word or two.
pub const fn state(lease: &Lease) -> &'static str {
    match lease.status {
        Lease::OPEN => "open",
        Lease::STARTED => "running",
        Lease::ENDED => "ended",
        Lease::SETTLED => "settled",
        _ => "unknown",
    }
}

/// Why it ended, in a word or two, for programs and tables.
pub const fn word(lease: &Lease) -> Option<&'static str> {
    match lease.reason {
        Lease::REASON_USER => Some("closed by its user"),
        Lease::REASON_NOT_SERVED => Some("not served"),
        Lease::REASON_PROVIDER => Some("closed by its provider"),
        Lease::REASON_EXHAUSTED => Some("used up"),
        Lease::REASON_REJECTED => Some("rejected"),
        Lease::REASON_TIMED_OUT => Some("not started in time"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn every_end_is_a_sentence() {
        let mut lease = Lease::zeroed();
        assert_eq!((sentence(&lease), word(&lease)), (None, None));
        for reason in Lease::REASON_USER..=Lease::REASON_TIMED_OUT {
            for detail in 0..9 {
                (lease.reason, lease.detail) = (reason, detail);
                let text = sentence(&lease).unwrap();
                assert!(text.ends_with('.') && word(&lease).is_some(), "{text}");
                let full = matches!(reason, Lease::REASON_REJECTED | Lease::REASON_TIMED_OUT);
                assert_eq!(text.contains("Everything was refunded"), full, "{text}");
            }
        }
        (lease.reason, lease.compensation) = (Lease::REASON_PROVIDER, 1_000_000);
        assert!(sentence(&lease).unwrap().contains("1.000000 ATH"));
        lease.reason = 99;
        assert!(sentence(&lease).unwrap().contains("update"));
    }
}
