//! Whether everything around the agent is as it must be. Pure: readings come in as arguments; each topic is a reason or nothing.

use std::time::Duration;

use datagalax_protocol::Inspection;
use solana_pubkey::Pubkey;

use crate::chain::Registration;

/// Seconds that this host's clock may be off the chain's, the same as messages may be (`envelope::MAX_AGE`).
pub const CLOCK_TOLERANCE: i64 = 30;
/// Least free bytes for the state.
pub const LEAST_DISK: u64 = 256 << 20;
/// Least lamports of a key that pays fees: some hundred transactions.
pub const LEAST_LAMPORTS: u64 = 2_000_000;
/// How long the endpoint may take to answer its own host.
pub const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);
/// A card shows a little less than the memory it is sold with (what the driver keeps); the class's least may be the round
/// number: so many per thousand may be missing.
const MEMORY_TOLERANCE: u64 = 30;

/// This host's clock against the chain's. The chain's goes in whole seconds and some behind.
pub fn clock(host: i64, chain: i64) -> Option<String> {
    let off = host.saturating_sub(chain);
    (off.saturating_abs() > CLOCK_TOLERANCE).then(|| {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        let seconds = off.unsigned_abs();
        format!("this host's clock is {seconds} s {direction} the chain's: run an NTP client (`timedatectl set-ntp true`)")
    })
}

/// The cards' memory against the class's.
pub fn class(registration: &Registration, inspection: &Inspection) -> Option<String> {
    let least = registration.minimum_memory;
    let least = least - least / 1_000 * MEMORY_TOLERANCE;
    let small = inspection.gpus().find(|(gpu, details)| !details.lost && gpu.memory_total < least);
    small.map(|(gpu, _)| {
        let class = registration.class;
        let (has, least) = (gpu.memory_total, registration.minimum_memory);
        format!("{} has {has} bytes of memory, class {class} asks for {least}: register the host in its own class", gpu.uuid)
    })
}

/// The number of cards against the class: a class of cards on a host whose cards are not looked for.
pub fn cards(registration: &Registration, inspection: &Inspection) -> Option<String> {
    let none = registration.minimum_memory > 0 && inspection.metrics.gpus.is_empty();
    none.then(|| {
        let class = registration.class;
        format!("class {class} is one of GPUs and none is looked for: install the NVIDIA driver, start without --no-gpu")
    })
}

/// Room for the state. `free` is 0 when it cannot be told ([`crate::state::StateDir::free`]).
pub fn disk(free: u64) -> Option<String> {
    (free != 0 && free < LEAST_DISK)
        .then(|| format!("{} MiB are free for --state-dir: {} are needed", free >> 20, LEAST_DISK >> 20))
}

/// The keys that pay fees, and what they have. Without any a lease can be neither rejected nor started.
pub fn fees(funds: &[(Pubkey, u64)]) -> Option<String> {
    let poor = funds.iter().find(|(_, lamports)| *lamports < LEAST_LAMPORTS);
    poor.map(|(key, lamports)| {
        format!("key {key}, which pays fees, has {lamports} lamports: send it 0.01 SOL (`solana transfer {key} 0.01`)")
    })
}

/// What the registered endpoint answered, when asked from here for `/v1/info`.
pub fn endpoint(endpoint: &str, answer: &Result<String, String>, container: &str) -> Option<String> {
    match answer {
        Err(reason) => Some(format!(
            "{endpoint} does not lead here ({reason}): open the port, or correct the endpoint by `datagalax container update`. \
             Behind a router that does not lead its own address back, use --relay, or switch this check off by --no-endpoint-check"
        )),
        Ok(body) if !body.contains(container) => {
            Some(format!("{endpoint} leads to another agent: correct the endpoint by `datagalax container update`"))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use datagalax_gpu::{Probe, RecordedProbe, probe::Recording};

    use super::*;
    use crate::chain::Offer;

    const GIB: u64 = 1 << 30;

    fn inspection(name: &str) -> Inspection {
        let path = format!("{}/../gpu/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let recording: Recording = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        RecordedProbe::new(recording, "test").unwrap().inspect(0).unwrap()
    }

    fn registration(minimum_memory: u64) -> Registration {
        Registration {
            block: 0,
            row: 0,
            gpus: 1,
            class: 3,
            minimum_memory,
            provider: 0,
            operator: Pubkey::default(),
            fingerprint: [0; 32],
            offer: Offer::default(),
            lease: None,
        }
    }

    #[test]
    fn clocks_may_be_half_a_minute_apart() {
        assert_eq!((clock(1_000, 1_030), clock(1_030, 1_000)), (None, None));
        assert!(clock(1_031, 1_000).unwrap().contains("31 s ahead of"));
        assert!(clock(969, 1_000).unwrap().contains("31 s behind"));
        assert!(clock(i64::MAX, i64::MIN).is_some());
    }

    #[test]
    fn cards_must_have_what_their_class_asks() {
        assert_eq!(class(&registration(24 * GIB), &inspection("consumer")), None, "23.99 GiB are sold as 24");
        assert!(class(&registration(48 * GIB), &inspection("consumer")).unwrap().contains("class 3 asks for"));
        assert_eq!(class(&registration(0), &inspection("cpu")), None);
        assert!(cards(&registration(24 * GIB), &inspection("cpu")).unwrap().contains("--no-gpu"));
        assert_eq!(cards(&registration(24 * GIB), &inspection("consumer")), None);
        assert_eq!(cards(&registration(0), &inspection("cpu")), None);
    }

    #[test]
    fn room_and_the_way_back_are_looked_at() {
        assert_eq!((disk(0), disk(LEAST_DISK)), (None, None));
        let key = Pubkey::new_from_array([1; 32]);
        assert_eq!((fees(&[]), fees(&[(key, LEAST_LAMPORTS)])), (None, None));
        let poor = fees(&[(key, LEAST_LAMPORTS), (key, 7)]).unwrap();
        assert!(poor.contains("has 7 lamports") && poor.contains("solana transfer"), "{poor}");
        assert!(disk(LEAST_DISK - 1).unwrap().contains("255 MiB"));
        assert_eq!(endpoint("http://a", &Ok("{\"container\":\"C\"}".into()), "C"), None);
        assert!(endpoint("http://a", &Ok("<html>".into()), "C").unwrap().contains("another agent"));
        assert!(endpoint("http://a", &Err("refused".into()), "C").unwrap().contains("refused"));
    }
}
