//! What an Xid says about a card. The meanings are those of NVIDIA's catalogue
//! (<https://docs.nvidia.com/deploy/xid-errors/>); which of them make a host unfit for tenants is our judgement.

/// What follows from an Xid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The card or the driver on it is broken until it is reset, mended or exchanged.
    UntilReset,
    /// The card was in trouble and may be sound again: it has to stay quiet for a while first.
    ForAWhile,
    /// A program on the card failed, most often by its own fault. It says nothing about the next tenant.
    Program,
}

/// A known Xid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub code: u64,
    /// What follows from it.
    pub meaning: Meaning,
    /// What it says, for the operator.
    pub says: &'static str,
}

const fn known(code: u64, meaning: Meaning, says: &'static str) -> Known {
    Known { code, meaning, says }
}

/// The Xids that are judged, by number. Others are logged and counted, nothing more: a number that nobody has judged is no
/// reason to turn tenants away.
pub const KNOWN: &[Known] = {
    use Meaning::{ForAWhile, Program, UntilReset};
    &[
        known(8, Program, "a program kept the card busy for too long and was stopped"),
        known(13, Program, "a program made the graphics engine fail, mostly by reading out of bounds"),
        known(31, Program, "a program touched memory that is not its own"),
        known(32, Program, "a program sent commands the card cannot read; if it comes back often, look at the PCIe link"),
        known(43, Program, "a program's work was stopped after a fault of its own; the card is well"),
        known(45, Program, "a program was cleaned up after it ended or was killed"),
        known(
            48,
            UntilReset,
            "memory lost two bits at once, which ECC cannot mend: what is computed may be wrong until reset",
        ),
        known(54, UntilReset, "the card's extra power is not connected: plug it in"),
        known(61, UntilReset, "the card's own controller stopped at an internal check: reset the card"),
        known(62, UntilReset, "the card's own controller has halted: clocks and power are not looked after until reset"),
        known(63, UntilReset, "a bad row of memory was marked; its spare takes over at the next reset, so reset it soon"),
        known(
            64,
            UntilReset,
            "a bad row of memory could not be marked: no spares are left or recording failed, exchange it",
        ),
        known(74, UntilReset, "an NVLink failed: cards that work together get wrong or no data; reset it, check the bridge"),
        known(79, UntilReset, "the card has fallen off the bus: only a reboot can bring it back, check power and seat"),
        known(92, ForAWhile, "ECC had to mend unusually many bits: the memory is wearing out"),
        known(94, ForAWhile, "an ECC error was kept to the program it hit, which was killed; others were spared"),
        known(
            95,
            UntilReset,
            "an ECC error could not be kept to one program: everything on the card is suspect until reset",
        ),
        known(109, Program, "switching between programs took too long; one of them did not yield"),
        known(119, UntilReset, "the card's system processor (GSP) does not answer the driver: reset the card"),
        known(120, UntilReset, "the card's system processor (GSP) has failed: reset the card"),
        known(140, UntilReset, "an ECC error was found that could not be recovered from: reset the card"),
        known(143, UntilReset, "the card could not be initialised: reset it, and exchange it if that does not help"),
    ]
};

/// What is known of an Xid, `None` for one that was not judged.
pub fn known_as(code: u64) -> Option<&'static Known> {
    KNOWN.binary_search_by_key(&code, |known| known.code).ok().map(|at| &KNOWN[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_each_says_something() {
        assert!(KNOWN.is_sorted_by(|a, b| a.code < b.code));
        assert!(KNOWN.iter().all(|known| known.says.len() > 20));
        assert!(KNOWN.iter().all(|known| known_as(known.code) == Some(known)));
    }

    #[test]
    fn hardware_is_unfit_and_programs_are_not() {
        for code in [48, 62, 63, 64, 74, 79, 95, 119, 120] {
            assert_eq!(known_as(code).unwrap().meaning, Meaning::UntilReset, "{code}");
        }
        assert_eq!(known_as(94).unwrap().meaning, Meaning::ForAWhile);
        for code in [13, 31, 43, 45] {
            assert_eq!(known_as(code).unwrap().meaning, Meaning::Program, "{code}");
        }
        assert_eq!(known_as(9_999), None);
    }
}
