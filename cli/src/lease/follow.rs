//! Following a workload's output over broken connections: what to do about each frame, and where to go on.

use datagalax_protocol::lease::{End, LogFrame};

use crate::time::utc;

/// How far the output has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Following {
    offset: u64,
}

/// What to do about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, after having said what stands beside it.
    Write(Vec<u8>, Option<String>),
    /// Tell the user.
    Say(String),
    /// The workload has ended.
    Ended(End),
    /// The stream broke off: go on at [`Following::offset`].
    Again(String),
}

impl Following {
    /// From this many bytes of output on.
    pub const fn from(offset: u64) -> Self {
        Self { offset }
    }

    /// Bytes of output that are behind.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// What to do about a frame.
    pub fn take(&mut self, frame: LogFrame) -> Step {
        match frame {
            LogFrame::Output { offset, bytes } => {
                let said = if offset > self.offset {
                    let lost = offset - self.offset;
                    Some(format!("{lost} bytes of older output are not kept by the host"))
                } else if offset < self.offset {
                    Some("the output begins anew: the host started the workload again".to_owned())
                } else {
                    None
                };
                self.offset = offset.saturating_add(bytes.len() as u64);
                Step::Write(bytes, said)
            }
            LogFrame::Notice(notice) => Step::Say(format!("{} ({})", printable(&notice.text), utc(notice.at))),
            LogFrame::End(end) => Step::Ended(end),
            LogFrame::Failed(why) => Step::Again(printable(&why)),
        }
    }
}

/// What a host says, without anything that could move a terminal's cursor.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(1_000).collect()
}

/// Exit status of a lease whose command did not run, or did not end by itself, as of `docker run`.
pub const NOT_RUN: u8 = 125;
/// What a shell adds to the number of the signal that ended a command.
const SIGNALLED: i32 = 128;

/// The exit status that an end stands for, and a sentence unless it ended by itself.
pub fn status(end: &End) -> (u8, Option<String>) {
    match end {
        End::Exited { status } => (u8::try_from(status & 0xff).unwrap_or(u8::MAX), None),
        End::Signalled { signal } => {
            (u8::try_from(SIGNALLED + (signal & 0x7f)).unwrap_or(u8::MAX), Some(format!("It was ended by signal {signal}.")))
        }
        End::OverLimit { what } => {
            (137, Some(format!("It was ended because it used more than it may: {}.", printable(what))))
        }
        End::Stopped => (143, Some("Its host stopped it: the lease is over.".to_owned())),
        End::NotStarted { reason } => (NOT_RUN, Some(format!("It did not come up: {}.", printable(reason)))),
        End::Lost => (NOT_RUN, Some("Its host lost it, as by a restart of the machine.".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use datagalax_protocol::lease::Notice;
    use proptest::prelude::*;

    use super::*;

    fn output(offset: u64, bytes: &[u8]) -> LogFrame {
        LogFrame::Output { offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn output_goes_on_where_it_broke_off() {
        let mut following = Following::default();
        assert_eq!(following.take(output(0, b"abc")), Step::Write(b"abc".to_vec(), None));
        assert_eq!(following.take(LogFrame::Failed("gone\n".into())), Step::Again("gone".into()));
        assert_eq!(following.offset(), 3);
        assert_eq!(following.take(output(3, b"d")), Step::Write(b"d".to_vec(), None));
        let Step::Write(_, Some(said)) = following.take(output(10, b"k")) else { panic!("a gap is told") };
        assert!(said.starts_with("6 bytes"), "{said}");
        let Step::Write(bytes, Some(said)) = following.take(output(0, b"again")) else { panic!("a new begin is told") };
        assert!(bytes == b"again" && said.contains("anew"));
        assert_eq!(following.offset(), 5);
        let notice = LogFrame::Notice(Notice { at: 0, text: "\x1b[2Jends soon".into() });
        assert_eq!(following.take(notice), Step::Say("[2Jends soon (1970-01-01 00:00:00 UTC)".into()));
        let end = End::Exited { status: 3 };
        assert_eq!(following.take(LogFrame::End(end.clone())), Step::Ended(end));
    }

    #[test]
    fn the_status_is_the_commands() {
        let of = |end: End| status(&end).0;
        assert_eq!([0, 3, 255, 256].map(|status| of(End::Exited { status })), [0, 3, 255, 0]);
        assert_eq!(of(End::Signalled { signal: 9 }), 137);
        assert_eq!(of(End::OverLimit { what: "memory".into() }), 137);
        assert_eq!(of(End::NotStarted { reason: "no".into() }), NOT_RUN);
        assert_eq!((of(End::Lost), of(End::Stopped)), (NOT_RUN, 143));
    }

    proptest! {
        /// However often the connection breaks, every byte is written once and in order.
        #[test]
        fn every_byte_is_written_once(text in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(1usize..40, 1..30)) {
            let (mut following, mut written) = (Following::default(), Vec::new());
            for cut in cuts {
                // A connection that begins at the offset and breaks after some bytes.
                let from = usize::try_from(following.offset()).unwrap();
                let piece = &text[from..text.len().min(from + cut)];
                let Step::Write(bytes, said) = following.take(output(from as u64, piece)) else { unreachable!() };
                prop_assert_eq!(said, None);
                written.extend(bytes);
            }
            prop_assert_eq!(&written[..], &text[..written.len()]);
        }

        #[test]
        fn no_status_panics(status in any::<i32>(), signal in any::<i32>()) {
            super::status(&End::Exited { status });
            super::status(&End::Signalled { signal });
        }
    }
}
