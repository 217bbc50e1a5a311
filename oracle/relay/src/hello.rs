//! Reading the server name out of the first message of a TLS connection (RFC 8446, RFC 6066) without being part of it.

use thiserror::Error;

/// Most bytes read for a ClientHello, records' headers included.
pub const MAX_HELLO: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const RECORD_HEADER: usize = 5;
/// Longest record without encryption.
const MAX_RECORD: usize = 1 << 14;
const MAX_NAME: usize = 255;

/// Why a connection is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HelloError {
    /// The first byte is not that of a TLS handshake.
    #[error("this is not TLS: ask with https")]
    NotTls,
    /// The lengths in it contradict each other, or it is another message.
    #[error("this is not a valid ClientHello ({0})")]
    Malformed(&'static str),
    /// It does not fit.
    #[error("the ClientHello is longer than {MAX_HELLO} bytes")]
    TooLong,
    /// The client did not say whom it wants, as when it was given a bare address.
    #[error("the client names no server: ask by the name in the host's endpoint")]
    NoName,
}

/// A ClientHello as it arrives, in pieces of any size and in records of any size.
#[derive(Debug, Default)]
pub struct ClientHello {
    /// Everything received: what is passed on.
    raw: Vec<u8>,
    /// Where the next record begins in `raw`.
    next: usize,
    /// The records' contents.
    message: Vec<u8>,
}

impl ClientHello {
    /// Takes what arrived, `Some(name)` (lower case) once the whole message is there. Every byte is looked at once, however
    /// small the pieces are.
    ///
    /// # Errors
    /// [`HelloError`]; whatever comes after cannot change it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<String>, HelloError> {
        self.raw.extend_from_slice(bytes);
        while let Some(header) = self.raw.get(self.next..self.next + RECORD_HEADER) {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            match (header[0], header[1]) {
                (HANDSHAKE, 3) if (1..=MAX_RECORD).contains(&length) => {}
                (HANDSHAKE, 3) => return Err(HelloError::Malformed("a record's length")),
                _ if self.next == 0 => return Err(HelloError::NotTls),
                _ => return Err(HelloError::Malformed("a record's type")),
            }
            let body = self.next + RECORD_HEADER;
            // A hello that cannot fit is refused by what it announces, not when it has come.
            if body + length > MAX_HELLO {
                return Err(HelloError::TooLong);
            }
            let Some(content) = self.raw.get(body..body + length) else { break };
            self.message.extend_from_slice(content);
            self.next = body + length;
            if let &[kind, a, b, c, ..] = self.message.as_slice() {
                if kind != CLIENT_HELLO {
                    return Err(HelloError::Malformed("another message"));
                }
                let whole = 4 + usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(|_| HelloError::TooLong)?;
                if whole > MAX_HELLO {
                    return Err(HelloError::TooLong);
                }
                if let Some(message) = self.message.get(4..whole) {
                    return server_name(message).map(Some);
                }
            }
        }
        match self.raw.first() {
            Some(&first) if first != HANDSHAKE => Err(HelloError::NotTls),
            _ if self.raw.len() >= MAX_HELLO => Err(HelloError::TooLong),
            _ => Ok(None),
        }
    }

    /// Everything received so far, to be passed on as it is.
    pub fn into_bytes(self) -> Vec<u8> {
        self.raw
    }
}

