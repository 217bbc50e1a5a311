//! Whether a host is still there: a machine without a clock of its own.

use std::time::Duration;

/// After so long without a word the user is told.
const SILENCE: Duration = Duration::from_secs(20);

/// What to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing has changed.
    None,
    /// The host has said nothing for so long.
    Lost(Duration),
    /// It is back after so long.
    Back(Duration),
}

/// When the host was last heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contact {
    heard: Duration,
    lost: bool,
}

impl Contact {
    /// It said something at this time, counted from the start.
    pub fn heard(&mut self, at: Duration) -> News {
        let silent = at.saturating_sub(self.heard);
        self.heard = self.heard.max(at);
        if std::mem::take(&mut self.lost) { News::Back(silent) } else { News::None }
    }

    /// It did not answer.
    pub fn missed(&mut self, at: Duration) -> News {
        let silent = at.saturating_sub(self.heard);
        if self.lost || silent < SILENCE {
            return News::None;
        }
        self.lost = true;
        News::Lost(silent)
    }

    /// Whether it is lost.
    pub const fn is_lost(&self) -> bool {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_told_once_and_its_end_too() {
        let mut contact = Contact::default();
        assert_eq!(contact.heard(at(5)), News::None);
        assert_eq!(contact.missed(at(24)), News::None);
        assert_eq!(contact.missed(at(25)), News::Lost(at(20)));
        assert!(contact.is_lost());
        assert_eq!(contact.missed(at(90)), News::None);
        assert_eq!(contact.heard(at(95)), News::Back(at(90)));
        assert_eq!((contact.heard(at(96)), contact.is_lost()), (News::None, false));
        // A short silence is none.
        assert_eq!(contact.missed(at(110)), News::None);
        assert_eq!(contact.heard(at(111)), News::None);
        assert_eq!(contact.missed(at(130)), News::None);
    }
}
