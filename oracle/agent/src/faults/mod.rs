//! What is wrong with the hardware, as far as tenants must be kept from it. Pure: an inspection and the time are arguments.
//!
//! | fault | seen by | over when |
//! |---|---|---|
//! | an Xid of the card ([`xid`]) | the driver's events | it was reset (a reboot), or quiet for a while, as the table says |
//! | an ECC error that was not corrected | the driver's counter since it was loaded | the counter is zero again, for a while |
//! | a card that does not answer | NVML | it answers again, for a while |
//! | fewer cards than registered | their count | they are there again, for a while |
//! | a card too hot | its sensor | it is [`fitness::COOLER`] degrees below the limit, for a while |
//! | the hardware cannot be read | the probe | it can, for a while |
//! | a beacon computed twice gave two roots | the prover | the host was rebooted |

pub mod fitness;
pub mod xid;

use std::{collections::BTreeMap, fmt};

use datagalax_protocol::Inspection;
use serde::{Deserialize, Serialize};

use xid::{Meaning, known_as};

/// Something that makes the host unfit for tenants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// An Xid that says so.
    Xid {
        /// The card.
        uuid: String,
        /// Its code.
        code: u64,
    },
    /// ECC errors that were not corrected since the driver was loaded.
    Uncorrected {
        /// The card.
        uuid: String,
    },
    /// A card that does not answer.
    Lost {
        /// The card.
        uuid: String,
    },
    /// Fewer cards than the container was registered with.
    Missing {
        /// Registered.
        registered: u8,
        /// Found.
        found: u16,
    },
    /// A card too hot.
    Hot {
        /// The card.
        uuid: String,
    },
    /// The hardware cannot be read at all.
    Unreadable,
    /// The same beacon, computed twice, gave two roots: what this host computes cannot be trusted.
    WrongRoot,
}

impl Fault {
    /// Whether it lasts until the host was rebooted, however quiet it is meanwhile.
    pub fn lasts(&self) -> bool {
        match self {
            Self::Xid { code, .. } => known_as(*code).is_some_and(|known| known.meaning == Meaning::UntilReset),
            Self::WrongRoot => true,
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid { uuid, code } => {
                let says = known_as(*code).map_or("not judged", |known| known.says);
                write!(f, "Xid {code} on {uuid}: {says}")
            }
            Self::Uncorrected { uuid } => {
                write!(f, "{uuid} has ECC errors that were not corrected: reset it, exchange it if they come back")
            }
            Self::Lost { uuid } => write!(f, "{uuid} does not answer: see `dmesg`, a reboot may bring it back"),
            Self::Missing { registered, found } => {
                write!(f, "{found} cards where {registered} are registered: bring them back, or register the host anew")
            }
            Self::Hot { uuid } => write!(f, "{uuid} is too hot: check fans, air and load"),
            Self::Unreadable => write!(f, "the hardware cannot be read: see `nvidia-smi`"),
            Self::WrongRoot => {
                write!(f, "one beacon computed twice gave two roots: its memory or its cards compute wrongly")
            }
        }
    }
}

/// What an inspection must show of this container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Cards registered; 0 for a container of processors.
    pub gpus: u8,
    /// Degrees Celsius from which a card is too hot.
    pub hottest: u16,
}

/// The faults that an inspection at `now` shows, each once, in order, with the time it happened (unix seconds by the host's
/// clock): an Xid's own, else `now`.
pub fn seen(inspection: &Inspection, expected: &Expected, now: i64) -> Vec<(Fault, i64)> {
    let mut found = BTreeMap::new();
    let mut note = |fault, at: i64| {
        let last = found.entry(fault).or_insert(at);
        *last = at.max(*last);
    };
    for (gpu, details) in inspection.gpus() {
        let uuid = || gpu.uuid.clone();
        for xid in &details.xids {
            if known_as(xid.code).is_some_and(|known| known.meaning != Meaning::Program) {
                note(Fault::Xid { uuid: uuid(), code: xid.code }, xid.seen_at);
            }
        }
        if details.lost {
            note(Fault::Lost { uuid: uuid() }, now);
        }
        if gpu.ecc_uncorrected.is_some_and(|errors| errors > 0) {
            note(Fault::Uncorrected { uuid: uuid() }, now);
        }
        if gpu.temperature.is_some_and(|degrees| degrees >= expected.hottest) {
            note(Fault::Hot { uuid: uuid() }, now);
        }
    }
    let there = inspection.details.iter().filter(|details| !details.lost).count();
    if there < usize::from(expected.gpus) {
        let there = u16::try_from(there).unwrap_or(u16::MAX);
        note(Fault::Missing { registered: expected.gpus, found: there }, now);
    }
    found.into_iter().collect()
}