/// The host name in a ClientHello's body.
fn server_name(body: &[u8]) -> Result<String, HelloError> {
    let mut rest = Bytes(body);
    // Version, random, session id, cipher suites, compression methods.
    rest.take(2 + 32, "it ends early")?;
    rest.vector(1, "the session id")?;
    rest.vector(2, "the cipher suites")?;
    rest.vector(1, "the compression methods")?;
    if rest.0.is_empty() {
        return Err(HelloError::NoName);
    }
    let mut extensions = rest.vector(2, "the extensions")?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2, "an extension")?;
        let mut extension = extensions.vector(2, "an extension")?;
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = extension.vector(2, "the server name")?;
        while !names.0.is_empty() {
            let kind = names.number(1, "the server name")?;
            let name = names.vector(2, "the server name")?.0;
            if kind != usize::from(HOST_NAME) {
                continue;
            }
            // DNS names only: letters, digits, hyphens, dots (RFC 6066); nothing else gets into logs.
            let fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(fine) {
                return Err(HelloError::Malformed("the server name"));
            }
            return Ok(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect());
        }
    }
    Err(HelloError::NoName)
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(HelloError::Malformed(what))?;
        self.0 = rest;
        Ok(taken)
    }

    /// A big-endian number of one or two bytes.
    fn number(&mut self, width: usize, what: &'static str) -> Result<usize, HelloError> {
        Ok(self.take(width, what)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Bytes with their count in front of them.
    fn vector(&mut self, width: usize, what: &'static str) -> Result<Bytes<'a>, HelloError> {
        let count = self.number(width, what)?;
        self.take(count, what).map(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use solana_pubkey::Pubkey;

    use super::*;

    /// What rustls sends to a host of this name (an address: without a name), as one record.
    fn hello(host: &str) -> Vec<u8> {
        let config = datagalax_service::tls::client(&Pubkey::default());
        let name = host.to_owned().try_into().unwrap();
        let mut bytes = Vec::new();
        rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<String>, HelloError> {
        ClientHello::default().push(bytes)
    }

    /// The same message in records of `size` bytes.
    fn fragmented(record: &[u8], size: usize) -> Vec<u8> {
        record[5..]
            .chunks(size)
            .flat_map(|chunk| [&[22, 3, 1], (chunk.len() as u16).to_be_bytes().as_slice(), chunk].concat())
            .collect()
    }

    #[test]
    fn a_real_hello_names_its_host() {
        assert_eq!(read(&hello("Some.Host.example")), Ok(Some("some.host.example".into())));
        assert_eq!(read(&hello("127.0.0.1")), Err(HelloError::NoName));
    }

    #[test]
    fn pieces_and_records_of_any_size_say_the_same() {
        let whole = hello("some.host.example");
        for size in [1, 2, 3, 7, 100, 1000] {
            let bytes = fragmented(&whole, size);
            let mut reader = ClientHello::default();
            for (at, byte) in bytes.iter().enumerate() {
                let name = reader.push(&[*byte]).unwrap();
                assert_eq!(name.is_some(), at + 1 == bytes.len(), "byte {at} of records of {size}");
            }
            assert_eq!(reader.into_bytes(), bytes, "all of it is passed on");
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        let good = hello("some.host.example");
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
        assert_eq!(read(b"G"), Err(HelloError::NotTls), "one byte is enough");
        assert_eq!(read(&changed(1, 2)), Err(HelloError::NotTls));
        assert_eq!(read(&[22, 3, 1, 0, 0]), Err(HelloError::Malformed("a record's length")));
        assert_eq!(read(&[22, 3, 1, 0x40, 1]), Err(HelloError::Malformed("a record's length")));
        assert_eq!(read(&changed(5, 2)), Err(HelloError::Malformed("another message")));
        // A message of 16 MB is refused by its announcement; a long record, too.
        assert_eq!(read(&changed(6, 0xff)), Err(HelloError::TooLong));
        assert_eq!(read(&[22, 3, 1, 0x40, 0]), Err(HelloError::TooLong));
        // A message a byte shorter than its parts say.
        let mut short = good.clone();
        short.pop();
        let length = (short.len() - 5) as u16;
        short[3..5].copy_from_slice(&length.to_be_bytes());
        short[6..9].copy_from_slice(&(u32::from(length) - 4).to_be_bytes()[1..]);
        assert!(matches!(read(&short), Err(HelloError::Malformed(_))));
        // A second record that is something else.
        let mut other = fragmented(&good, 50);
        other[55] = 21;
        assert_eq!(read(&other), Err(HelloError::Malformed("a record's type")));
        // Names that are none.
        let at = good.windows(4).position(|bytes| bytes == b"some").unwrap();
        assert_eq!(read(&changed(at, b'\n')), Err(HelloError::Malformed("the server name")));
    }

    #[test]
    fn endless_records_end() {
        let mut reader = ClientHello::default();
        let mut pushed = 0;
        let refused = loop {
            // One byte a record, of a message that claims 16,000 bytes.
            let byte = [1, 0, 62, 128].get(pushed / 6).copied().unwrap_or(0);
            pushed += 6;
            if let Err(error) = reader.push(&[22, 3, 1, 0, 1, byte]) {
                break error;
            }
        };
        assert_eq!(refused, HelloError::TooLong);
        assert!(pushed <= MAX_HELLO + 6, "{pushed}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            read(&bytes).ok();
        }

        /// Real hellos with bytes changed, cut or doubled: near what is valid is where parsers break.
        #[test]
        fn no_damage_panics(
            changes in proptest::collection::vec((0usize..400, any::<u8>()), 0..6),
            cut in 0usize..400,
            size in 1usize..300,
        ) {
            let mut bytes = hello("some.host.example");
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let bytes = if bytes[0] == 22 && size < 250 { fragmented(&bytes, size) } else { bytes };
            let end = bytes.len().saturating_sub(cut % 20);
            let at_once = read(&bytes[..end]);
            let mut reader = ClientHello::default();
            let in_pieces = bytes[..end].chunks(13).try_fold(None, |name, piece| match name {
                Some(name) => Ok(Some(name)),
                None => reader.push(piece),
            });
            prop_assert_eq!(at_once, in_pieces, "how it arrives changes nothing");
        }
    }
}
