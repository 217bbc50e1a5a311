//! What hosts and relays say to each other before bytes pass as they are.
//!
//! | connection | host | relay |
//! |---|---|---|
//! | control | [`MAGIC`], [`CONTROL`] | a nonce, 16 bytes |
//! | | length u16, `RelayHello` in an envelope | [`ADMITTED`], or [`REFUSED`], length u8, reason |
//! | | [`PONG`] for each ping | any of [`PING`]; [`OPEN`], token, client's address; [`BYE`], reason; until the connection ends |
//! | data | [`MAGIC`], [`DATA`], token | the client's bytes |
//!
//! Little-endian. The control connection is not encrypted: nothing on it is secret for long (a token is good for one
//! connection, which whoever can read it here could cut as well), and what passes behind it is TLS up to the host.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of every connection of a host; the last one is the version.
pub(crate) const MAGIC: [u8; 8] = *b"DGRELAY1";
/// The connection is the host's control connection.
pub(crate) const CONTROL: u8 = 0;
/// The connection is for one client's bytes.
pub(crate) const DATA: u8 = 1;

/// The host is admitted.
pub(crate) const ADMITTED: u8 = 0;
/// The host is refused.
pub(crate) const REFUSED: u8 = 1;

/// Are you there?
pub(crate) const PING: u8 = 0;
/// Dial back with this token: 16 bytes, then the client's address as an IPv6 one (an IPv4 address is mapped). The host goes by
/// it to bound what one client may hold, so that no client of a relay can use up what all of them have.
pub(crate) const OPEN: u8 = 1;
/// Bytes of [`OPEN`] with what follows it.
pub(crate) const OPEN_LEN: usize = 1 + 16 + 16;
/// The relay ends the connection.
pub(crate) const BYE: u8 = 2;
/// I am here.
pub(crate) const PONG: u8 = 0;

/// Longest hello in bytes.
pub(crate) const MAX_HELLO: usize = 1_024;
/// Longest reason in bytes; longer ones are cut.
const MAX_REASON: usize = 200;

/// A client's address on the wire.
pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Names one client's connection, once.
pub(crate) type Token = [u8; 16];

/// A kind and a reason.
pub(crate) async fn write_reason(to: &mut (impl AsyncWrite + Unpin), kind: u8, reason: &str) -> io::Result<()> {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let text = &reason.as_bytes()[..end];
    // At most MAX_REASON, so it fits a byte.
    to.write_all(&[&[kind, text.len() as u8], text].concat()).await?;
    to.flush().await
}

/// The reason after its kind, as one line that is safe to log: it is another's text.
pub(crate) async fn read_reason(from: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut text = vec![0; usize::from(from.read_u8().await?)];
    from.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// A hello with its length.
pub(crate) async fn write_hello(to: &mut (impl AsyncWrite + Unpin), hello: &[u8]) -> io::Result<()> {
    let length = u16::try_from(hello.len()).map_err(|_| ErrorKind::InvalidInput)?;
    to.write_all(&[&length.to_le_bytes(), hello].concat()).await?;
    to.flush().await
}

/// A hello of at most [`MAX_HELLO`] bytes.
pub(crate) async fn read_hello(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::from(from.read_u16_le().await?);
    if length > MAX_HELLO {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a hello of {length} bytes, more than {MAX_HELLO}")));
    }
    let mut hello = vec![0; length];
    from.read_exact(&mut hello).await?;
    Ok(hello)
}
